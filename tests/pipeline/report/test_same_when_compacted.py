"""Report, comparison, exports and pages of a run are the same, byte for byte, after its tables were compacted."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from browse_site import BASE, PORT, TOKEN, small_run
from starlette.testclient import TestClient

from pipeline.browse.database import Database
from pipeline.browse.index import ready_index
from pipeline.browse.series import Collection
from pipeline.browse.server import application
from pipeline.driver.added_metrics import add_metrics
from pipeline.job.configuration import load_evaluation
from pipeline.report import build_report
from pipeline.report.compare.contents import as_json, compare
from pipeline.report.export.writing import Wanted, export, opened
from pipeline.run.compaction import compact
from pipeline.run.directory import RunDirectory
from pipeline.run.lease import Lease
from pipeline.storage import open_storage
from pipeline.storage.folders import RECORD

Contents = Mapping[str, bytes]
ADDRESSES = (
    "/",
    "/?sort=insertion&versus=ig",
    "/sample?shard=one.tar&index=0",
    "/map?series=0&sample=0",
    "/map?series=1&sample=4",
    "/step?series=0&sample=2&metric=insertion&step=2",
    "/selection.csv",
    "/selection.tar",
)


@dataclass(frozen=True)
class Runs:
    """Two runs on the same images, the first as it was before compaction, and a folder for what is made of them."""

    first: Path
    second: Path
    plain: Path
    work: Path


def made(folder: Path) -> Contents:
    """The files of a folder."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }


def report(runs: Runs, _: Path) -> Contents:
    build_report(str(runs.first))
    return made(runs.first / "report")


def comparison(runs: Runs, _: Path) -> Contents:
    paths = str(runs.first), str(runs.second)
    both = {"A is compacted": paths, "B is compacted": paths[::-1]}
    return {name: json.dumps(as_json(*compare(pair)), sort_keys=True).encode() for name, pair in both.items()}


def exported(form: str, **options: bool) -> Callable[[Runs, Path], Contents]:
    def write(runs: Runs, folder: Path) -> Contents:
        export(opened(str(runs.first)), str(folder / "out"), Wanted(form, **options), len)
        return made(folder / "out")

    return write


def pages(runs: Runs, _: Path) -> Contents:
    collection = Collection([str(runs.first)])
    # One cache, as a user has: an index of the run as it was must not be taken for that of the run as it is.
    database = Database(ready_index(collection, runs.work / "cache").path, [str(runs.first)], seconds=10)
    client = TestClient(application(collection, database, TOKEN, PORT), base_url=BASE, follow_redirects=False)
    assert client.get(f"/?token={TOKEN}").status_code == 303
    answers = {address: client.get(address) for address in ADDRESSES}
    database.close()
    assert {answer.status_code for answer in answers.values()} == {200}
    return {address: answer.content for address, answer in answers.items()}


WAYS: Mapping[str, Callable[[Runs, Path], Contents]] = {
    "report": report,
    "compare": comparison,
    "parquet": exported("parquet"),
    "csv": exported("csv", wide=True),
    "latex": exported("latex"),
    "fiftyone": exported("fiftyone"),
    "browse": pages,
}


@pytest.fixture(scope="session")
def compacted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Runs, Mapping[str, Contents]]:
    """Runs of which the first, with an evaluation, is compacted; and all that was made of them before that."""
    folder = tmp_path_factory.mktemp("compacted")
    for name in ("first", "second", "before"):
        (folder / name).mkdir()
    first = small_run(folder / "first", [{"name": "ssig", "samples": 4}, {"name": "ig", "steps": 2}])
    second = small_run(folder / "second", [{"name": "ssig", "samples": 2}, {"name": "ig", "steps": 3}])
    given = {"metrics": ["gini"], "trust": "networks:tiny", "actors.executor": "local"}
    assert add_metrics(str(first), load_evaluation(given)).exit_code == 3  # one image cannot be decoded
    runs = Runs(first, second, Path(shutil.copytree(first, folder / "plain" / "run")), folder)
    before = {}
    for way, make in WAYS.items():
        (folder / "before" / way).mkdir()
        before[way] = make(runs, folder / "before" / way)
    storage = open_storage(str(first))
    with Lease(storage) as lease:
        result = compact(RunDirectory(storage), lease)
    assert {(table.files, table.parts) for table in result.tables} == {(3, 1)}
    assert len(result.tables) == 6  # two labels, each with numbers, maps and an evaluation
    return runs, before


@pytest.mark.parametrize("way", WAYS)
def test_it_is_the_same_after_compaction(
    compacted: tuple[Runs, Mapping[str, Contents]], way: str, tmp_path: Path
) -> None:
    runs, before = compacted
    after = WAYS[way](runs, tmp_path)
    assert after.keys() == before[way].keys()
    assert [name for name, content in after.items() if content != before[way][name]] == []


@pytest.mark.slow
def test_figures_are_the_same_after_compaction(compacted: tuple[Runs, Mapping[str, Contents]], tmp_path: Path) -> None:
    runs, _ = compacted
    figures = []
    for number, run in enumerate((runs.plain, runs.first)):
        export(opened(str(run)), str(tmp_path / str(number)), Wanted("figures", samples=("a",)), len)
        figures.append({name: data for name, data in made(tmp_path / str(number)).items() if name != RECORD})
    assert figures[0] == figures[1]
    assert {"maps-1-a.svg", "captions.md"} <= figures[0].keys()
