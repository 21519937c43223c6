"""The Ray cluster that a run works on."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import ray

from pipeline.summary import EXIT_INTERRUPTED
from ssig.errors import UsageError


@contextmanager
def cluster() -> Iterator[list[Mapping[str, float]]]:
    """Ray, joined or started, and the resources of its nodes; stopped afterwards if it was started here."""
    if ray.is_initialized():
        yield nodes()
        return
    try:
        ray.init(
            address=os.environ.get("RAY_ADDRESS"),
            include_dashboard=False if "RAY_ADDRESS" not in os.environ else None,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise UsageError("RAY_ADDRESS", os.environ.get("RAY_ADDRESS"), f"a cluster that answers ({error})") from None
    try:
        with _terminable():
            yield nodes()
    finally:
        ray.shutdown()


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
