"""The notebooks of examples/: stored without results, and each runs from its first cell to its last."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "support"))
NOTEBOOKS = ROOT / "examples" / "notebooks"
NAMES = ("compare-methods", "first-map", "query-run")


@pytest.fixture(scope="module")
def small_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six samples under two methods."""
    from small_runs import do_units
    from tests_shards import members, write_tar

    from pipeline.job.configuration import load_job

    folder = tmp_path_factory.mktemp("run")
    fields = {
        "dataset.shards": [str(write_tar(folder / "a.tar", members(0, 6)))],
        "model.name": "networks:tiny",
        "methods": ["gradient", {"name": "ig", "steps": 4}],
        "metrics": [{"name": "insertion", "steps": 4}, {"name": "deletion", "steps": 4}],
        "output.path": str(folder / "run"),
    }
    return do_units(load_job(None, fields))


def read(name: str) -> nbformat.NotebookNode:
    return nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)


def executed(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch, **variables: str) -> nbformat.NotebookNode:
    """A notebook after it was run in a folder; an error in a cell fails the test."""
    from nbclient import NotebookClient

    for variable in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR"):
        variables[variable] = str(folder / "jupyter")
    variables["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(ROOT / "tests" / "support")])
    for variable, value in variables.items():
        monkeypatch.setenv(variable, value)
    book = read(name)
    NotebookClient(book, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(folder)}}).execute()
    return book


def shown(book: nbformat.NotebookNode, kind: str) -> list[str]:
    """What its cells show of one kind, such as ``text/html``."""
    outputs = [output for cell in book.cells for output in cell.get("outputs", ())]
    return [output["data"][kind] for output in outputs if kind in output.get("data", {})]


def printed(book: nbformat.NotebookNode) -> str:
    outputs = [output for cell in book.cells for output in cell.get("outputs", ())]
    return "".join(output.get("text", "") for output in outputs)


def test_every_notebook_is_tested() -> None:
    assert sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb")) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_notebooks_are_stored_without_results_and_are_short(name: str) -> None:
    cells = read(name).cells
    code = [cell for cell in cells if cell.cell_type == "code"]
    assert all(cell.outputs == [] and cell.execution_count is None for cell in code)
    assert len(cells) <= 12
    for cell in code:
        compile(cell.source, name, "exec")
        assert max(len(line) for line in cell.source.splitlines()) <= 119


@pytest.mark.slow
def test_first_map(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    book = executed("first-map", tmp_path, monkeypatch)
    pages = shown(book, "text/html")
    assert len(pages) == 3
    assert pages[0].count("<img") == 3
    assert pages[1].count("<img") == 6
    assert "insertion" in pages[2]
    assert (tmp_path / "cat.png").exists()


@pytest.mark.data
@pytest.mark.slow
def test_compare_methods(dev_shards: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    book = executed("compare-methods", tmp_path, monkeypatch, IMAGES=str(dev_shards[0].parent), COUNT="2")
    assert "2 images" in printed(book)
    assert printed(book).count("N = 2: ") == 3
    assert shown(book, "text/html")[0].count("<img") == 2 * 5


@pytest.mark.slow
def test_query_run(small_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    book = executed("query-run", tmp_path, monkeypatch, RUN=str(small_run))
    assert shown(book, "image/png")
