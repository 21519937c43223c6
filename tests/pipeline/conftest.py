"""Small real runs: shards of synthetic photographs and a tiny network, so that a whole job takes seconds."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.config import Job, load_job

SUPPORT = Path(__file__).resolve().parents[1] / "support"
sys.path.insert(0, str(SUPPORT))

from tests_shards import members, write_tar  # noqa: E402

MakeShard = Callable[..., Path]
MakeJob = Callable[..., Job]


@pytest.fixture
def make_shard(tmp_path: Path) -> MakeShard:
    """`make_shard(name, count, first=0)` or `make_shard(name, files=[...])`."""

    def make(
        name: str = "a.tar", count: int = 8, first: int = 0, files: list[tuple[str, bytes]] | None = None
    ) -> Path:
        return write_tar(tmp_path / name, members(first, count) if files is None else files)

    return make


@pytest.fixture(autouse=True)
def networks_can_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(SUPPORT))


@pytest.fixture
def make_job(tmp_path: Path) -> MakeJob:
    """A job on the tiny network; keywords with `__` in place of `.` override fields."""

    def make(*shards: Path, **overrides: Any) -> Job:
        fields = {
            "dataset.shards": [str(shard) for shard in shards],
            "model.name": "networks:tiny",
            "methods": [{"name": "ssig", "samples": 4}, {"name": "ig", "steps": 4}],
            "metrics": [
                {"name": "insertion", "steps": 4},
                {"name": "deletion", "steps": 4},
                "roc_auc",
                "completeness",
            ],
            "output.path": str(tmp_path / "run"),
            "unit_size": 4,
            "actors.num_cpus": 1,
            "actors.num_gpus": 0,
            "actors.max": 1,
            "actors.micro_batch": 4,
            **{name.replace("__", "."): value for name, value in overrides.items()},
        }
        return load_job(None, fields)

    return make


@pytest.fixture
def work_off() -> Callable[..., Path]:
    """Does all of a job's units in this process, without Ray, and returns the run's folder."""
    return do_units


def do_units(job: Job, limit: int | None = None) -> Path:
    """Plans a job as the driver does and works its first `limit` units off."""
    from pipeline.planning import check_labels, check_output, job_labels, record_labels, record_run, units_to_do
    from pipeline.shards import expand
    from pipeline.storage import open_storage
    from pipeline.tasks import Task
    from pipeline.worker import Worker
    from ssig.models import load_model
    from ssig.ready import ready_replica

    storage = open_storage(job.output.path)
    shards = expand(job.dataset.shards, Path.cwd())
    manifest = check_output(job, storage, shards) or record_run(job, storage, shards)
    model = load_model(job.model.name, job.model.weights)
    labels = check_labels(storage, job_labels(job, manifest.hash, model))
    record_labels(storage, labels)
    replica = ready_replica(model, micro_batch=4)
    worker = Worker(replica, {label.method: label for label in labels}, storage.root, job.seed)
    urls = {shard.name: shard.url for shard in manifest.shards}
    for number, work in enumerate(units_to_do(storage, manifest, labels)[:limit]):
        rows = tuple(manifest.rows(work.unit))
        worker.process(Task(work.unit, urls[rows[0].shard], rows, work.labels, f"test-{number}"))
    worker.close()
    return Path(storage.root)
