"""The README is one page, and what the pages name is there."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
PAGES = sorted(path for pattern in ("*.md", "docs/**/*.md", "examples/**/*.md") for path in ROOT.glob(pattern))
LINES = 120
PICTURE_BYTES = 60_000


def links(text: str) -> list[str]:
    return re.findall(r"\]\(([^)\s]+)\)", text)


def test_it_is_one_page() -> None:
    assert len(README.read_text(encoding="utf-8").splitlines()) <= LINES


def test_it_says_what_a_newcomer_needs() -> None:
    """Two commands of a fresh clone, those of a user, three of the command, six lines of Python with their picture."""
    page = README.read_text(encoding="utf-8")
    console = "\n".join(re.findall(r"```console\n(.*?)```", page, re.DOTALL))
    assert re.search(r"^make demo\b", console, re.MULTILINE)
    assert re.search(r"^make test\b", console, re.MULTILINE)
    assert "pip install '.[run,weights]' && ssig demo --open" in console
    assert len(re.findall(r"^ssig ", console, re.MULTILINE)) == 3
    (python,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len([line for line in python.splitlines() if line]) == 6
    assert "docs/strip.webp" in links(page)
    assert (ROOT / "docs" / "strip.webp").stat().st_size <= PICTURE_BYTES


def test_it_says_where_the_method_loses() -> None:
    """The tables on the first page are those of the study, and so is every number beside them."""
    page = README.read_text(encoding="utf-8")
    pages = ("index.md", "tables.md")
    study = "".join((ROOT / "docs" / "study" / name).read_text(encoding="utf-8") for name in pages)
    (losses,) = re.findall(r"^## Where SSIG leads, and where it loses\n(.*?)^## ", page, re.DOTALL | re.MULTILINE)
    tables = re.findall(r"\n((?:\|.*\n)+)", losses.replace("(docs/study/index.md#", "(#"))
    assert len(tables) == 2
    assert all(f"\n{table}\n" in study for table in tables)
    numbers, known = (re.findall(r"\d\.\d{3}\b", text) for text in (losses, study))
    assert len(numbers) >= 10
    assert set(numbers) <= set(known)
    assert "*Losses.*" in losses
    results = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    rows = {line.split("|")[1].strip(" `"): line for line in results.splitlines() if line.startswith("| `")}
    gap = {name: float(line.split("|")[4].strip(" *")) for name, line in rows.items() if line.count("|") == 9}
    assert all(gap["ssig"] < gap[rival] for rival in ("guided-ig", "ig", "smoothgrad"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_link_and_every_file_that_a_page_names_is_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    paths = [link.partition("#")[0] for link in links(prose) if "://" not in link]
    assert [path for path in paths if path and not (page.parent / path).exists()] == []
    named = re.findall(r"`((?:ssig|pipeline|jobs|tests|docs|examples|deploy)/[\w./-]+)`", text)
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_one_command_makes_its_links_absolute(tmp_path: Path) -> None:
    """The command stands in CONTRIBUTING.md, for the day that the project has a web address."""
    copy = tmp_path / "README.md"
    copy.write_text(README.read_text(encoding="utf-8"), encoding="utf-8")
    contributing = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    (command,) = re.findall(r"^sed .*$", contributing, re.MULTILINE)
    subprocess.run(shlex.split(command.replace("ADDRESS", "https://host.example/ssig")), cwd=tmp_path, check=True)
    before, after = links(README.read_text(encoding="utf-8")), links(copy.read_text(encoding="utf-8"))
    assert after == [link if "://" in link else f"https://host.example/ssig/blob/main/{link}" for link in before]
