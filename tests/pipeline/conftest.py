"""Small real runs: shards of synthetic photographs and a tiny network, so that a whole job takes seconds."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.job.configuration import Job, load_job

SUPPORT = Path(__file__).resolve().parents[1] / "support"
sys.path.insert(0, str(SUPPORT))

from s3 import S3, never  # noqa: E402
from small_runs import do_units  # noqa: E402
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
def own_temporary_folder(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where this process stages what it puts into object stores."""
    folder = tmp_path_factory.mktemp("temporary")
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3]:
    """An S3 server in a process of its own, shared by all tests."""
    server = S3()
    yield server
    server.close()


@pytest.fixture
def s3(s3_server: S3, own_temporary_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3]:
    """The server, without faults, and an environment in which `s3://` URLs mean it."""
    for name, value in s3_server.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("pipeline.storage.object_client._FIRST_PAUSE", 0.005)
    s3_server.requests.clear()
    yield s3_server
    s3_server.fault = never


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
