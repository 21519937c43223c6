"""Runs that are disturbed on purpose, in real processes, and what is left of them afterwards.

A server imports everything once and every worker and driver is forked from it, so that each costs little. With
`SSIG_FAULT_TABLE` set, each case adds a line of JSON to that file: what was done to it, and what was lost.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import forkserver
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import duckdb
import fault_actions
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from small_runs import do_units

from pipeline.checks.audit import audit
from pipeline.driver.attribute import attribute
from pipeline.job.configuration import Job, load_job
from pipeline.run.maps import decode_maps

TABLE = "SSIG_FAULT_TABLE"
NOTES = "before-read:note:times=500"
ACTOR_STEPS = [  # from taking a unit to having it committed
    *("before-read", "after-read", "after-attribute", "before-stage", "after-write", "after-fsync"),
    *("before-publish", "after-link", "after-publish", "after-label", "before-commit", "after-commit"),
]
CONTEXT = multiprocessing.get_context("forkserver")
# Only what is installed, since the server does not look into this folder; pyarrow imports pandas where it finds it.
PRELOADED = (
    "pytest",
    "duckdb",
    "pandas",
    "pipeline.driver.dispatch",
    "pipeline.driver.pool",
    "pipeline.checks.audit",
    "pipeline.storage.local",
    "ssig.acceleration.ready_replica",
)
CONTEXT.set_forkserver_preload(list(PRELOADED))

Work = Callable[[Job], int]


def work_off(job: Job) -> int:
    """A worker without a cluster."""
    do_units(job)
    return 0


def drive(job: Job) -> int:
    """A driver, with the cluster that `RAY_ADDRESS` names, or its own; it prints what it tells a person."""
    return attribute(job, lambda progress, message: message and print(message, flush=True)).exit_code


def small_job(shard: Path, run: Path, **overrides: Any) -> Job:
    """A job of units of two samples under two labels; keywords with `__` in place of `.` override fields."""
    fields = {
        "dataset.shards": [str(shard)],
        "model.name": "networks:tiny",
        "methods": [{"name": "ig", "steps": 4}, "gradient"],
        "metrics": [{"name": "insertion", "steps": 4}, "roc_auc"],
        "output.path": str(run),
        "output.maps": "float32",
        "unit_size": 2,
        "actors.num_cpus": 1,
        "actors.num_gpus": 0,
        "actors.max": 1,
        "actors.micro_batch": 4,
        **{name.replace("__", "."): value for name, value in overrides.items()},
    }
    return load_job(None, fields)


def start(target: Callable[..., object], *arguments: object) -> BaseProcess:
    """Forks a process from the server."""
    # Ray reads this when it is imported, which the server does once for all.
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "token")
        forkserver.ensure_running()
    process = CONTEXT.Process(target=target, args=arguments)
    process.start()
    return process


class Disturbed:
    """A run, the processes that work on it, and the faults that are done to them.

    Args:
        folder: holds the run and the record of faults.
        shard: the data.
        expected: an undisturbed run of the same job.
    """

    def __init__(self, folder: Path, shard: Path, expected: Path) -> None:
        self.run = folder / "run"
        self.folder = folder / "faults"
        self.folder.mkdir()
        self.shard, self.expected = shard, expected
        self.environment: dict[str, str] = {}
        self._processes: list[BaseProcess] = []

    def begin(self, work: Work, given: str = "", **overrides: Any) -> BaseProcess:
        """Starts a process that works on the run with faults given; its messages go to a file."""
        text = ";".join([*filter(None, [given]), NOTES])
        environment = {**self.environment, fault_actions.VARIABLE: text, fault_actions.FOLDER: str(self.folder)}
        job = small_job(self.shard, self.run, **overrides)
        messages = self.folder / f"messages-{len(self._processes)}"
        process = start(_work, work, job, environment, str(messages))
        self._processes.append(process)
        return process

    def end(self, process: BaseProcess, seconds: float = 120) -> int | None:
        """The exit code of a process that is about to end; negative where a signal ended it."""
        process.join(seconds)
        return process.exitcode

    def do(self, work: Work, given: str = "", **overrides: Any) -> int | None:
        """The exit code of a process that works on the run with faults given."""
        return self.end(self.begin(work, given, **overrides))

    def messages(self) -> str:
        return "\n".join(path.read_text() for path in sorted(self.folder.glob("messages-*")))

    @property
    def injected(self) -> int:
        """How many faults have fired."""
        return sum(":note" not in line for line in fault_actions.fired(self.folder))

    @property
    def redone(self) -> int:
        """How often a unit was begun again."""
        begun = [line for line in fault_actions.fired(self.folder) if ":note" in line]
        return len(begun) - len(set(begun))

    def check(self, fault: str, step: str, injected: int | None = None, by_hand: int = 0) -> None:
        """Proves that the run is finished and sound, that nothing is lost or twice, and that its numbers stand.

        Args:
            fault, step: for the table of faults.
            injected: how many faults must have fired; at least one if nothing was done by hand.
            by_hand: how many things the test itself did to the run or its processes.
        """
        assert self.injected == injected if injected is not None else self.injected + by_hand, self.messages()
        self.count(fault, step, keys_of(self.expected), self.injected + by_hand)
        assert audit(str(self.run)).problems == []
        assert_same_numbers(self.run, self.expected)

    def count(self, fault: str, step: str, expected: Counter[tuple[Any, ...]], times: int) -> None:
        """Adds a line to the table of faults, and proves that no row is lost or twice."""
        found = keys_of(self.run)
        lost, twice = (expected - found).total(), (found - expected).total()
        record(fault=fault, step=step, injected=times, lost=lost, duplicated=twice, redone=self.redone)
        assert (lost, twice) == (0, 0)

    def close(self) -> None:
        """Ends what is left of the processes."""
        for process in self._processes:
            if process.is_alive():
                process.kill()
            process.join()


def _work(work: Work, job: Job, environment: dict[str, str], messages: str) -> None:
    os.setsid()
    descriptor = os.open(messages, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.environ.update(environment)
    fault_actions.install()
    torch.set_num_threads(1)
    sys.exit(work(job))


def record(**case: Any) -> None:
    """Adds a case to the table of faults, if one is asked for."""
    if TABLE in os.environ:
        with Path(os.environ[TABLE]).open("a") as file:
            file.write(json.dumps(case) + "\n")


def keys_of(run: Path) -> Counter[tuple[Any, ...]]:
    """How often each sample has a row under each label, in what a plain glob of the metrics finds."""
    if not any(run.glob("metrics/*/*/*.parquet")):
        return Counter()
    return Counter(duckdb.sql(f"select method, shard, index, key from '{run}/metrics/**/*.parquet'").fetchall())


def assert_same_numbers(run: Path, expected: Path) -> None:
    """Same replica, same threads: maps agree to 1e-4 of their norm, metrics to 1e-3, all else is equal."""
    exact, scalars = "method, shard, index, key, status, label, target, predicted", "probability, insertion, roc_auc"
    for one, other in zip(_rows(run, exact), _rows(expected, exact), strict=True):
        assert one == other
    for one, other in zip(_rows(run, scalars), _rows(expected, scalars), strict=True):
        assert one == pytest.approx(other, abs=1e-3, nan_ok=True)
    for file in sorted(expected.glob("attributions/*/*/*.parquet")):
        first, second = (decode_maps(pq.read_table(root / file.relative_to(expected))) for root in (run, expected))
        for one, other in zip(first, second, strict=True):
            assert np.linalg.norm(one - other) <= 1e-4 * np.linalg.norm(other)


def _rows(run: Path, columns: str) -> list[tuple[Any, ...]]:
    return duckdb.sql(f"select {columns} from '{run}/metrics/**/*.parquet' order by method, shard, index").fetchall()


def contents(run: Path) -> dict[str, bytes]:
    """Every file of a run but its logs."""
    files = (path for path in run.rglob("*") if path.is_file() and "logs" not in path.parts)
    return {str(path.relative_to(run)): path.read_bytes() for path in files}


def await_that(condition: Callable[[], object], seconds: float = 90) -> None:
    """Waits for something to become true."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def is_stopped(pid: int | None) -> bool:
    """Whether a process stands still, as after SIGSTOP."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Callable[[str], None]]:
    """A file system of so many bytes in a folder; gives a function that mounts it anew with other options."""
    folder.mkdir()
    if os.system(f"mount -t tmpfs -o size={size} tmpfs {folder} 2>/dev/null") != 0:
        pytest.skip("file systems cannot be mounted here")
    try:
        yield lambda options: _system(f"mount -o remount,{options} {folder}")
    finally:
        _system(f"umount -l {folder}")


def _system(command: str) -> None:
    assert os.system(command) == 0, command


def go_on(*pids: int | None) -> None:
    """Lets stopped processes go on."""
    for pid in pids:
        assert pid is not None
        os.kill(pid, signal.SIGCONT)
