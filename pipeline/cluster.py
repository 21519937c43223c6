"""The Ray cluster that a run works on."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import ray
from ray.job_config import JobConfig

from pipeline.summary import EXIT_INTERRUPTED
from ssig.errors import UsageError


@contextmanager
def cluster() -> Iterator[list[Mapping[str, float]]]:
    """Ray, joined or started, and the resources of its nodes; stopped afterwards if it was started here.

    Joined is what this process, or `RAY_ADDRESS`, names. Without a name Ray itself would join whatever cluster is
    named in a folder that every user of the machine may write, and run its code there.
    """
    if ray.is_initialized():
        yield nodes()
        return
    address = os.environ.get("RAY_ADDRESS") or "local"
    try:
        ray.init(
            address=address,
            job_config=_job_config(address),
            include_dashboard=False if address == "local" else None,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise UsageError("RAY_ADDRESS", address, f"a cluster that answers ({error})") from None
    try:
        with _terminable():
            yield nodes()
    finally:
        ray.shutdown()


class _Folders(list[str]):
    """Where Ray has workers import from first of all: not from the folder that the command is given in.

    A file `torch.py` in it would be run, and it may be a run of somebody else's. Actors are told where the driver
    imports from; there this folder is the last, where code in it was asked for, and else it is none.
    """

    def extend(self, folders: Iterable[str]) -> None:
        super().extend(folder for folder in folders if folder != os.getcwd())


def _job_config(address: str) -> Any:
    """What workers are told of the driver; None, Ray's own, for its client, which adds no folder."""
    if "://" in address:
        return None
    config = JobConfig()
    config._py_driver_sys_path = _Folders()  # Ray has no option for it
    return config


@contextmanager
def _terminable() -> Iterator[None]:
    """Lets SIGTERM end the command as SIGINT does, to be resumed; Ray's own handler would exit with 15."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(EXIT_INTERRUPTED))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def nodes() -> list[Mapping[str, float]]:
    """Resources of each node that is alive, such as ``{"CPU": 8, "GPU": 1}``."""
    known: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    return [node["Resources"] for node in known if node["Alive"]]
