"""What is done to a compacted run afterwards: resumed, added to, evaluated, tried again, reported, exported."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest
from tests_shards import members

from pipeline.checks.audit import audit
from pipeline.driver import compacting
from pipeline.driver.added_metrics import add_metrics
from pipeline.driver.attribute import attribute
from pipeline.job.configuration import load_evaluation
from pipeline.report import build_report
from pipeline.run.compaction import compact
from pipeline.run.directory import RunDirectory
from pipeline.run.lease import Lease
from pipeline.run.publishing import DamagedTableError
from pipeline.run.reader import open_run
from pipeline.storage import fault_points, open_storage
from pipeline.unit.committing import UnitFiles
from pipeline.unit.messages import Task

Make = Callable[..., Any]
SMALL = {"methods": ["gradient"], "metrics": ["roc_auc"], "actors__executor": "local"}


def keys(run: Path | str, table: str = "metrics") -> Counter[tuple[str, str]]:
    return Counter(duckdb.sql(f"select method, key from '{run}/{table}/**/*.parquet'").fetchall())


def files(run: Path | str, table: str = "metrics") -> dict[str, list[str]]:
    """Method -> the files of a table."""
    return {
        folder.name.partition("=")[2]: sorted(file.name for file in folder.iterdir())
        for folder in Path(run).glob(f"{table}/*/*")
    }


def expected(count: int, *methods: str) -> Counter[tuple[str, str]]:
    return Counter((method, f"image{number:04d}") for method in methods for number in range(count))


def evaluation(*metrics: Any) -> Any:
    small = {"actors.executor": "local", "actors.num_cpus": 1, "actors.num_gpus": 0, "actors.micro_batch": 4}
    return load_evaluation({"metrics": list(metrics), **small})


def test_a_run_ends_compacted_and_takes_a_label_and_an_evaluation(
    make_shard: Make, make_job: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compacting, "FEW_UNITS", 1)
    shard = make_shard(count=10)
    run = attribute(make_job(shard, **SMALL)).run
    assert files(run) == {"gradient": ["part-000000.parquet"]}
    assert len(files(run, "attributions")["gradient"]) == 3
    again = attribute(make_job(shard, **SMALL))
    assert (again.exit_code, again.units_to_do) == (0, 0)
    both = make_job(shard, **{**SMALL, "methods": ["gradient", "gradient-x-input"]}, output__compact="all")
    added = attribute(both)
    assert (added.exit_code, added.units_to_do) == (0, 3)
    for table in ("metrics", "attributions"):
        assert files(run, table) == {name: ["part-000000.parquet"] for name in ("gradient", "gradient-x-input")}
        assert keys(run, table) == expected(10, "gradient", "gradient-x-input")
    assert add_metrics(run, evaluation("gini")).exit_code == 0
    assert set(map(tuple, files(run, "evaluations/gini").values())) == {("part-000000.parquet",)}
    assert keys(run, "evaluations/gini") == expected(10, "gradient", "gradient-x-input")
    assert audit(run).problems == []
    assert open_run(run).evaluation("gini").num_rows == 20
    assert Path(build_report(run)).is_file()
    (model,) = json.loads((Path(run) / "report" / "report.json").read_text())["models"]
    assert {row["name"] for row in model["columns"]} >= {"roc_auc", "gini"}


def test_failed_units_of_a_compacted_run_are_done_again(make_shard: Make, make_job: Make) -> None:
    shard = make_shard(files=members(0, 12, white=5))
    job = make_job(
        shard,
        **{**SMALL, "methods": ["gradient", "gradient-x-input"]},
        model__name="networks:raises_on_white",
        output__compact="all",
    )
    first = attribute(job)
    assert first.exit_code == 3
    assert set(map(tuple, files(first.run).values())) == {("part-000000.parquet",)}
    again = attribute(job, retry_failed=True)
    assert (again.units_to_do, again.exit_code) == (1, 3)
    assert keys(first.run) == expected(12, "gradient", "gradient-x-input")
    assert keys(first.run, "attributions") == keys(first.run)
    assert audit(first.run).problems == []
    assert all(names[-1] != "part-000000.parquet" for names in files(first.run).values())


class _Crash(BaseException):
    pass


@pytest.mark.parametrize(
    "point", ["after-take-back", "after-compaction-part", "after-compaction-record", "after-exchange"]
)
def test_trying_again_can_be_cut_off(
    make_shard: Make, make_job: Make, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    shard = make_shard(files=members(0, 12, white=5))
    job = make_job(shard, **SMALL, model__name="networks:raises_on_white", output__compact="all")
    run = attribute(job).run

    def hook(name: str, about: str) -> None:
        if name == point:
            raise _Crash

    monkeypatch.setattr(fault_points, "hook", hook)
    with pytest.raises(_Crash):
        attribute(job, retry_failed=True)
    monkeypatch.setattr(fault_points, "hook", None)
    assert not keys(run) - expected(12, "gradient")
    assert attribute(job).exit_code == 3
    assert keys(run) == keys(run, "attributions") == expected(12, "gradient")
    assert audit(run).problems == []


def test_the_same_command_finishes_a_compaction_that_was_cut_off(
    make_shard: Make, make_job: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = make_job(make_shard(count=10), **SMALL)
    run = attribute(job).run

    def hook(name: str, about: str) -> None:
        if name == "after-compaction-record":
            raise _Crash

    monkeypatch.setattr(fault_points, "hook", hook)
    directory = RunDirectory(open_storage(run))
    with Lease(directory.storage) as lease, pytest.raises(_Crash):
        compact(directory, lease)
    monkeypatch.setattr(fault_points, "hook", None)
    assert attribute(job).exit_code == 0
    assert audit(run).problems == []
    assert sorted(map(len, (files(run)["gradient"], files(run, "attributions")["gradient"]))) == [1, 3]


def test_a_job_can_forbid_it(make_shard: Make, make_job: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compacting, "FEW_UNITS", 1)
    run = attribute(make_job(make_shard(count=10), **SMALL, output__compact="none")).run
    assert len(files(run)["gradient"]) == 3
    assert not (Path(run) / "compactions").exists()


def test_an_old_attempt_cannot_put_a_unit_beside_its_part(
    make_shard: Make, make_job: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An attempt of an earlier driver that goes on after its unit was committed and compacted publishes nothing."""
    job = make_job(make_shard(count=10), **SMALL, output__compact="all")
    run = attribute(job).run
    before = keys(run)
    directory = RunDirectory(open_storage(run))
    (label,) = directory.labels
    unit = next(iter(directory.manifest.units()))
    rows = tuple(directory.manifest.rows(unit.id))
    name = label.attributions_name(unit.id)
    table = open_run(run).read(name)
    task = Task(unit.id, "", rows, (label.method,), "old")
    with pytest.raises(DamagedTableError, match="committed"):
        UnitFiles(directory.storage).publish_attributions(task, label, table)
    assert keys(run) == before
    assert audit(run).problems == []
