"""`ssig paper` on a tiny network: the record, the figures, the page."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import pipeline.paper.measure
import ssig.acceleration.ready_replica
from pipeline.paper.figures import page
from pipeline.paper.measure import CERTAINTY, SAMPLERS, STRENGTHS, Settings, contenders, measure
from ssig.engine.device import Device
from ssig.engine.replica import Replica
from ssig.models import load_model
from ssig.registry import METHODS, METRICS

SUPPORT = Path(__file__).resolve().parents[2] / "support"
sys.path.insert(0, str(SUPPORT))

from command_line import Cli, Result, command_line  # noqa: E402
from tests_shards import members, write_tar  # noqa: E402

BROKEN = [("broken.jpg", b"no image"), ("broken.cls", b"1")]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Callable[..., Result]:
    """`run(*arguments)` on eight synthetic photographs and a broken file."""
    monkeypatch.syspath_prepend(str(SUPPORT))
    # Measuring the fastest micro-batch takes seconds, and what it finds is not the same every time.
    monkeypatch.setattr(
        ssig.acceleration.ready_replica,
        "ready_replica",
        partial(ssig.acceleration.ready_replica.ready_replica, micro_batch=8),
    )
    shard = write_tar(tmp_path / "a.tar", [*members(0, 8), *BROKEN])
    cli: Cli = command_line(monkeypatch, capsys, "paper")
    usual = ("--shards", shard, "--model", "networks:tiny", "--samples", 2, "--draws", 1, "--out", tmp_path / "out")
    return lambda *arguments: cli(*usual, *arguments)


def test_everything_is_compared_and_written(run: Callable[..., Result], tmp_path: Path) -> None:
    result = run("--json")
    assert result.code == 0
    record = json.loads(result.out)
    folder = tmp_path / "out"
    assert json.loads((folder / "claims.json").read_text()) == record
    assert record["images"] == 8
    assert record["failed"] == {"undecodable": 1}
    for name in ("certainty", "alignment", "saturation"):
        assert Image.open(folder / f"{name}.png").size[0] > 1000
        assert "<svg" in (folder / f"{name}.svg").read_text()
    assert_certainty(record)
    assert_alignment(record)
    assert_saturation(record)
    text = (folder / "claims.md").read_text()
    assert text.strip() == page(record)
    assert "8 images are few" in text
    # Every row of a table has as many cells as its header.
    tables = [block.splitlines() for block in text.split("\n\n") if block.startswith("|")]
    assert [len({line.count("|") for line in table}) for table in tables] == [1, 1, 1]


def assert_certainty(record: dict[str, Any]) -> None:
    lines = {line["name"]: line for line in record["certainty"]}
    assert list(lines) == [one.name for one in contenders(2)]
    for line in lines.values():
        assert all(line[column]["count"] == 8 for column in CERTAINTY)
        assert set(METRICS["certainty_nce"].dataset_columns) <= set(line)
        assert line["certainty_nce_images"] == 8
        assert line["certainty_nce_ceiling"] == pytest.approx(np.log(4))
    best = max(lines.values(), key=lambda line: float(line["certainty"]["mean"]))
    assert best["name"] == "sobel"
    assert lines["random"]["above_random"]["mean"] == 0
    assert lines["sobel"]["above_random"]["low"] > 0


def assert_alignment(record: dict[str, Any]) -> None:
    lines = {line["sampler"]: line for line in record["alignment"]}
    assert set(lines) == {*SAMPLERS, "identity"}
    assert abs(lines["identity"]["alignment_kid"]) < 1e-6
    assert lines["identity"]["alignment_frechet"] < 1e-4
    for sampler in SAMPLERS:
        assert lines[sampler]["alignment_images"] == 8
        assert lines[sampler]["alignment"]["mean"] > 0.01


def assert_saturation(record: dict[str, Any]) -> None:
    for law, strengths in STRENGTHS.items():
        lines = [line for line in record["saturation"] if line["law"] == law]
        assert [line["strength"] for line in lines] == list(strengths)
        changes = [line["change"]["mean"] for line in lines]
        assert changes == sorted(changes)
        assert lines[0]["relative_gradient"]["mean"] == pytest.approx(1)
        assert all(line["dead"]["mean"] is None for line in lines)  # the network has no ReLU


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    shard = str(write_tar(tmp_path / "a.tar", members(0, 5)))
    monkeypatch.syspath_prepend(str(SUPPORT))
    model = load_model("networks:tiny")
    device = Device(Replica(model, micro_batch=2))
    settings = Settings(samples=2, draws=1, target="label", features="logits")
    whole = measure(device, model, [shard], 5, settings)
    monkeypatch.setattr(pipeline.paper.measure, "CHUNK", 2)
    chunked = measure(device, model, [shard], 5, settings)
    device.close()
    assert whole["metrics"]["alignment"]["features"] == "logits"
    for name in ("certainty", "alignment", "saturation"):
        for one, other in zip(whole[name], chunked[name], strict=True):
            assert flat(one) == pytest.approx(flat(other), rel=1e-3, abs=1e-6)


def flat(line: dict[str, Any]) -> dict[str, Any]:
    """The numbers of a line."""
    numbers = {name: value.get("mean") if isinstance(value, dict) else value for name, value in line.items()}
    return {name: value for name, value in numbers.items() if isinstance(value, float)}


@pytest.mark.parametrize(("option", "value"), [("--target", "17"), ("--features", "pixels")])
def test_wrong_use_names_the_option(run: Callable[..., Result], option: str, value: str) -> None:
    result = run(option, value)
    assert result.code == 2
    assert option in result.err


def test_shards_without_an_image_are_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.syspath_prepend(str(SUPPORT))
    shard = write_tar(tmp_path / "b.tar", BROKEN)
    cli = command_line(monkeypatch, capsys, "paper")
    result = cli("--shards", shard, "--model", "networks:tiny", "--out", tmp_path / "out")
    assert result.code == 2
    assert "undecodable" in result.err


def test_contenders_are_of_the_registry() -> None:
    for one in contenders(4):
        assert METHODS[one.method].evaluations(METHODS[one.method].parse(one.options)) in (0, 1, 4)
