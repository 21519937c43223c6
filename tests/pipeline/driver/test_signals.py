"""Signals for the whole process group, as `timeout`, terminals and batch systems send them, at every stage of a run.

The command ends with 130, what it was at can be resumed, and no process of Ray stays behind.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

SUPPORT = Path(__file__).resolve().parents[2] / "support"
sys.path.insert(0, str(SUPPORT))

from tests_shards import members, write_tar  # noqa: E402

ROOT = Path(__file__).resolve().parents[3]
MARK = "SSIG_TEST_OF_SIGNALS"

pytestmark = [pytest.mark.ray, pytest.mark.slow]


def descendants(mark: str) -> list[int]:
    """Processes that were started with a variable of ours in their environment, whatever became of their parents."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            environment = (folder / "environ").read_bytes()
            state = (folder / "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if f"{MARK}={mark}\0".encode() in environment and state != "Z":
            found.append(int(folder.name))
    return found


def command(folder: Path, mark: str, *, slow: bool = True) -> subprocess.Popen[str]:
    """`ssig attribute`, leader of a process group of its own."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "SSIG_"))}
    environment |= {"PYTHONPATH": os.pathsep.join([str(ROOT), str(SUPPORT)]), MARK: mark, "PYTHONUNBUFFERED": "1"}
    if slow:  # each unit takes a moment, so that some are always in flight
        environment |= {"SSIG_FAULTS": "after-read:sleep:seconds=1:times=100", "SSIG_FAULTS_FOLDER": str(folder / "f")}
        (folder / "f").mkdir(exist_ok=True)
    arguments = ["--shards", str(folder / "a.tar"), "--model", "networks:tiny", "--method", "gradient"]
    arguments += ["--out", str(folder / "run"), "--set", "unit_size=1", "--set", "actors.max=1"]
    arguments += ["--set", "actors.num_cpus=1", "--set", "actors.micro_batch=1"]
    return subprocess.Popen(
        [sys.executable, str(SUPPORT / "fault_actions.py"), "attribute", *arguments],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def group(process: subprocess.Popen[str], number: signal.Signals, mark: str) -> None:
    os.killpg(process.pid, number)


def twice(process: subprocess.Popen[str], number: signal.Signals, mark: str) -> None:
    """As `timeout` does it: the process, and then its group."""
    process.send_signal(number)
    os.killpg(process.pid, number)


def everything(process: subprocess.Popen[str], number: signal.Signals, mark: str) -> None:
    """As a service manager does it: every process, whatever its session."""
    for pid in descendants(mark):
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue


def read_until(process: subprocess.Popen[str], text: str) -> None:
    assert process.stderr is not None
    seen = []
    for line in process.stderr:
        seen.append(line)
        if text in line:
            return
    raise AssertionError("".join(seen))


@pytest.mark.parametrize(
    ("stage", "seconds", "how", "number"),
    [
        ("starting Ray", 0.0, group, signal.SIGTERM),
        ("starting Ray", 1.0, group, signal.SIGTERM),
        ("starting Ray", 1.0, group, signal.SIGINT),
        ("starting Ray", 2.5, group, signal.SIGTERM),
        ("starting actors", 0.5, group, signal.SIGTERM),
        ("starting actors", 0.5, everything, signal.SIGTERM),
        ("attributing", 1.0, group, signal.SIGTERM),
        ("attributing", 1.0, group, signal.SIGINT),
        ("attributing", 1.0, twice, signal.SIGTERM),
        ("attributing", 1.0, everything, signal.SIGTERM),
    ],
)
def test_a_signal_for_the_group_ends_with_130_and_leaves_nothing(
    tmp_path: Path,
    stage: str,
    seconds: float,
    how: Callable[[subprocess.Popen[str], signal.Signals, str], None],
    number: signal.Signals,
) -> None:
    write_tar(tmp_path / "a.tar", members(0, 8))
    mark = f"{os.getpid()}-{time.time_ns()}"
    process = command(tmp_path, mark)
    try:
        read_until(process, stage)
        time.sleep(seconds)
        how(process, number, mark)
        out, err = process.communicate(timeout=45)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == 130, err
    assert "Traceback" not in err
    if stage == "attributing" and how is not everything:
        assert "finishing the units in flight" in err
        assert "gradient: 8 samples expected" in out
    deadline = time.monotonic() + 20
    while (left := descendants(mark)) and time.monotonic() < deadline:
        time.sleep(0.5)
    assert left == []
    if stage != "attributing":
        return
    again = command(tmp_path, mark, slow=False)
    out, err = again.communicate(timeout=120)
    assert again.returncode == 0, err
    assert "8 ok" in out
