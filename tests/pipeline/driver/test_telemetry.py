"""The metrics that Ray gets of a run."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar

import pytest

from pipeline.driver import telemetry
from pipeline.driver.executor import State
from pipeline.driver.telemetry import Telemetry, exported, name_of
from pipeline.unit.messages import Done

ROOT = Path(__file__).resolve().parents[3]


class Kept:
    """A counter or gauge that can be read."""

    made: ClassVar[dict[str, Kept]] = {}

    def __init__(self, name: str, text: str, tag_keys: tuple[str, ...]) -> None:
        self.tags, self.values, self.default = tag_keys, {}, {}  # type: ignore[var-annotated]
        self.made[name] = self

    def set_default_tags(self, tags: dict[str, str]) -> None:
        self.default = tags

    def inc(self, amount: float, tags: dict[str, str]) -> None:
        assert amount > 0
        assert set(tags) | set(self.default) == set(self.tags)
        key = tuple(tags.values())
        self.values[key] = self.values.get(key, 0) + amount

    def set(self, value: float) -> None:
        self.values[()] = value


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setattr(telemetry, "Counter", Kept)
    monkeypatch.setattr(telemetry, "Gauge", Kept)
    Kept.made = {}
    return Kept.made


def test_a_unit_counts_with_all_that_it_took(made: dict[str, Any]) -> None:
    counters = Telemetry("s3://bucket/runs/first/")
    steps = {"decode": 0.5, "attribute": 2.0, "write": 0.0}
    counters.done(Done("u", "a", {"ig": {"ok": 3, "timeout": 1}}, 4.0, {"ig": 128}, steps, 2.5))
    counters.failed("died")
    counters.state(State(2, 3, 7, 1.5, None, (64, 32)))
    assert made["ssig_samples"].values == {("ig", "ok"): 3, ("ig", "timeout"): 1}
    assert made["ssig_gradients"].values == {("ig",): 128}
    assert made["ssig_step_seconds"].values == {("decode",): 0.5, ("attribute",): 2.0}
    assert (made["ssig_device_seconds"].values, made["ssig_units"].values) == ({(): 2.5}, {(): 1})
    assert made["ssig_failures"].values == {("died",): 1}
    assert made["ssig_seconds_left"].values == {(): -1.0}
    assert (made["ssig_units_left"].values, made["ssig_micro_batch"].values) == ({(): 7}, {(): 32})
    assert {metric.default["run"] for metric in made.values()} == {"first"}


def test_names_and_their_tags_are_bounded() -> None:
    assert exported("ssig_units") == "ray_ssig_units_total"
    assert exported("ssig_actors") == "ray_ssig_actors"
    assert len(name_of("x" * 1000)) == 64
    assert name_of("") == "run"
    metrics = telemetry.COUNTERS | telemetry.GAUGES
    assert {tag for metric in metrics.values() for tag in metric.tags} == {"method", "status", "step", "kind"}


SCRAPED = """
import sys, time, urllib.request
import ray
from pipeline.driver.executor import State
from pipeline.driver.telemetry import Telemetry, exported_names
from pipeline.unit.messages import Done

port = int(sys.argv[1])
ray.init("local", num_cpus=1, include_dashboard=False, _metrics_export_port=port,
         _system_config={"metrics_report_interval_ms": 500})
counters = Telemetry("/runs/first")
deadline, lacking = time.monotonic() + 60, set(exported_names())
while lacking and time.monotonic() < deadline:
    counters.done(Done("u", "a", {"ig": {"ok": 3}}, 4.0, {"ig": 128}, {"decode": 0.5}, 2.5))
    counters.failed("died")
    counters.state(State(2, 3, 7, 1.5, 30.0, (64,)))
    time.sleep(1)
    try:
        text = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5).read().decode()
    except OSError:
        continue
    series = [line for line in text.splitlines() if 'run="first"' in line]
    lacking = {name for name in exported_names() if not any(line.startswith(name + "{") for line in series)}
print("lacking", sorted(lacking))
ray.shutdown()
"""


@pytest.mark.slow
@pytest.mark.ray
def test_prometheus_gets_every_metric_under_the_names_that_the_dashboard_has() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    done = subprocess.run(
        [sys.executable, "-c", SCRAPED, str(port)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "RAY_ADDRESS": "local"},
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )
    assert "lacking []" in done.stdout, done.stdout + done.stderr
