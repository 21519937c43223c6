"""Job files: defaults, overrides, paths, and errors that name the field."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline.job.configuration import load_job
from ssig.errors import UsageError

MINIMAL = {"dataset.shards": ["a.tar"], "output.path": "runs/a"}


def test_defaults(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    job = load_job(None, MINIMAL)
    assert job.dataset.shards == (str(tmp_path / "a.tar"),)
    assert job.output.path == str(tmp_path / "runs/a")
    assert [method.title for method in job.methods] == ["ssig"]
    assert (job.model.score, job.model.target, job.unit_size, job.seed, job.output.maps) == (
        "logit",
        "label",
        "auto",
        0,
        "float16",
    )
    assert job.model_label == "efficientnet-lite0"


def test_a_tilde_is_the_home_in_files_and_overrides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home, work = tmp_path / "home", tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    monkeypatch.setenv("HOME", str(home))
    file = work / "job.yaml"
    file.write_text("dataset: {shards: ['~/a.tar', b~.tar]}\nmodel: {weights: ~/w.pt}\noutput: {path: ~/runs/x}\n")
    job = load_job(file)
    assert job.dataset.shards == (str(home / "a.tar"), str(work / "b~.tar"))
    assert (job.model.weights, job.output.path) == (str(home / "w.pt"), str(home / "runs/x"))
    assert load_job(file, {"output.path": "~/y"}).output.path == str(home / "y")
    assert load_job(file, {"output.path": "~no-such-user/y"}).output.path == str(work / "~no-such-user/y")


def test_a_file_with_everything_and_overrides_on_top(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "jobs").mkdir()
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "jobs" / "job.yaml"
    file.write_text(
        """
dataset: {shards: ["../data/{00..03}.tar", "s3://bucket/x.tar"], limit: 10}
model: {name: timm:resnet18, weights: w.pt, precision: bf16, score: probability, target: 3, label: net}
methods: [ssig, {name: ig, steps: 16}, {name: ssig-signed, samples: 64, label: ssig-signed-64}]
metrics: [insertion, {name: deletion, steps: 14}]
output: {path: out, maps: float32}
actors: {min: 1, max: 4, num_gpus: 0.5, num_cpus: 2}
unit_size: 16
seed: 7
"""
    )
    job = load_job(file, {"output.path": "elsewhere", "dataset.limit": None})
    assert job.dataset.shards == (str(tmp_path / "data/{00..03}.tar"), "s3://bucket/x.tar")
    assert job.output.path == str(tmp_path / "elsewhere")
    assert job.model.weights == str(tmp_path / "jobs" / "w.pt")
    assert job.dataset.limit is None
    assert job.model_label == "net"
    assert [(m.title, m.options) for m in job.methods] == [
        ("ssig", {}),
        ("ig", {"steps": 16}),
        ("ssig-signed-64", {"samples": 64}),
    ]
    assert job.metrics[1].parsed().steps == 14


@pytest.mark.parametrize(
    ("change", "field", "allowed"),
    [
        ({"output.paths": "x"}, "output.paths", "path, maps, channels"),
        ({"sed": 1}, "sed", "dataset, model"),
        ({"seed": -1}, "seed", "a whole number from 0"),
        ({"unit_size": "many"}, "unit_size", "a whole number from 1 to 4096"),
        ({"output.maps": "int8"}, "output.maps", "one of none, float16"),
        ({"model.precision": "fp8"}, "model.precision", "fp16, bf16"),
        ({"model.target": "labels"}, "model.target", "label, predicted"),
        ({"methods": []}, "methods", "not empty"),
        ({"methods": ["ssigg"]}, "method", "`ssig methods`"),
        ({"methods": [{"steps": 3}]}, "methods.0.name", "text"),
        ({"methods": [{"name": "ig", "stepz": 3}]}, "methods.ig.stepz", "steps"),
        ({"methods": ["ig", {"name": "ig", "steps": 3}]}, "methods", "label"),
        ({"metrics": ["insertions"]}, "metric", "`ssig metrics`"),
        ({"metrics": [{"name": "insertion", "steps": 0}]}, "metrics.insertion.steps", "at least"),
        ({"metrics": ["diffid_channels"]}, "metrics", "--set output.channels=true"),
        ({"dataset.shards": []}, "dataset.shards", "not empty"),
        ({"actors.max": 0}, "actors.max", "at least 1"),
        ({"actors.unit_timeout": 0}, "actors.unit_timeout", "above 0"),
    ],
)
def test_errors_name_the_field_and_what_is_allowed(change: dict[str, Any], field: str, allowed: str) -> None:
    with pytest.raises(UsageError) as caught:
        load_job(None, {**MINIMAL, **change})
    assert caught.value.field == field
    assert allowed in caught.value.allowed


def test_missing_fields_are_named() -> None:
    with pytest.raises(UsageError, match=r"dataset"):
        load_job(None, {"output.path": "x"})
    with pytest.raises(UsageError, match=r"output"):
        load_job(None, {"dataset.shards": ["x"]})


@pytest.mark.parametrize(
    ("text", "allowed"),
    [(None, "existing"), ("a: [", "readable"), ("- 1", "mapping"), ("\x00", "readable"), ("1: 2", "mapping")],
)
def test_unreadable_files_are_named(tmp_path: Path, text: str | None, allowed: str) -> None:
    file = tmp_path / "job.yaml"
    if text is not None:
        file.write_text(text)
    with pytest.raises(UsageError, match=allowed):
        load_job(file)


def test_data_in_place_of_a_job_file_is_told_its_flag(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=rf"^job file: .*--images {tmp_path}, shards in it --shards '{tmp_path}/\*"):
        load_job(tmp_path)
    shard = tmp_path / "a.tar"
    shard.write_bytes(b"\0" * 1024)
    with pytest.raises(UsageError, match=rf"^job file: .*--shards {shard}"):
        load_job(shard)


def test_errors_of_a_file_name_the_file(tmp_path: Path) -> None:
    file = tmp_path / "job.yaml"
    file.write_text("dataset: {shards: [a.tar]}\noutput: {path: x, map: none}\n")
    with pytest.raises(UsageError, match=r"job\.yaml: output\.map"):
        load_job(file)
