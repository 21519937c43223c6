"""`ssig bench plan`: its jobs are jobs, and what it measures of a run is the time of its units."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import pytest

from jobs.bench import memory, pipeline, plan
from jobs.bench.networks import DEVELOPMENT_SHARDS
from jobs.bench.plan import JOBS, seconds_of_units
from jobs.study.entries import method_of, metric_of
from pipeline.plan.work import job_work
from ssig.errors import UsageError


def test_the_time_of_units_is_from_the_first_actor_to_the_last_unit(tmp_path: Path) -> None:
    events = [
        ("2026-01-01T00:00:05+00:00", "actor ready"),
        ("2026-01-01T00:00:07+00:00", "actor ready"),
        ("2026-01-01T00:00:30+00:00", "unit done"),
        ("2026-01-01T00:00:45.5+00:00", "unit done"),
        ("2026-01-01T00:01:45+00:00", "end"),
    ]
    (tmp_path / "logs").mkdir()
    lines = "".join(json.dumps({"time": time, "event": event}) + "\n" for time, event in events)
    (tmp_path / "logs" / "a.jsonl").write_text(lines)
    assert seconds_of_units(tmp_path) == 40.5


@pytest.mark.parametrize("name", JOBS)
def test_its_jobs_are_jobs(name: str) -> None:
    methods, metrics, _ = JOBS[name]
    chosen = [found for found in map(method_of, methods) if found is not None]
    assert len(chosen) == len(methods)
    works = job_work(chosen, [metric_of(metric) for metric in metrics], "logit")
    assert sum(work.total.gradients for work in works) > 0


@pytest.mark.parametrize("benchmark", [memory, pipeline, plan])
@pytest.mark.parametrize("shards", [[], ["none.tar"]])
def test_without_shards_it_says_what_to_give(
    benchmark: ModuleType, shards: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(DEVELOPMENT_SHARDS, raising=False)
    with pytest.raises(UsageError, match="shards"):
        benchmark.measure(shards=shards)
