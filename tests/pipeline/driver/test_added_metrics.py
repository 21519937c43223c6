"""Metrics that are added to a run: the numbers that the run itself would have got, resumed, refused, reported."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import polars as pl
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
import yaml
from tampering import in_earlier_form
from tests_shards import members

from jobs.commands.choices import choice
from pipeline.checks.audit import audit
from pipeline.checks.findings import Kind
from pipeline.checks.repair import repair
from pipeline.checks.status import status
from pipeline.driver.added_metrics import _label, _record, add_metrics
from pipeline.driver.attribute import attribute
from pipeline.job.configuration import load_evaluation
from pipeline.report.provenance import provenance
from pipeline.run.directory import RunDirectory
from pipeline.run.layout import config_name
from pipeline.run.reader import open_run
from pipeline.run.records import RefusedError
from pipeline.shards import manifest as manifests
from pipeline.shards.samples import Poison
from pipeline.storage import open_storage
from pipeline.unit.messages import Task
from pipeline.unit.worker import Worker
from ssig.acceleration.ready_replica import ready_replica
from ssig.errors import UsageError
from ssig.models import load_model

Make = Callable[..., Any]
INSERTION = {"name": "insertion", "steps": 4}


@pytest.fixture
def make_job(make_job: Make) -> Make:
    """A job that is done in this process."""
    return lambda *shards, **overrides: make_job(*shards, **{"actors__executor": "local", **overrides})


def evaluation(*metrics: Any, **fields: Any) -> Any:
    small = {"actors.executor": "local", "actors.num_cpus": 1, "actors.num_gpus": 0, "actors.micro_batch": 4}
    return load_evaluation({"metrics": list(metrics), **small, **fields})


def numbers(files: str) -> list[tuple[Any, ...]]:
    columns = "method, shard, index, status, insertion, insertion_abs, insertion_curve, roc_auc, excluded"
    return duckdb.sql(f"select {columns} from '{files}' order by 1, 2, 3").fetchall()


def times(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def test_added_metrics_are_those_of_the_run(make_shard: Make, make_job: Make, tmp_path: Path) -> None:
    shard, run = make_shard(count=6), tmp_path / "run"
    attribute(make_job(shard, metrics=["roc_auc"], output__path=str(run)))
    attribute(make_job(shard, metrics=[INSERTION, "roc_auc"], output__path=str(tmp_path / "whole")))
    before = {name: time for name, time in times(run).items() if "/report/" not in name and "/logs/" not in name}

    done = add_metrics(str(run), evaluation(INSERTION, "roc_auc", name="later"))
    assert (done.exit_code, done.units_to_do, done.units_done) == (0, 2, 2)
    assert done.statuses == {"ssig": {"ok": 6}, "ig": {"ok": 6}}
    added = run / "evaluations" / "later"
    assert numbers(f"{added}/model=*/**/*.parquet") == numbers(f"{tmp_path}/whole/metrics/**/*.parquet")
    assert {name: times(run)[name] for name in before} == before

    opened = open_run(run)
    assert opened.evaluation("later").num_rows == 12
    with pytest.raises(UsageError, match="later"):
        opened.evaluation("never")
    report = json.loads((run / "report" / "report.json").read_text())["models"][0]
    assert report["means"]["ssig"]["insertion"]["count"] == 6
    assert report["means"]["ssig"]["roc_auc@later"] == report["means"]["ssig"]["roc_auc"]
    assert {cost["metric"] for cost in report["costs"]} == {"insertion@later", "roc_auc", "roc_auc@later"}
    assert "roc_auc@later" in (run / "report" / "report.md").read_text().replace("\\", "")

    again = add_metrics(str(run), evaluation(INSERTION, "roc_auc", name="later"))
    assert (again.exit_code, again.units_to_do) == (0, 0)
    lost = next((run / "evaluation-records" / "later" / "commits").glob("batch=*/*.json"))
    lost.unlink()
    resumed = add_metrics(str(run), evaluation(INSERTION, "roc_auc", name="later"))
    assert (resumed.exit_code, resumed.units_done) == (0, 1)
    assert lost.exists()
    examined = audit(str(run))
    assert examined.problems == []
    assert examined.statuses["networks:tiny / ig / evaluation later"] == {"ok": 6}
    assert [label.evaluation for label in status(str(run)).labels] == [None, None, "later", "later"]
    (added / "stray.txt").write_text("?")
    assert [finding.kind for finding in audit(str(run)).findings] == [Kind.FOREIGN]
    (added / "stray.txt").unlink()
    table = max(added.glob("model=*/method=ig/*.parquet"))
    table.write_bytes(table.read_bytes()[:-9])
    assert [finding.kind for finding in audit(str(run)).findings] == [Kind.DAMAGED, Kind.UNFINISHED]
    mended = repair(str(run))
    assert (len(mended.done), table.exists()) == (1, False)
    assert add_metrics(str(run), evaluation(INSERTION, "roc_auc", name="later")).units_done == 1
    assert audit(str(run)).ok

    with pytest.raises(RefusedError, match=r"metrics\.insertion\.steps: recorded 4, asked for 5"):
        add_metrics(str(run), evaluation({"name": "insertion", "steps": 5}, "roc_auc", name="later"))

    # A map that is not the committed one is not measured.
    damaged = max((run / "attributions").rglob("method=ig/*.parquet"))
    pq.write_table(pq.read_table(damaged), damaged, compression="none")
    failed = add_metrics(str(run), evaluation("energy", **{"methods": ["ig"]}))
    assert failed.exit_code == 1
    assert [reason for reason in failed.given_up.values() if "not the file that its commit names" in reason]
    assert failed.statuses == {"ig": {"ok": 4}}
    assert {finding.kind for finding in audit(str(run)).findings} == {Kind.DAMAGED, Kind.UNFINISHED}

    # What was measured of its unit goes with it: the new map may have other bytes.
    repair(str(run))
    commits = [path.relative_to(run) for path in run.rglob(f"*/{damaged.stem}.json")]
    assert {path.parent.name for path in commits} == {"method=ssig"}
    attribute(make_job(shard, metrics=["roc_auc"], output__path=str(run)))
    for metrics, name in (((INSERTION, "roc_auc"), "later"), (("energy",), "energy")):
        methods = {"methods": ["ig"]} if name == "energy" else {}
        assert add_metrics(str(run), evaluation(*metrics, name=name, **methods)).units_done == 1
    assert audit(str(run)).ok


def test_only_what_is_committed_is_evaluated(make_shard: Make, make_job: Make, tmp_path: Path) -> None:
    run = tmp_path / "run"
    attribute(make_job(make_shard(count=6), metrics=[]))
    in_earlier_form(run)
    next((run / "commits").rglob("method=ig/*.json")).unlink()
    told: list[str | None] = []
    summary = add_metrics(str(run), evaluation("energy"), lambda progress, message: told.append(message))
    assert (summary.exit_code, summary.units_done) == (1, 2)
    assert any("1 units of the run are not done" in message for message in told if message)
    found = sorted(path.parent.name for path in (run / "evaluation-records/energy/commits").rglob("*.json"))
    assert (len(found), found[0].partition("=")[0], found[1]) == (2, "batch", "method=ssig")
    report = json.loads((run / "report" / "report.json").read_text())["models"][0]
    (account,) = [row for row in report["accounts"] if row["column"] == "energy" and "ig" in row["methods"]]
    assert [reason for reason, _ in account["reasons"]] == ["unit not done"]


def test_an_evaluation_of_another_model_is_no_obstacle_to_doing_units_again(make_shard: Make, make_job: Make) -> None:
    shard = make_shard(files=members(0, 4, white=1))
    settings = {"methods": ["gradient"], "metrics": []}
    run = attribute(make_job(shard, **settings)).run
    assert add_metrics(run, evaluation("energy")).exit_code == 0
    job = make_job(shard, model__name="networks:gives_nan_on_white", **settings)
    for retry in (False, True):
        again = attribute(job, retry_failed=retry)
        assert (again.units_to_do, again.statuses) == (1, {"gradient": {"ok": 3, "nonfinite": 1}})
    assert audit(run).ok


def evaluate_here(run: Path, job: Any, poison: dict[int, Poison] | None = None) -> str:
    """Evaluates the one unit of a run of one label, without Ray; the pattern of the tables."""
    storage = open_storage(str(run))
    (base,) = RunDirectory(storage).labels
    label = _label(job, base, "together")
    storage.create(config_name(label.model, label.method, label.evaluation), json.dumps(_record(label)).encode())
    manifest = manifests.load(storage)
    (unit,) = manifest.units()
    worker = Worker(ready_replica(load_model("networks:tiny"), micro_batch=4), {label.method: label}, str(run), 0)
    task = Task(unit.id, manifest.shards[0].url, tuple(manifest.rows(unit.id)), (label.method,), "a", poison or {})
    worker.process(task)
    worker.close()
    return f"{run}/evaluations/{job.title}/model=*/**/*.parquet"


def test_a_sample_that_fails_in_an_evaluation_leaves_the_others_their_own_maps(
    make_shard: Make, make_job: Make, work_off: Make
) -> None:
    run = work_off(make_job(make_shard(count=6), methods=["gradient"], metrics=[], unit_size=8))
    metrics = ("energy", "gini", INSERTION)
    whole = evaluate_here(run, evaluation(*metrics, name="whole"))
    less = evaluate_here(run, evaluation(*metrics, name="less"), {1: Poison("the actor died")})
    columns = '"index", status, energy, gini, insertion'
    query = "select {} from '{}' order by 1"
    expected = duckdb.sql(query.format(columns, whole)).fetchall()
    found = duckdb.sql(query.format(columns, less)).fetchall()
    assert found[1] == (1, "quarantined", None, None, None)
    for one, other in zip(found[:1] + found[2:], expected[:1] + expected[2:], strict=True):
        assert one == pytest.approx(other, abs=1e-6)
    assert audit(str(run)).ok


def test_whole_tables_of_an_evaluation_without_a_commit_are_kept(
    make_shard: Make, make_job: Make, work_off: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = work_off(make_job(make_shard(count=4), metrics=[]))
    assert add_metrics(str(run), evaluation("energy", name="later")).exit_code == 0
    (commit,) = (run / "evaluation-records/later/commits").rglob("*.json")
    assert commit.parent.name.startswith("batch=")
    named = json.loads(commit.read_text())["files"]
    commit.unlink()
    monkeypatch.setattr(Worker, "do", None)  # no label is done again
    assert add_metrics(str(run), evaluation("energy", name="later")).units_done == 1
    assert json.loads(commit.read_text())["files"] == named
    assert audit(str(run)).problems == []


@pytest.mark.parametrize("name", ["config", "commits", "evaluations"])
def test_an_evaluation_may_have_any_name(make_shard: Make, make_job: Make, work_off: Make, name: str) -> None:
    run = work_off(make_job(make_shard(count=2), methods=["gradient"], metrics=[]))
    evaluate_here(run, evaluation("energy", name=name))
    assert audit(str(run)).problems == []
    assert open_run(run).evaluation(name).num_rows == 2
    for read in (pl.read_parquet, pd.read_parquet, pq.read_table, ds.dataset):
        found = read(str(run / "evaluations" / name))
        assert len(found.to_table() if read is ds.dataset else found) == 2
    (found,) = RunDirectory(open_storage(str(run))).evaluations
    assert found.evaluation == name


def test_one_column_is_measured_in_one_way(make_shard: Make, make_job: Make, work_off: Make) -> None:
    shard = make_shard(count=2)
    run = work_off(make_job(shard, methods=["gradient"], metrics=[INSERTION]))
    other = {**INSERTION, "steps": 2}
    with pytest.raises(
        RefusedError, match=r"label 'gradient' has the same metric.*\n  metrics\.insertion\.steps: .* 4, .* 2"
    ):
        work_off(make_job(shard, methods=["ig"], metrics=[other, "gini"]))
    evaluate_here(run, evaluation("gini", other, name="later"))
    work_off(make_job(shard, methods=["ig"], metrics=[INSERTION]))
    with pytest.raises(
        RefusedError, match=r"evaluation 'later' of method 'gradient'(?s:.*)steps: recorded 2, asked for 4"
    ):
        add_metrics(str(run), evaluation(INSERTION, name="later", methods=["ig"]))


def test_labels_of_one_model_are_of_one_network_and_target(make_shard: Make, make_job: Make, work_off: Make) -> None:
    shard = make_shard(count=2)
    run = work_off(make_job(shard, methods=["gradient"], metrics=[]))
    other = make_job(shard, methods=["ig"], metrics=[], model__target="predicted")
    with pytest.raises(
        RefusedError, match=r"another network, score or target(?s:.*)model\.target: recorded \"label\""
    ):
        work_off(other)
    with pytest.raises(RefusedError, match=r"model\.name: recorded \"networks:tiny\""):
        work_off(
            make_job(shard, methods=["ig"], model__name="networks:gives_nan_on_white", model__label="networks:tiny")
        )
    work_off(make_job(shard, methods=["ig"], metrics=[], model__target="predicted", model__label="predicted"))
    assert audit(str(run)).ok
    labels = RunDirectory(open_storage(str(run))).labels
    config = labels[0].config
    mixed = {**config, "method_label": "b", "model": {**config["model"], "target": 3}}
    (run / config_name("networks:tiny", "b")).write_text(json.dumps(mixed))
    with pytest.raises(UsageError, match="one network and one target"):
        add_metrics(str(run), evaluation("energy", model="networks:tiny"))


def test_the_report_says_how_to_repeat_what_was_added(make_shard: Make, make_job: Make, work_off: Make) -> None:
    shard = make_shard(count=2)
    run = work_off(make_job(shard, methods=["gradient"], metrics=["roc_auc"]))
    evaluate_here(run, evaluation("gini", INSERTION, name="la ter"))
    work_off(make_job(shard, methods=["ig"], metrics=["roc_auc"]))
    told = provenance(open_run(run), "networks:tiny")
    (command,) = told.evaluations
    words = shlex.split(command)
    assert words[:6] == ["ssig", "evaluate", "RUN", "--model", "networks:tiny", "--name"]
    assert words[6:9] == ["la ter", "--method", "gradient"]
    given = [choice("--metric", text) for option, text in zip(words[9::2], words[10::2], strict=True)]
    assert evaluation(*given, name="la ter") == evaluation("gini", INSERTION, name="la ter")
    jobs = [yaml.safe_load(job) for job in told.jobs]
    assert [(job["output"]["maps"], [one["label"] for one in job["methods"]]) for job in jobs] == [
        ("float16", ["gradient", "ig"]),
    ]


def test_nothing_is_proven_of_an_evaluation_that_has_not_begun(
    make_shard: Make, make_job: Make, work_off: Make
) -> None:
    """Whether the network or a metric fails for every image is not told by units that nobody has evaluated yet."""
    run = work_off(make_job(make_shard(count=6), methods=["gradient", "ig"], metrics=[], unit_size=2), limit=2)
    directory = RunDirectory(open_storage(str(run)))
    assert directory.proven(directory.labels) == {"gradient", "ig"}
    assert directory.proven([_label(evaluation("gini"), base, "together") for base in directory.labels]) == set()


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_completeness_is_that_of_the_run(make_shard: Make, make_job: Make, work_off: Make, tmp_path: Path) -> None:
    shard, run = make_shard(count=6), tmp_path / "run"
    work_off(make_job(shard, metrics=[], output__path=str(run)))
    work_off(make_job(shard, metrics=["completeness"], output__path=str(tmp_path / "whole")))
    assert add_metrics(str(run), evaluation("completeness", **{"actors.executor": "ray"})).exit_code == 0
    columns = "method, shard, index, completeness, completeness_relative, excluded"
    later, own = (
        duckdb.sql(f"select {columns} from '{files}' order by 1, 2, 3").fetchall()
        for files in (f"{run}/evaluations/completeness/model=*/**/*.parquet", f"{tmp_path}/whole/metrics/**/*.parquet")
    )
    assert later == own
    assert sum(row[3] is not None for row in own) >= 6


def test_values_of_channels_are_evaluated_as_in_the_run(make_shard: Make, make_job: Make, tmp_path: Path) -> None:
    shard, whole, later = make_shard(count=4), tmp_path / "whole", tmp_path / "later"
    asked = {"name": "diffid_channels", "orders": "signed"}
    attribute(make_job(shard, metrics=[asked], output__channels=True, output__path=str(whole)))
    attribute(make_job(shard, metrics=[], output__channels=True, output__path=str(later)))
    add_metrics(str(later), evaluation(asked))
    own, added = (
        duckdb.sql(f"select method, index, diffid_channels from '{files}' order by 1, 2").fetchall()
        for files in (f"{whole}/metrics/**/*.parquet", f"{later}/evaluations/**/*.parquet")
    )
    assert len(own) == 8
    assert [row[:2] for row in added] == [row[:2] for row in own]
    # The maps are computed twice: rounding may turn a decision, which is a ninth.
    assert [row[2] for row in added] == pytest.approx([row[2] for row in own], abs=0.12)


@pytest.mark.parametrize(
    ("metrics", "fields", "named"),
    [
        ([], {}, "metrics"),
        (["no-such"], {}, "no-such"),
        (["energy", "energy"], {}, "each metric once"),
        (["mprt"], {}, "needs the method"),
        (["alignment"], {}, "needs the samples"),
        (["energy"], {"actors.maximum": 3}, "maximum"),
        ([{"name": "insertion", "stepz": 3}], {}, "stepz"),
    ],
)
def test_what_cannot_be_evaluated_is_refused(metrics: list[Any], fields: dict[str, Any], named: str) -> None:
    with pytest.raises(UsageError, match=named):
        load_evaluation({"metrics": metrics, **fields})


def test_a_run_that_cannot_be_evaluated_is_refused(make_shard: Make, make_job: Make, work_off: Make) -> None:
    shard = make_shard(count=2)
    run = work_off(make_job(shard, output__maps="none"))
    with pytest.raises(UsageError, match=r"output\.maps"):
        add_metrics(str(run), evaluation("energy"))
    maps_alone = work_off(make_job(shard, output__path=str(run.parent / "maps")))
    with pytest.raises(UsageError, match=r"diffid_channels.*output\.channels is true, and label 'ig'"):
        add_metrics(str(maps_alone), evaluation("diffid_channels"))
    for field, value in (("methods", ["agi"]), ("model", "another")):
        with pytest.raises(UsageError, match=str(value if isinstance(value, str) else value[0])):
            add_metrics(str(run), evaluation("energy", **{field: value}))
    with pytest.raises(UsageError, match=r"run\.json"):
        add_metrics(str(run.parent), evaluation("energy"))
