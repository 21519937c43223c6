"""Methods and metrics that a job names by file: whose word is taken, what is recorded, what is refused."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from pipeline.job.choices import descriptions, method_config, metrics_config
from pipeline.job.configuration import load_evaluation, load_job
from pipeline.run.described import FOREIGN, known_metric, origin_of
from ssig.errors import UsageError
from ssig.registry import METHODS, METRICS

CODE = """
import pathlib
pathlib.Path({marker!r}).write_text("ran")
def mine(model, images, targets, baselines, factor: int = 2):
    "Mine."
    return images
def share(maps, top: float = 0.5):
    "A share."
    return maps.mean((1, 2))
def seconds_share(maps):
    return maps.mean((1, 2))
"""


@pytest.fixture(autouse=True)
def adopted_of_this_test(monkeypatch: pytest.MonkeyPatch) -> None:
    for registry in (METHODS, METRICS):
        monkeypatch.setattr(registry, "_adopted", {})


@pytest.fixture
def code(tmp_path: Path) -> Path:
    path = tmp_path / "code" / "mine.py"
    path.parent.mkdir()
    path.write_text(CODE.format(marker=str(tmp_path / "marker")))
    return path


def job_file(folder: Path, **fields: Any) -> Path:
    import yaml

    path = folder / "job.yaml"
    path.write_text(yaml.safe_dump({"dataset": {"shards": ["a.tar"]}, "output": {"path": "run"}, **fields}))
    return path


def test_files_of_a_job_file_lie_beside_it(code: Path) -> None:
    path = job_file(
        code.parent,
        methods=["ig", {"name": "./mine.py:mine", "factor": 3}, {"name": "./mine.py:mine", "label": "other"}],
        metrics=["./mine.py:share", "gini"],
        model={"name": "./mine.py:network"},
    )
    job = load_job(path)
    assert [choice.title for choice in job.methods] == ["ig", "mine", "other"]
    assert job.methods[1].parsed().factor == 3
    assert job.methods[1].text == f"{code}:mine"
    assert (job.model_label, job.model.recorded_name, job.model.name) == (
        "network",
        "mine.py:network",
        f"{code}:network",
    )
    recorded = method_config(job.methods[1])
    assert recorded["name"] == "mine"
    assert recorded["evaluations"] is None
    assert recorded["origin"]["file"] == "mine.py"
    assert "origin" not in method_config(job.methods[0])
    assert metrics_config(job.metrics)["share"] == {"top": 0.5}

    config = {"metrics": metrics_config(job.metrics), FOREIGN: descriptions(job.metrics)}
    assert origin_of(config, "share") == recorded["origin"] | {"object": "share"}
    assert origin_of(config, "gini") is None
    read, spec = known_metric(config, "share"), METRICS["share"]
    assert (read.columns, read.definition, read.family) == (spec.columns, spec.definition, spec.family)
    assert known_metric(config, "gini") is METRICS["gini"]
    with pytest.raises(UsageError):
        known_metric({}, "share")  # adopted, and not by that run


def test_a_file_is_read_once_for_a_job(code: Path) -> None:
    job = load_job(job_file(code.parent, methods=["./mine.py:mine"]))
    before = job.methods[0].spec
    code.write_text("1 / 0")
    assert job.methods[0].spec is before


@pytest.mark.parametrize("field", ["methods", "metrics"])
def test_the_job_file_of_another_user_runs_no_file(
    code: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, field: str
) -> None:
    name = "./mine.py:mine" if field == "methods" else "./mine.py:share"
    path = job_file(code.parent, **{field: [name]})
    owner = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    with pytest.raises(UsageError, match=f"if you trust it, name it yourself: --{field[:-1]}"):
        load_job(path)
    assert not (tmp_path / "marker").exists()
    assert load_job(path, {field: [f"{code}:{name.rpartition(':')[2]}"]})
    assert (tmp_path / "marker").exists()


def test_no_file_of_a_run_is_run(code: Path, tmp_path: Path) -> None:
    given: dict[str, Any] = {"dataset.shards": ["a.tar"], "methods": [f"{code}:mine"]}
    with pytest.raises(UsageError, match="outside of every run"):
        load_job(None, {**given, "output.path": str(code.parent)})
    (code.parent / "run.json").write_text("{}")
    with pytest.raises(UsageError, match="outside of every run"):
        load_job(None, {**given, "output.path": str(tmp_path / "other")})
    with pytest.raises(UsageError, match="outside of every run"):
        load_job(None, {**given, "methods": ["ig"], "output.path": "x", "model.name": f"{code}:network"})
    assert not (tmp_path / "marker").exists()


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"methods": ["{code}:mine", {"name": "{other}:mine", "label": "other"}]}, "rename one"),
        ({"methods": ["{code}:mine", "{code}:mine"]}, "each label once"),
        ({"metrics": ["{code}:share", "{code}:share"]}, "each metric once"),
        ({"metrics": ["{code}:share", "{code}:seconds_share"]}, "seconds_share"),
        ({"methods": ["{code}:nothing"]}, "mine, share"),
        ({"methods": ["mine"]}, "ssig-signed"),
        ({"methods": [{"name": "{code}:mine", "facto": 1}]}, r"methods\.mine\.facto|factor"),
    ],
)
def test_names_that_clash_or_are_unknown_are_refused(
    code: Path, tmp_path: Path, fields: dict[str, Any], says: str
) -> None:
    other = tmp_path / "other.py"
    other.write_bytes(code.read_bytes())

    def filled(entry: Any) -> Any:
        if isinstance(entry, dict):
            return {key: filled(value) for key, value in entry.items()}
        return entry.format(code=code, other=other) if isinstance(entry, str) else entry

    given = {field: [filled(entry) for entry in entries] for field, entries in fields.items()}
    with pytest.raises(UsageError, match=says):
        load_job(None, {"dataset.shards": ["a.tar"], "output.path": "x", **given})


def test_an_evaluation_takes_metrics_of_files(code: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(code.parent)
    job = load_evaluation({"metrics": [{"name": "./mine.py:share", "top": 0.2}], "trust": "./mine.py:network"})
    assert job.metrics[0].parsed().top == 0.2
    assert job.title == "share"
    assert job.trust == f"{code}:network"


def test_forwards_are_recorded_of_methods_that_take_some(tmp_path: Path) -> None:
    job = load_job(job_file(tmp_path, methods=["ig", {"name": "rise", "samples": 9}]))
    assert "forwards" not in method_config(job.methods[0])  # whose fingerprint stays what it was
    recorded = method_config(job.methods[1])
    assert (recorded["evaluations"], recorded["forwards"]) == (0, 9)
