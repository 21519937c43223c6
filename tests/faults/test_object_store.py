"""Runs with shards and results in an object store: its network fails, its workers are killed or stand still."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

SUPPORT = Path(__file__).resolve().parents[1] / "support"
sys.path.insert(0, str(SUPPORT))

from disturbed import Disturbed, await_that, go_on, is_stopped, work_off  # noqa: E402
from s3 import S3, Fault, Request, credentials_in, never  # noqa: E402
from tests_shards import members, write_tar  # noqa: E402

SAMPLES = 12
KINDS = ("500", "503", "lost", "late", "reset", "cut", "slow", "hang")


@pytest.fixture(scope="module")
def s3() -> Iterator[S3]:
    server = S3()
    yield server
    server.close()


@pytest.fixture
def shards(s3: S3, tmp_path: Path) -> str:
    """A pattern of two shards in a bucket."""
    bucket = s3.bucket()
    for name, first in (("a0.tar", 0), ("a1.tar", SAMPLES // 2)):
        path = write_tar(tmp_path / name, members(first, SAMPLES // 2))
        s3.ask("PUT", f"/{bucket.removeprefix('s3://')}/shards/{name}", path.read_bytes())
    return f"{bucket}/shards/a?.tar"


def command(shards: str, run: str) -> list[str]:
    return [
        *("attribute", "--shards", shards, "--model", "networks:tiny", "--out", run),
        *("--method", "ssig:samples=16", "--method", "ig:steps=16", "--metric", "insertion", "--metric", "roc_auc"),
        *("--set", "unit_size=2", "--set", "actors.num_cpus=1", "--set", "actors.max=2", "--set", "actors.num_gpus=0"),
    ]


def begin(s3: S3, *arguments: str) -> subprocess.Popen[str]:
    environment = {**os.environ, **s3.environment(), "PYTHONPATH": str(SUPPORT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [str(Path(sys.executable).with_name("ssig")), *arguments],
        env=environment,
        start_new_session=True,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def ended(process: subprocess.Popen[str], seconds: float = 240) -> tuple[int, str]:
    try:
        out = process.communicate(timeout=seconds)[0]
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    return process.returncode, out


def commits(s3: S3, run: str) -> int:
    return sum("/commits/" in name for name in s3.contents(run))


def now_and_then(seed: int, share: float = 0.04) -> Fault:
    """Breaks some share of all requests, in every way."""
    generator, lock = random.Random(seed), threading.Lock()

    def fault(request: Request) -> str | None:
        with lock:
            return generator.choice(KINDS) if generator.random() < share else None

    return fault


def rows(path: str) -> list[dict[str, object]]:
    from pipeline.run.reader import open_run

    return sorted(open_run(path).metrics().to_pylist(), key=lambda row: (row["method"], row["shard"], row["index"]))


@pytest.mark.ray
@pytest.mark.slow
def test_a_run_in_an_object_store_survives_its_network_and_a_kill(
    s3: S3, shards: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = f"{s3.bucket()}/runs/one"
    local = str(tmp_path / "undisturbed")
    code, out = ended(begin(s3, *command(str(tmp_path / "a?.tar"), local)))
    assert code == 0, out

    s3.fault = now_and_then(1)
    killed = begin(s3, *command(shards, run))
    deadline = time.monotonic() + 120
    while commits(s3, run) < 3:
        assert killed.poll() is None, killed.communicate()[0]
        assert time.monotonic() < deadline, "no unit was committed"
        time.sleep(0.05)
    os.killpg(killed.pid, signal.SIGKILL)
    printed = killed.communicate()[0]
    assert commits(s3, run) < SAMPLES // 2

    for arguments in (command(shards, run), ["audit", run], ["report", run], ["status", run]):
        code, out = ended(begin(s3, *arguments))
        assert code == 0, out
        printed += out
    assert "sound" in printed
    assert any(kind is not None for _, kind in s3.requests)

    s3.fault = never
    for name, value in s3.environment().items():
        monkeypatch.setenv(name, value)
    for mine, theirs in zip(rows(run), rows(local), strict=True):
        assert set(mine) == set(theirs)
        for column in mine:
            if not column.startswith("seconds_"):
                assert mine[column] == pytest.approx(theirs[column], abs=1e-3), column
    contents = s3.contents(run)
    assert {name.split("/")[2] for name in contents} >= {"run.json", "commits", "attributions", "metrics", "report"}
    assert json.loads(contents["runs/one/report/report.json"])
    assert credentials_in({**contents, "printed": printed.encode()}) == []


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.parametrize("fault", ["507", "403"])
def test_a_full_store_ends_the_run_and_room_lets_it_go_on(s3: S3, shards: str, fault: str) -> None:
    run = f"{s3.bucket()}/runs/one"

    def when_full(kind: str) -> Callable[[Request], str | None]:
        return lambda request: kind if request.method == "PUT" and "/commits/" in request.path else None

    s3.fault = when_full(fault)
    code, out = ended(begin(s3, *command(shards, run)[:-2], "--set", "unit_size=6"))
    assert code == 1, out
    assert "commits/" in out
    assert "left undone" in out
    s3.fault = never
    code, out = ended(begin(s3, *command(shards, run)[:-2], "--set", "unit_size=6"))
    assert code == 0, out
    assert ended(begin(s3, "audit", run))[0] == 0


@pytest.mark.parametrize("point", ["before-stage", "before-publish", "after-publish", "before-commit"])
def test_a_zombie_replaces_nothing_that_its_successor_put(s3: S3, disturbed: Disturbed, point: str) -> None:
    bucket = s3.bucket()
    disturbed.environment = s3.environment()
    zombie = disturbed.begin(work_off, f"{point}:stop:seconds=0:about=000002", output__path=f"{bucket}/run")
    await_that(lambda: is_stopped(zombie.pid))
    assert disturbed.do(work_off, output__path=f"{bucket}/run") == 0
    before = s3.contents(bucket)
    s3.requests.clear()
    go_on(zombie.pid)
    assert disturbed.end(zombie) == 0
    assert s3.contents(bucket) == before
    puts = [request for request, _ in s3.requests if request.method == "PUT"]
    assert puts  # it did try
    assert all(request.is_conditional for request in puts)
    for name, data in before.items():
        copy = disturbed.run.parent / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(data)
    disturbed.check("SIGSTOP, successor commits, SIGCONT, on S3", point, injected=1)
