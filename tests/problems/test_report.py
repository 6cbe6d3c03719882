"""The page of a fit: complete, self-contained, and readable on a phone."""

from __future__ import annotations

import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest
import sympy as sp

import symode
from symode.errors import OptionError

CHROMIUM = (
    shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
)
X, K, X0, S = sp.symbols("x k x0 <s>")


@pytest.fixture(scope="module")
def fit() -> symode.Fit:
    pytest.importorskip("matplotlib").use("Agg")
    model = symode.Model({X: -K * X / (1 + X)}, parameters=[K, X0, S], initial={X: X0})
    data = symode.Data([0, 1, 2, 3], {"x": [2.1, 0.97, 0.51, 0.24]}, units={"x": "mg/l"})
    problem = symode.Problem(model, data, symode.LogNormal(S), scale="log10")
    return symode.fit(problem, starts=3, seed=1, workers=1)


@pytest.fixture(scope="module")
def page(fit, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("report") / "fit.html"
    fit.report(path, profiles=fit.profiles(workers=1), title="Decay <b>")
    return path


def test_the_page_holds_what_was_found(fit, page) -> None:
    text = page.read_text(encoding="utf-8")
    assert "Decay &lt;b&gt;" in text and "&lt;s&gt;" in text and "<s>" not in text
    assert f"{float(fit.theta['k']):.6g}" in text
    assert text.count("<svg") == 6 and "<math" in text
    assert f"<td>{fit.seed}</td>" in text and symode.__version__ in text
    assert "mg/l" not in re.sub(r"<svg.*?</svg>", "", text, flags=re.S)


def test_nothing_is_loaded_from_outside_and_ids_are_unique(page) -> None:
    text = page.read_text(encoding="utf-8")
    ids: list[str] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list) -> None:
            for name, value in attrs:
                if name in ("src", "href", "xlink:href"):
                    assert value.startswith(("#", "data:")), (tag, value)
                if name == "id":
                    ids.append(value)

    Reader().feed(text)
    assert "<script" not in text and "@import" not in text
    assert len(ids) == len(set(ids))


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium to open the page in")
def test_a_browser_opens_it_without_error_and_without_scrolling_sideways(page, tmp_path) -> None:
    # The width of the content, asked from inside a frame of a phone's width.
    probe = tmp_path / "probe.html"
    content = page.read_text(encoding="utf-8").replace("&", "&amp;").replace("'", "&#39;")
    probe.write_text(
        "<iframe id=f style='width:390px;height:800px;border:0' "
        f"srcdoc='{content}'></iframe>"
        "<script>f.onload=()=>{let d=f.contentDocument.documentElement;"
        "document.title=d.scrollWidth+' '+d.clientWidth}</script>",
        encoding="utf-8",
    )
    done = subprocess.run(
        [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr",
         f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=4000", "--dump-dom",
         probe.as_uri()],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    assert "CONSOLE" not in done.stderr
    found = re.search(r"<title>(\d+) (\d+)</title>", done.stdout)
    assert found is not None
    # The frame's scroll bar takes some of the 390 pixels.
    assert 360 <= int(found[2]) <= 390 and int(found[1]) <= int(found[2])


def test_a_file_that_cannot_be_written_is_named(fit, tmp_path) -> None:
    with pytest.raises(OptionError, match="could not be written"):
        fit.report(tmp_path / "no" / "folder.html")
