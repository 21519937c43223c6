"""What is told of a job's network before any work, what a job may state of its input, and that evaluations keep it."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest

from pipeline.driver.added_metrics import _model
from pipeline.driver.networks import load_network
from pipeline.driver.progress import Progress, silent
from pipeline.job.configuration import load_evaluation, load_job
from pipeline.run.labels import Label
from pipeline.storage import open_storage
from ssig.errors import UsageError
from ssig.models import load_model

BASE = {"dataset.shards": ["a.tar"], "output.path": "out"}

SOURCE = """
from networks import Tiny
def softmax():
    class Ends(Tiny):
        def forward(self, points):
            return super().forward(points).softmax(1)
    return Ends()
"""


def told(name: str, **stated: Any) -> list[str]:
    heard: list[str] = []

    def listener(progress: Progress, message: str | None) -> None:
        if message is not None:
            heard.append(message)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_network(name, None, "fp32", listener, Progress(), **stated)
    return heard


def test_the_input_and_each_warning_is_told_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "told_networks.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path)
    line = (
        "network input: 32 x 32, resize 36 bilinear, centre crop; mean 0.5, 0.5, 0.5, std 0.25, 0.25, 0.25; source: "
    )
    assert told("networks:tiny") == [f"{line}attributes of networks:tiny"]
    heard = told("told_networks:softmax", mean=(123.0, 117.0, 104.0))
    assert heard[0].startswith("network input: 32 x 32")
    assert "source: the job, else attributes" in heard[0]
    assert [text.split(":")[1].strip() for text in heard[1:]] == [
        "mean is outside [0, 1]",
        "outputs are non-negative and sum to 1",
    ]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, {"mean": None, "std": None, "input": None}),
        ({"model.mean": [0.5, 0.5, 0.5]}, {"mean": (0.5, 0.5, 0.5), "std": None, "input": None}),
        ({"model.input": 96}, {"mean": None, "std": None, "input": {"size": 96}}),
        ({"model.input": [96, 64]}, {"mean": None, "std": None, "input": {"size": (96, 64)}}),
        (
            {"model.input.resize": 256, "model.input.crop": "squash", "model.input.interpolation": "bicubic"},
            {"mean": None, "std": None, "input": {"resize": 256, "crop": "squash", "interpolation": "bicubic"}},
        ),
    ],
)
def test_a_job_states_the_input(given: dict[str, Any], expected: dict[str, Any]) -> None:
    assert load_job(None, {**BASE, **given}).model.input_options == expected


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"model.mean": [0.5, 0.5]}, "model.mean"),
        ({"model.std": [0.5, 0.5, 0.0]}, "model.std.2"),
        ({"model.input.sise": 3}, "model.input.sise"),
        ({"model.input.size": 0}, "model.input.size"),
        ({"model.input.crop": "corner"}, "model.input.crop"),
        ({"model.input.interpolation": "cubic"}, "model.input.interpolation"),
    ],
)
def test_a_wrong_statement_is_named(given: dict[str, Any], field: str) -> None:
    with pytest.raises(UsageError) as caught:
        load_job(None, {**BASE, **given})
    assert caught.value.field.startswith(field)


def test_an_evaluation_takes_the_input_of_its_run(tmp_path: Path) -> None:
    job = load_job(None, {**BASE, "model.mean": [0.1, 0.2, 0.3], "model.input.resize": 40})
    of_run = load_model("networks:tiny", **job.model.input_options)
    recorded = {
        **{"name": of_run.name, "weights": None, "weights_hash": of_run.weights_hash, "precision": "fp32"},
        **{"geometry": of_run.geometry.as_dict(), "stated": job.model.input_options},
    }
    evaluation = load_evaluation({"metrics": ["energy"], "trust": "networks:tiny"})
    label = Label("tiny", "ig", {"model": recorded})
    model = _model(open_storage(str(tmp_path)), label, evaluation, silent, Progress())
    assert (model.weights_hash, model.geometry) == (of_run.weights_hash, of_run.geometry)
    assert model.weights_hash != load_model("networks:tiny").weights_hash
