"""How often a driver reads the records of a run: each once, however often it asks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import unquote

import pytest

from pipeline.driver.added_metrics import add_metrics
from pipeline.driver.attribute import attribute
from pipeline.job.configuration import load_evaluation
from pipeline.run.directory import RunDirectory
from pipeline.run.layout import RECORDS, RUN
from pipeline.storage import open_storage
from pipeline.storage.local import LocalStorage

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "support"))

from s3 import S3
from tests_shards import members, write_tar

Make = Callable[..., Any]
SUPPORT = Path(__file__).resolve().parents[2] / "support"
SMALL = {"methods": ["gradient", "ig"], "metrics": ["gini"], "unit_size": 2}


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often this process read each record of a run on the disk."""
    counts: Counter[str] = Counter()
    read, opened = LocalStorage.read, LocalStorage.open

    def counted_read(storage: LocalStorage, name: str) -> bytes:
        if is_record(name):
            counts[name] += 1
        return read(storage, name)

    def counted_open(storage: LocalStorage, name: str) -> BinaryIO:
        if is_record(name):
            counts[name] += 1
        return opened(storage, name)

    monkeypatch.setattr(LocalStorage, "read", counted_read)
    monkeypatch.setattr(LocalStorage, "open", counted_open)
    return counts


def is_record(name: str) -> bool:
    return name.endswith(".json") and name.split("/")[0] in (RUN, *RECORDS)


def records(run: Path) -> list[str]:
    names = [path.relative_to(run).as_posix() for path in run.rglob("*.json")]
    return sorted(name for name in names if is_record(name))


def test_a_finished_run_is_read_once(make_shard: Make, make_job: Make, work_off: Make, reads: Counter[str]) -> None:
    job = make_job(make_shard(count=6), **SMALL)
    run = work_off(job)
    for _ in range(2):  # with the report to be written, and with one that is current
        reads.clear()
        assert attribute(job).exit_code == 0
        assert sorted(reads) == records(run)
        assert set(reads.values()) == {1}


def test_a_run_that_goes_on_is_read_once(
    make_shard: Make, make_job: Make, work_off: Make, reads: Counter[str]
) -> None:
    job = make_job(make_shard(count=8), actors__executor="local", **SMALL)
    run = work_off(job, limit=2)
    reads.clear()
    summary = attribute(job)
    assert (summary.exit_code, summary.units_done) == (0, 2)
    assert sorted(reads) == records(run)
    assert set(reads.values()) == {1}
    assert len([name for name in reads if name.startswith("commits/")]) == 4


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_a_run_is_read_once_when_metrics_are_added(
    make_shard: Make, make_job: Make, work_off: Make, reads: Counter[str]
) -> None:
    run = work_off(make_job(make_shard(count=4), **SMALL))
    evaluation = load_evaluation({"metrics": ["energy"], "actors.num_cpus": 1, "actors.num_gpus": 0, "actors.max": 1})
    for _ in range(2):
        reads.clear()
        assert add_metrics(str(run), evaluation).exit_code == 0
        assert sorted(reads) == records(run)
        assert set(reads.values()) == {1}


def test_what_another_driver_writes_meanwhile_is_seen_after_a_refresh(
    make_shard: Make, make_job: Make, work_off: Make, reads: Counter[str]
) -> None:
    """After `refresh`, and only what is new is read."""
    job = make_job(make_shard(count=6), **SMALL)
    run = work_off(job, limit=1)
    directory = RunDirectory(open_storage(str(run)))
    (first, second) = directory.labels
    assert len(directory.remaining([first, second])) == 2
    work_off(job)
    reads.clear()
    assert len(directory.remaining([first, second])) == 2
    directory.refresh()
    assert directory.remaining(directory.labels) == []
    assert len(reads) == 2
    assert all(name.startswith("commits/") for name in reads)
    path = next(run.glob("config/*.json"))
    path.write_text(json.dumps({**json.loads(path.read_text()), "warnings": ["edited"]}))
    directory.refresh()
    assert ["edited"] in [label.config["warnings"] for label in directory.labels]


def gets(s3: S3, run: str) -> Counter[str]:
    """How often each record of a run was fetched from the server."""
    prefix = f"/{run.removeprefix('s3://')}/"
    names = [unquote(request.path.partition("?")[0]) for request, _ in s3.requests if request.method == "GET"]
    return Counter(name for path in names if path.startswith(prefix) and is_record(name := path.removeprefix(prefix)))


def stored(s3: S3, run: str) -> list[str]:
    folder = run.removeprefix("s3://").partition("/")[2]
    names = [name.removeprefix(f"{folder}/") for name in s3.contents(run)]
    return sorted(unquote(unquote(name)) for name in names if is_record(name))


def test_a_finished_run_in_an_object_store_is_read_once(
    s3: S3, make_shard: Make, make_job: Make, work_off: Make
) -> None:
    run = f"{s3.bucket()}/runs/one"
    job = make_job(make_shard(count=4), **{**SMALL, "output__path": run})
    work_off(job)
    s3.requests.clear()
    assert attribute(job).exit_code == 0
    found = gets(s3, run)
    assert len(found) == len(stored(s3, run)) == 1 + 2 + 2
    assert set(found.values()) == {1}


@pytest.mark.ray
@pytest.mark.slow
def test_a_run_in_an_object_store_that_goes_on_is_read_once(
    s3: S3, make_job: Make, work_off: Make, tmp_path: Path
) -> None:
    """By all processes together, in a real command with a cluster of its own."""
    run, shard = f"{s3.bucket()}/runs/one", write_tar(tmp_path / "a.tar", members(0, 8))
    work_off(make_job(shard, **{**SMALL, "output__path": run}), limit=2)
    s3.requests.clear()
    arguments = ["attribute", "--shards", str(shard), "--model", "networks:tiny", "--out", run]
    arguments += ["--method", "gradient", "--method", "ig", "--metric", "gini"]
    for setting in ("unit_size=2", "actors.num_cpus=1", "actors.max=1", "actors.num_gpus=0"):
        arguments += ["--set", setting]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(SUPPORT), *sys.path]), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "ssig", *arguments], env=environment, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = gets(s3, run)
    assert len(found) == len(stored(s3, run)) == 1 + 2 + 4
    assert set(found.values()) == {1}
