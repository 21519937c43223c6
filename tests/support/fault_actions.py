"""What tests do at the points of `pipeline.storage.fault_points`: kill, stop, delay or fail a process.

    SSIG_FAULTS = POINT:ACTION[:key=value]…[;…]        SSIG_FAULTS_FOLDER = a folder that all processes see

    about=TEXT      only where the unit or file that the point is passed with contains it
    skip=N          not the first N times
    times=N         so often, and then never again; once by default
    seconds=S       of `sleep` and `stop`; by how much `clock` sets the clock of the process ahead, or back

Passes are counted over all processes by files that can each be made once. So a fault fires as often as it is told to,
however many actors pass its point, die and are replaced.

A process has the faults of its environment after `install()`. If it is a driver, Ray calls `install` in each of its
workers too. `python tests/support/fault_actions.py attribute …` is the command `ssig` with the faults installed.
"""

from __future__ import annotations

import errno
import json
import os
import runpy
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.storage import fault_points
from pipeline.storage.fault_points import POINTS

VARIABLE, FOLDER = "SSIG_FAULTS", "SSIG_FAULTS_FOLDER"
# Set in a process whose device has failed.
SICK = "SSIG_TEST_DEVICE_FAILED"
# Where Ray looks, when a driver starts or joins a cluster, for the environment of the driver's workers.
RAY_JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"


@dataclass(frozen=True)
class Fault:
    """A rule of the variable.

    Raises:
        ValueError: there is no such point or action.
    """

    point: str
    action: str
    about: str = ""
    skip: int = 0
    times: int = 1
    seconds: float = 1.0

    def __post_init__(self) -> None:
        if self.point not in POINTS:
            raise ValueError(f"{VARIABLE}: no point {self.point!r}; there are {', '.join(POINTS)}")
        if self.action not in ACTIONS:
            raise ValueError(f"{VARIABLE}: no action {self.action!r}; there are {', '.join(ACTIONS)}")


def parse(text: str) -> list[Fault]:
    """The rules of the variable.

    Raises:
        ValueError: one that is not understood.
    """
    faults = []
    for rule in filter(None, (rule.strip() for rule in text.split(";"))):
        where, action, *rest = rule.split(":")
        given = dict(part.split("=", 1) for part in rest)
        kinds: Mapping[str, Callable[[str], object]] = {"about": str, "skip": int, "times": int, "seconds": float}
        faults.append(Fault(where, action, **{name: kinds[name](value) for name, value in given.items()}))  # type: ignore[arg-type]
    return faults


class Faults:
    """The faults of a process, counted with those of all others in a folder."""

    def __init__(self, faults: list[Fault], folder: Path) -> None:
        self._faults = faults
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def point(self, name: str, about: str = "") -> None:
        """Fires the faults whose turn it is here."""
        if name == "driver-started":
            (self._folder / "driver").write_text(str(os.getpid()))
        for number, fault in enumerate(self._faults):
            if fault.point == name and fault.about in about and self._is_due(number, fault):
                with (self._folder / "fired").open("a") as file:
                    file.write(f"{name}:{fault.action} {about}\n")
                ACTIONS[fault.action](fault, self._folder)

    def _is_due(self, number: int, fault: Fault) -> bool:
        """Counts a pass, in all processes together; whether the fault is to fire."""
        for count in range(fault.skip + fault.times):
            try:
                (self._folder / f"{number}-{count}").touch(exist_ok=False)
            except FileExistsError:
                continue
            return count >= fault.skip
        return False


def fired(folder: Path) -> list[str]:
    """What has fired so far, in order: `POINT:ACTION ABOUT`."""
    record = folder / "fired"
    return record.read_text().splitlines() if record.exists() else []


def install() -> None:
    """Has this process, and the Ray workers of the driver that it may be, do what the variables say.

    Raises:
        ValueError: a rule that is not understood.
    """
    text = os.environ.get(VARIABLE)
    if text is None:
        fault_points.hook = None
        return
    fault_points.hook = Faults(parse(text), Path(os.environ[FOLDER])).point
    path = os.pathsep.join(filter(None, [str(Path(__file__).parent), os.environ.get("PYTHONPATH")]))
    variables = {VARIABLE: text, FOLDER: os.environ[FOLDER], "PYTHONPATH": path}
    environment = {"env_vars": variables, "worker_process_setup_hook": f"{Path(__file__).stem}.install"}
    os.environ[RAY_JOB] = json.dumps({"runtime_env": environment})


def _kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def _driver(folder: Path) -> int:
    return int((folder / "driver").read_text())


def _signal_driver(number: signal.Signals) -> Callable[[Fault, Path], None]:
    return lambda fault, folder: os.kill(_driver(folder), number)


def _kill_both(fault: Fault, folder: Path) -> None:
    _kill(_driver(folder))
    _kill(os.getpid())


def _kill_group(fault: Fault, folder: Path) -> None:
    os.killpg(_driver(folder), signal.SIGKILL)
    _kill(os.getpid())


def _stop(fault: Fault, folder: Path) -> None:
    """Stops this process as a suspended machine would; another lets it go on, or nobody if the seconds are none."""
    if fault.seconds:
        waker = f"import os, signal, time; time.sleep({fault.seconds}); os.kill({os.getpid()}, signal.SIGCONT)"
        subprocess.Popen([sys.executable, "-S", "-c", waker], start_new_session=True)
    os.kill(os.getpid(), signal.SIGSTOP)
    time.sleep(0.1)  # another thread may be the one that it reaches: this one is to go no further before all stand


def _set_clock(fault: Fault, folder: Path) -> None:
    """The clock of this process jumps; those of others, and of file systems, do not."""
    true = time.time
    time.time = lambda: true() + fault.seconds


def _fail(number: int) -> Callable[[Fault, Path], None]:
    def fail(fault: Fault, folder: Path) -> None:
        raise OSError(number, f"{os.strerror(number)} (on purpose, {fault.point})")

    return fail


def _raise(fault: Fault, folder: Path) -> None:
    raise RuntimeError(f"on purpose, {fault.point}")


def _sicken(fault: Fault, folder: Path) -> None:
    """From now on the network `fails_once_sick` fails in this process, as it does after an illegal access on a GPU."""
    os.environ[SICK] = "1"


ACTIONS: dict[str, Callable[[Fault, Path], None]] = {
    "kill": lambda fault, folder: _kill(os.getpid()),
    "kill-driver": _signal_driver(signal.SIGKILL),
    "kill-both": _kill_both,
    "kill-group": _kill_group,
    "interrupt-driver": _signal_driver(signal.SIGINT),
    "terminate-driver": _signal_driver(signal.SIGTERM),
    "stop": _stop,
    "sleep": lambda fault, folder: time.sleep(fault.seconds),
    "no-space": _fail(errno.ENOSPC),
    "io-error": _fail(errno.EIO),
    "raise": _raise,
    "clock": _set_clock,
    "sicken": _sicken,
    "note": lambda fault, folder: None,
}


if __name__ == "__main__":
    install()
    runpy.run_module("ssig", run_name="__main__", alter_sys=True)
