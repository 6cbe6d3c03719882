"""The page of a report: one file, nothing loaded, no error, readable on a telephone."""

import http.server
import re
import shutil
import subprocess
import threading
from functools import partial
from html.parser import HTMLParser

import pytest
from cases import DRIVEN

import symode
from symode.gradients.verify.plots import remainder_plot
from symode.gradients.verify.report import Check, Curve, Entry, Report

MODEL, LOSS, SPAN, THETA = DRIVEN
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "chrome"))), None)
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")
VOID = {"meta", "link", "br"}


@pytest.fixture(scope="module")
def report():
    return symode.verify(
        MODEL, LOSS, SPAN, THETA, checks=["proof", "taylor", "ends"], claimed=[1.0, 2.0],
        reference_digits=0,
    )  # fmt: skip


@pytest.fixture(scope="module")
def text(report) -> str:
    return report.html()


def test_every_tag_is_closed_in_order(text):
    stack = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag, attributes):
            if tag not in VOID:
                stack.append(tag)

        def handle_startendtag(self, tag, attributes):
            """Closes itself."""

        def handle_endtag(self, tag):
            assert stack.pop() == tag

    Reader().feed(text)
    assert not stack


def test_nothing_is_loaded_from_outside(text):
    addresses = re.findall(r"""(?:src|href|url)\s*[=(]\s*["']?([^"')\s>]+)""", text)
    assert set(addresses) <= {"data:,"}
    assert "<script" not in text and "@import" not in text


def test_names_of_the_user_are_escaped():
    check = Check("taylor", True, 3.0, "consistency", "<b>&", ("<i>",))
    entry = Entry("<x>", 1.0, 3.0, "a & b")
    text = Report("<title>\nJ = 1", 1.0, (check,), (entry,), ("<cause>",)).html()
    for raw in ("<b>&", "<i>", "<x>", "<title>\n", "<cause>"):
        assert raw not in text
    assert "&lt;cause&gt;" in text


def test_the_page_shows_plot_digits_verdict_and_derivation(text, report):
    for words in ("<svg", "<math", "Verdict: FAILED (claimed)", "<meter", "Likely cause"):
        assert words in text
    assert all(f"<td>{entry.name}</td>" in text for entry in report.entries)


def test_the_guide_of_a_plot_has_the_slope_of_theory():
    points = tuple(10.0**-k for k in range(1, 7))
    svg = remainder_plot([Curve("c", points, tuple(e**2 for e in points))], "t")
    ends = re.search(r'class="guide" x1="([\d.]+)" y1="([\d.]+)" x2="([\d.]+)" y2="([\d.]+)"', svg)
    x1, y1, x2, y2 = map(float, ends.groups())
    line = re.search(r'points="([^"]+)"', svg).group(1).split()
    (a, b), (c, d) = (map(float, line[k].split(",")) for k in (0, -1))
    # The remainders lie on it: same slope in pixels.
    assert (y2 - y1) / (x2 - x1) == pytest.approx((d - b) / (c - a), rel=0.02)


PROBE = """
<iframe id="f" src="page.html" style="width:390px;height:800px;border:0"></iframe>
<script>
const errors = [];
document.getElementById("f").addEventListener("load", event => {
  const inner = event.target.contentDocument.documentElement;
  const loads = event.target.contentWindow.performance.getEntriesByType("resource").length;
  document.title = "width " + inner.scrollWidth + " loads " + loads;
});
</script>
"""


@needs_chromium
def test_chromium_shows_it_without_error_load_or_sideways_scroll(text, tmp_path):
    (tmp_path / "page.html").write_text(text, encoding="utf-8")
    (tmp_path / "probe.html").write_text(f"<!DOCTYPE html><title>x</title>{PROBE}")
    asked = []

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, form, *arguments):
            asked.append(self.path)

    handler = partial(Quiet, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        done = subprocess.run(
            [CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr",
             f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=4000", "--dump-dom",
             f"http://127.0.0.1:{server.server_address[1]}/probe.html"],
            capture_output=True, text=True, timeout=180, check=True,
        )  # fmt: skip
        server.shutdown()
    width, loads = re.search(r"width (\d+) loads (\d+)", done.stdout).groups()
    assert int(width) <= 390
    assert int(loads) == 0
    assert set(asked) <= {"/probe.html", "/page.html", "/favicon.ico"}
    assert "CONSOLE" not in done.stderr
