"""What each label's configuration records: revisions that bind, and an order, a batch and columns that do not."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.checks.audit import audit
from pipeline.driver.added_metrics import _label, add_metrics
from pipeline.driver.admission import check_labels, job_labels
from pipeline.job.configuration import load_evaluation
from pipeline.report.provenance import provenance
from pipeline.run.directory import RunDirectory
from pipeline.run.labels import evaluation_label
from pipeline.run.reader import open_run
from pipeline.run.records import RefusedError
from pipeline.run.revisions import revisions_of
from pipeline.storage import open_storage
from ssig.models import PREPARATION_REVISION, load_model
from ssig.registry import METHODS, METRICS

Make = Callable[..., Any]


def configs(run: Path) -> dict[str, dict[str, Any]]:
    return {label.method: dict(label.config) for label in RunDirectory(open_storage(str(run))).labels}


def raise_revision(monkeypatch: pytest.MonkeyPatch, registry: Any, name: str) -> int:
    spec = registry[name]
    monkeypatch.setitem(registry._entries, name, replace(spec, revision=spec.revision + 1))
    return int(spec.revision)


def test_labels_keep_the_users_order_and_their_batch(make_shard: Make, make_job: Make, work_off: Make) -> None:
    shard = make_shard(count=2)
    run = work_off(make_job(shard, methods=["ig", "gradient"], metrics=["gini"]))
    work_off(make_job(shard, methods=["centre", "ig", "agi"], metrics=["gini"]))
    found = configs(run)
    order = sorted(found, key=lambda method: found[method]["position"])
    assert order == ["ig", "gradient", "centre", "agi"]
    batches = [found[method]["batch"] for method in order]
    assert batches[0] == batches[1] != batches[2] == batches[3]
    assert all(config["columns"] == ["gini"] for config in found.values())
    assert all(isinstance(config["warnings"], list) for config in found.values())
    assert audit(str(run)).ok


def test_a_network_is_recorded_with_all_that_changes_its_results(
    make_shard: Make, make_job: Make, work_off: Make
) -> None:
    run = work_off(make_job(make_shard(count=1), methods=["gradient"], metrics=[]))
    model = configs(run)["gradient"]["model"]
    assert (model["mean"], model["std"]) == ([0.5] * 3, [0.25] * 3)
    assert model["geometry"]["crop"] == model["input_size"] == [32, 32]
    assert model["stated"] == {}


def test_an_evaluation_loads_the_network_with_what_the_job_states(
    make_shard: Make, make_job: Make, work_off: Make
) -> None:
    stated = {"model__mean": [0.4, 0.5, 0.6], "model__input": {"resize": 40, "crop": "squash"}}
    run = work_off(make_job(make_shard(count=2), methods=["gradient"], metrics=[], **stated))
    config = configs(run)["gradient"]
    assert config["model"]["mean"] == pytest.approx([0.4, 0.5, 0.6])
    assert config["model"]["geometry"]["mode"] == "squash"
    assert "job" in config["input_source"]
    small = {"actors.executor": "local", "actors.num_gpus": 0}
    assert add_metrics(str(run), load_evaluation({"metrics": ["gini"], **small})).exit_code == 0
    (job,) = provenance(open_run(run), "networks:tiny").jobs
    assert {name: yaml.safe_load(job)["model"][name] for name in ("mean", "input")} == config["model"]["stated"]


def test_what_binds_nothing_is_outside_the_fingerprint(make_shard: Make, make_job: Make) -> None:
    shard, model = make_shard(count=1), load_model("networks:tiny")
    fields: dict[str, Any] = {"metrics": ["gini"]}
    first, second = job_labels(make_job(shard, methods=["ig", "gradient"], **fields), "hash", model)
    (alone,) = job_labels(make_job(shard, methods=["gradient"], **fields), "hash", model)
    assert alone.fingerprint == second.fingerprint != first.fingerprint
    assert (alone.config["position"], second.config["position"]) == (0, 1)


@pytest.mark.parametrize("kind", ["method", "metric", "preparation"])
def test_another_revision_is_another_fingerprint_and_does_not_go_on(
    make_shard: Make, make_job: Make, work_off: Make, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    shard = make_shard(count=2)
    job = make_job(shard, methods=["ig"], metrics=["gini"])
    run = work_off(job)
    recorded = configs(run)["ig"]
    assert recorded["revisions"] == {
        "method": METHODS["ig"].revision,
        "metrics": {"gini": METRICS["gini"].revision},
        "preparation": PREPARATION_REVISION,
    }
    model, directory = load_model("networks:tiny"), RunDirectory(open_storage(str(run)))
    if kind == "method":
        before, field = raise_revision(monkeypatch, METHODS, "ig"), r"revisions\.method"
    elif kind == "metric":
        before, field = raise_revision(monkeypatch, METRICS, "gini"), r"revisions\.metrics\.gini"
    else:
        before, field = PREPARATION_REVISION, r"revisions\.preparation"
        monkeypatch.setattr("pipeline.run.records.PREPARATION_REVISION", before + 1)
    labels = job_labels(job, recorded["dataset"], model)
    assert labels[0].fingerprint != recorded["fingerprint"]
    with pytest.raises(RefusedError, match=rf"{field}: recorded {before}, asked for {before + 1}"):
        check_labels(directory, labels)
    # Nor does a new label go on with the old one, or lie beside numbers that cannot be compared with its own.
    other = job_labels(make_job(shard, methods=["gradient"], metrics=["gini"]), {"manifest_hash": "hash"}, model)
    if kind == "method":
        assert [label.method for label in check_labels(directory, other)] == ["gradient"]
    else:
        with pytest.raises(RefusedError, match=rf"(preparation|gini\.revision): recorded {before}"):
            check_labels(directory, other)


def test_a_record_without_revisions_is_of_the_first() -> None:
    config = {"method": {"name": "ig"}, "metrics": {"gini": {}}}
    assert revisions_of(config) == {"method": 0, "metrics": {"gini": 0}, "preparation": 0}
    assert revisions_of({**config, "revisions": {"metrics": {"gini": 2}}})["metrics"] == {"gini": 2}


def test_an_option_that_came_up_later_does_not_keep_a_label_from_going_on(
    make_shard: Make, make_job: Make, work_off: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is gone on with under the value that it had when there was no choice, even where that is no default now."""
    job = make_job(make_shard(count=2), methods=["ig"], metrics=[{"name": "insertion", "steps": 4}])
    run = work_off(job)
    (path,) = (run / "config").glob("*.json")
    record = json.loads(path.read_text())
    del record["metrics"]["insertion"]["area"]
    path.write_text(json.dumps(record))
    directory = RunDirectory(open_storage(str(run)))
    asked = job_labels(job, record["dataset"], load_model("networks:tiny"))
    with pytest.raises(RefusedError, match=r"metrics\.insertion\.area: recorded nothing"):
        check_labels(directory, asked)
    monkeypatch.setattr("pipeline.run.earlier.BEFORE", {"methods": {}, "metrics": {"area": "fraction"}})
    (label,) = check_labels(directory, asked)
    assert label.config["metrics"]["insertion"]["area"] == "fraction"
    assert label.fingerprint == record["fingerprint"]


def test_all_tables_of_an_evaluation_have_the_same_columns(make_shard: Make, make_job: Make, work_off: Make) -> None:
    run = work_off(make_job(make_shard(count=1), methods=["gradient", "ig"], metrics=[]))
    first, second = RunDirectory(open_storage(str(run))).labels
    begun = _label(load_evaluation({"metrics": ["gini", "energy"], "name": "later"}), first)
    assert begun.config["columns"] == ["gini", "energy"]
    fewer = _label(load_evaluation({"metrics": ["energy"], "name": "later"}), second, [begun])
    assert fewer.config["columns"] == ["gini", "energy"]
    assert evaluation_label(second, fewer.config).config["metrics"].keys() == {"energy"}
    with pytest.raises(RefusedError, match=r"'later' has the metrics gini, energy, and entropy .*--name NEW"):
        _label(load_evaluation({"metrics": ["entropy"], "name": "later"}), second, [begun])
