"""What the README and the pages promise is what the checkout holds."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

import symode
import symode.errors

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = sorted(
    page
    for folder in (ROOT, ROOT / "docs", ROOT / "docs" / "how_to", ROOT / "docs" / "reference")
    for page in folder.glob("*.md")
)
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_no_page_sends_a_reader_to_another_project_of_the_same_name(page: Path) -> None:
    assert not re.search(r"pip3? install[^\n`]*\bsymode\b(?!-adjoint)", page.read_text("utf-8"))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_relative_link_leads_to_a_file(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)", page.read_text("utf-8"))
    links += re.findall(r"```\{image\} (\S+)", page.read_text("utf-8"))
    missing = [x for x in links if "://" not in x and not (page.parent / x).exists()]
    assert not missing


@pytest.mark.parametrize("command", ["main-job", "tests"])
def test_readme_marks_the_commands_that_ci_runs(command: str) -> None:
    assert re.search(rf"<!-- ci: {command} -->\n```sh\npython3 -m venv [^\n]+\n```", README)


def test_readme_code_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib").use("Agg")
    monkeypatch.chdir(ROOT)
    (code,) = re.findall(r"```python\n(.*?)```", README, flags=re.S)
    names: dict[str, object] = {}
    exec(compile(code, "README.md", "exec"), names)
    assert "fit" in names


def test_the_package_and_its_metadata_tell_one_version() -> None:
    assert symode.__version__ == PROJECT["version"]


@pytest.mark.parametrize("name", [n for n in symode.__all__ if not n.startswith("__")])
def test_every_public_name_is_in_the_reference(name: str) -> None:
    reference = "\n".join(
        page.read_text("utf-8") for page in (ROOT / "docs" / "reference").glob("*.md")
    )
    of_errors = hasattr(symode.errors, name) and "automodule:: symode.errors" in reference
    assert of_errors or re.search(rf"auto\w+:: symode\.{name}\b", reference)
