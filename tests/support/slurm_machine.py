"""A Slurm on this machine, with a controller and two nodes on loopback, and without systemd; it needs root."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol", "scancel", "squeue")
CONFIGURATION = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CryptoType=crypto/munge
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
ReturnToService=2
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/controller.pid
SlurmdPidFile={folder}/%n.pid
SlurmctldLogFile={folder}/controller.log
SlurmdLogFile={folder}/%n.log
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
KillWait=30
JobRequeue=1
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
NodeName=n1,n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={first},{second} CPUs=2 State=UNKNOWN
PartitionName=all Nodes=n1,n2 Default=YES MaxTime=INFINITE State=UP
"""


def missing() -> str | None:
    """Why there can be no Slurm here; None if there can."""
    if os.geteuid() != 0:
        return "starting Slurm needs root"
    absent = [name for name in PROGRAMS if shutil.which(name, path=_path()) is None]
    return f"not installed: {', '.join(absent)} (`make slurm` says how)" if absent else None


def _path() -> str:
    return f"{os.environ['PATH']}:/usr/sbin:/sbin"


class Slurm:
    """Commands of a Slurm that runs.

    Attributes:
        folder: its state, logs and sockets.
        environment: of a process that gives commands to it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {**os.environ, "PATH": _path(), "SLURM_CONF": str(folder / "slurm.conf")}

    def call(self, *command: str, folder: Path | None = None, **variables: str) -> str:
        """Runs a command of Slurm and returns its output."""
        environment = {**self.environment, **variables}
        done = subprocess.run(command, cwd=folder, env=environment, text=True, capture_output=True, timeout=60)
        assert done.returncode == 0, (command, done.stdout, done.stderr)
        return done.stdout.strip()

    def job(self, number: str) -> dict[str, str]:
        """What Slurm knows of a job, such as its JobState."""
        words = self.call("scontrol", "--oneliner", "show", "job", number).split()
        return {name: value for name, _, value in (word.partition("=") for word in words)}

    def logs(self) -> str:
        """The ends of the logs of controller and nodes, for a test that fails."""
        return "\n".join(path.read_text()[-2000:] for path in sorted(self.folder.glob("*.log")))

    def await_state(self, number: str, *states: str, seconds: float = 240) -> dict[str, str]:
        """Waits for one of some states of a job."""
        deadline = time.monotonic() + seconds
        while (job := self.job(number))["JobState"] not in states:
            assert time.monotonic() < deadline, job
            time.sleep(0.3)
        return job

    def await_idle(self) -> None:
        """Waits until both nodes have nothing to do."""
        deadline = time.monotonic() + 60
        while "idle|2" not in self.call("sinfo", "--noheader", "--format=%t|%D"):
            assert time.monotonic() < deadline, self.logs()
            time.sleep(0.3)


@contextmanager
def slurm() -> Iterator[Slurm]:
    """A Slurm of its own, which ends with the block and cancels what still runs in it."""
    folder = Path(tempfile.mkdtemp(prefix="slurm-", dir="/tmp"))  # a short name: a socket's path has 107 characters
    machine = Slurm(folder)
    try:
        _start(folder, machine)
        yield machine
        with suppress(AssertionError):
            machine.call("scancel", "--full", "--signal=KILL", "--me")
    finally:
        for name in ("n1", "n2", "controller", "munged"):
            with suppress(OSError, ValueError):
                os.kill(int((folder / f"{name}.pid").read_text()), signal.SIGKILL)
        shutil.rmtree(folder, ignore_errors=True)


def _start(folder: Path, machine: Slurm) -> None:
    (folder / "state").mkdir()
    (folder / "munge.key").write_bytes(os.urandom(1024))
    (folder / "munge.key").chmod(0o400)
    controller, first, second = _free_ports(3)
    host = socket.gethostname().partition(".")[0]
    text = CONFIGURATION.format(folder=folder, host=host, controller=controller, first=first, second=second)
    (folder / "slurm.conf").write_text(text)
    files = {"socket": "munge.socket", "pid-file": "munged.pid", "log-file": "munged.log", "seed-file": "munge.seed"}
    options = [f"--{name}={folder / file}" for name, file in files.items()]
    machine.call("munged", "--force", f"--key-file={folder / 'munge.key'}", *options)
    machine.call("slurmctld")
    for node in ("n1", "n2"):
        machine.call("slurmd", "-N", node)
    machine.await_idle()


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports
