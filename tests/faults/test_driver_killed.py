"""The driver's whole process group is killed, or asked to stop; the same command goes on and nothing is lost."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest

ROOT = Path(__file__).resolve().parents[2]
SUPPORT = ROOT / "tests" / "support"
sys.path.insert(0, str(SUPPORT))

from tests_shards import members, write_tar  # noqa: E402

from pipeline.checks.audit import audit  # noqa: E402

pytestmark = [pytest.mark.ray, pytest.mark.slow]

SAMPLES = 40


def command(shard: Path, run: Path) -> list[str]:
    return [
        *(sys.executable, str(SUPPORT / "fault_actions.py")),
        *("attribute", "--shards", str(shard), "--model", "networks:tiny", "--out", str(run)),
        *("--method", "ssig:samples=16", "--method", "ig:steps=16", "--metric", "insertion", "--metric", "deletion"),
        *("--set", "unit_size=2", "--set", "actors.num_cpus=1", "--set", "actors.max=2", "--set", "actors.num_gpus=0"),
    ]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(SUPPORT)]), "OMP_NUM_THREADS": "1"}


def begin(shard: Path, run: Path, units: int) -> subprocess.Popen[str]:
    """A driver in a process group of its own that has committed at least `units` units."""
    process = subprocess.Popen(
        command(shard, run), env=environment(), start_new_session=True, text=True, stdout=-1, stderr=subprocess.STDOUT
    )
    deadline = time.monotonic() + 120
    while len(list(run.glob("commits/**/*.json"))) < units:
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline, "no unit was committed"
        time.sleep(0.02)
    return process


def finish(shard: Path, run: Path) -> None:
    done = subprocess.run(command(shard, run), env=environment(), text=True, capture_output=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr


def rows_of(run: Path) -> list[tuple[Any, ...]]:
    columns = "method, shard, index, key, status, label, predicted, insertion, deletion, probability"
    return duckdb.sql(f"select {columns} from '{run}/metrics/**/*.parquet' order by method, shard, index").fetchall()


@pytest.fixture
def shard(tmp_path: Path) -> Path:
    return write_tar(tmp_path / "a.tar", members(0, SAMPLES))


@pytest.fixture
def expected(shard: Path, tmp_path: Path) -> list[tuple[Any, ...]]:
    """The rows of an undisturbed run."""
    finish(shard, tmp_path / "undisturbed")
    return rows_of(tmp_path / "undisturbed")


def test_a_command_that_only_writes_the_report_ends_as_interrupted_too(shard: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    finish(shard, run)
    shutil.rmtree(run / "report")
    faults = {"SSIG_FAULTS": "before-report:terminate-driver", "SSIG_FAULTS_FOLDER": str(tmp_path / "faults")}
    asked = subprocess.run(command(shard, run), env={**environment(), **faults}, timeout=240, capture_output=True)
    assert asked.returncode == 130
    finish(shard, run)
    assert (run / "report" / "index.html").exists()


def kill_group(process: subprocess.Popen[str]) -> int:
    os.killpg(process.pid, signal.SIGKILL)
    return process.wait()


def ask_to_stop(process: subprocess.Popen[str]) -> int:
    process.terminate()
    code = process.wait(timeout=120)
    assert code == 130, process.communicate()[0]
    return code


@pytest.mark.parametrize("stop", [kill_group, ask_to_stop])
def test_the_same_command_goes_on_at_once(
    shard: Path, tmp_path: Path, expected: list[tuple[Any, ...]], stop: Callable[[subprocess.Popen[str]], int]
) -> None:
    run = tmp_path / "run"
    stop(begin(shard, run, units=SAMPLES // 4))
    assert len(list(run.glob("commits/**/*.json"))) < SAMPLES // 2
    finish(shard, run)
    assert audit(str(run)).problems == []
    found = rows_of(run)
    assert [row[:7] for row in found] == [row[:7] for row in expected]
    for one, other in zip(found, expected, strict=True):
        assert one[7:] == pytest.approx(other[7:], abs=1e-3)
