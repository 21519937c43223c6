"""`deploy/slurm/ssig.sbatch` in a Slurm on this machine: cut by its time limit, asked to stop, on two nodes."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SUPPORT = ROOT / "tests" / "support"
sys.path.insert(0, str(SUPPORT))

from slurm_machine import Slurm, missing, slurm  # noqa: E402
from tests_shards import members, write_tar  # noqa: E402

from pipeline.checks.audit import audit  # noqa: E402

reason = missing()
pytestmark = pytest.mark.skipif(reason is not None, reason=str(reason))

SCRIPT = str(ROOT / "deploy" / "slurm" / "ssig.sbatch")
SAMPLES = 24
RUN = ("attribute", "--shards", "a.tar", "--model", "networks:tiny", "--method", "ig:steps=4", "--out", "run")
OPTIONS = ("--set", "unit_size=1", "--set", "actors.num_gpus=0")
# Each of the first units takes some seconds, so that a job can be stopped while it works.
SLOW = "before-commit:sleep:seconds=4:times=12"


@pytest.fixture(scope="module")
def machine() -> Iterator[Slurm]:
    with slurm() as started:
        yield started


Submit = Callable[..., str]


@pytest.fixture
def submit(machine: Slurm, tmp_path: Path) -> Submit:
    """`submit(*options of sbatch, more=arguments of ssig, **variables)` returns the job's number."""
    write_tar(tmp_path / "a.tar", members(0, SAMPLES))
    program = tmp_path / "bin" / "ssig"  # the command, with the faults of its environment
    program.parent.mkdir()
    program.write_text(f'#!/bin/bash\nexec {sys.executable} {SUPPORT / "fault_actions.py"} "$@"\n')
    program.chmod(0o755)
    path = f"{program.parent}:{Path(sys.executable).parent}:{machine.environment['PATH']}"
    variables = {
        "PATH": path,
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(SUPPORT)]),
        "OMP_NUM_THREADS": "1",
        "SSIG_FAULTS_FOLDER": str(tmp_path / "faults"),
        "SSIG_HEAD_IP": "127.0.0.1",
    }

    def send(*options: str, more: tuple[str, ...] = (), **given: str) -> str:
        line = ("sbatch", "--parsable", "--cpus-per-task=1", *options, SCRIPT, *RUN, *OPTIONS, *more)
        return machine.call(*line, folder=tmp_path, **variables, **given)

    return send


def commits(folder: Path) -> int:
    return len(list((folder / "run" / "commits").glob("**/*.json")))


def await_commits(folder: Path, count: int, log: Path) -> None:
    deadline = time.monotonic() + 180
    while commits(folder) < count:
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.1)


def check_finished(folder: Path) -> None:
    found = audit(str(folder / "run"))
    assert found.problems == []
    assert commits(folder) == SAMPLES


def test_a_cluster_that_is_named_is_joined_and_wrong_use_is_not_tried_again(
    machine: Slurm, submit: Submit, tmp_path: Path
) -> None:
    number = submit(RAY_ADDRESS="127.0.0.1:1")
    job = machine.await_state(number, "COMPLETED", "FAILED")
    log = (tmp_path / f"ssig-{number}.log").read_text()
    assert (job["ExitCode"], job["Restarts"]) == ("2:0", "0"), log
    assert "RAY_ADDRESS" in log
    assert "Ray's head" not in log


@pytest.mark.slow
def test_a_job_that_its_time_limit_cuts_is_queued_again_and_finished(
    machine: Slurm, submit: Submit, tmp_path: Path
) -> None:
    # The signal comes one to two minutes after the start, since Slurm may send it up to a minute earlier than it was
    # told to: time for a slow machine to begin, and none to finish.
    slow = f"before-commit:sleep:seconds=20:times={SAMPLES}"
    number = submit("--time=3", "--signal=B:USR1@60", more=("--in-process",), SSIG_FAULTS=slow)
    log = tmp_path / f"ssig-{number}.log"
    await_commits(tmp_path, 1, log)
    machine.await_state(number, "PENDING")
    done = commits(tmp_path)
    assert 0 < done < SAMPLES
    # Slurm waits two minutes before it starts such a job again, so that the first try's processes are gone.
    machine.await_idle()
    time.sleep(5)
    machine.call("scontrol", "update", f"JobId={number}", "StartTime=now", "TimeLimit=10")
    job = machine.await_state(number, "COMPLETED", "FAILED")
    text = log.read_text()
    assert (job["ExitCode"], job["Restarts"]) == ("0:0", "1"), text + machine.logs()
    assert "the time limit is near: finishing the units in flight" in text
    assert f"start 0 of job {number}" in text
    assert f"start 1 of job {number}" in text
    check_finished(tmp_path)


@pytest.mark.slow
def test_scancel_lets_units_in_flight_finish_and_the_same_command_goes_on(
    machine: Slurm, submit: Submit, tmp_path: Path
) -> None:
    number = submit(more=("--in-process",), SSIG_FAULTS=SLOW)
    log = tmp_path / f"ssig-{number}.log"
    await_commits(tmp_path, 1, log)
    before = commits(tmp_path)
    machine.call("scancel", number)
    job = machine.await_state(number, "CANCELLED")
    text = log.read_text()
    assert job["Restarts"] == "0"
    assert "SIGTERM: finishing the units in flight" in text
    assert "ssig ended with exit code 130" in text
    assert before < commits(tmp_path) < SAMPLES  # the unit in flight is done, and no other was begun
    number = submit(more=("--in-process",))
    assert machine.await_state(number, "COMPLETED", "FAILED")["ExitCode"] == "0:0"
    check_finished(tmp_path)


@pytest.mark.slow
@pytest.mark.ray
def test_two_nodes_work_on_a_run_and_stop_when_asked_to(machine: Slurm, submit: Submit, tmp_path: Path) -> None:
    number = submit("--nodes=2", SSIG_FAULTS=SLOW)
    log = tmp_path / f"ssig-{number}.log"
    await_commits(tmp_path, 2, log)
    machine.call("scancel", "--batch", "--signal=USR2", number)
    job = machine.await_state(number, "COMPLETED", "FAILED")
    text = log.read_text()
    assert (job["ExitCode"], job["Restarts"]) == ("130:0", "0"), text + machine.logs()
    assert "2 of 2 nodes have joined" in text
    assert "asked to stop: finishing the units in flight" in text
    stopped = commits(tmp_path)
    assert 2 <= stopped < SAMPLES
    events = "".join(path.read_text() for path in (tmp_path / "run" / "logs").iterdir())
    assert events.count('"unit done"') == stopped
    assert "actor lost" not in events  # no unit was cut
    number = submit(more=("--in-process",))
    assert machine.await_state(number, "COMPLETED", "FAILED")["ExitCode"] == "0:0"
    check_finished(tmp_path)
