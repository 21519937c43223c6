"""The Ray actor: a worker with one replica, pinned to its device.

`max_restarts=0, max_task_retries=0`: Ray's own retries would hide which call died. Several calls run at once, so that
units are read or written while another is on the device.
"""

from __future__ import annotations

import os
import re
import socket
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any, TypeVar

import ray
import torch
from ray.exceptions import RayError, RayTaskError

from pipeline.driver.executor import calls_at_once
from pipeline.driver.jemalloc import preloaded
from pipeline.driver.ray_cluster import nodes
from pipeline.driver.resources import threads_on
from pipeline.storage import open_storage
from pipeline.unit.health import Health, is_device_error
from pipeline.unit.messages import DeviceFailedError, Done, Task
from pipeline.unit.placement import device_for
from pipeline.unit.setup import WorkerSetup, described, set_up
from ssig.errors import SsigError, UsageError, message_line, one_line

# Concurrency groups: for calls that are answered during other work, and for the call that never returns.
STATUS, WATCH = "status", "watch"
# After an error of its device an actor ends by itself after so many seconds, if the driver does not end it before.
END_SECONDS = 30.0

Result = TypeVar("Result")


class AttributionActor:
    """A worker in an actor, which loads its replica once.

    Args:
        setup: what the worker is made from. If its code differs from the driver's, `ready` raises.
        measuring: of an actor that only measures, on the CPU, its threads; 0 of any other.
    """

    def __init__(self, setup: WorkerSetup, measuring: int = 0) -> None:
        sys.path.extend(entry for entry in setup.path if entry not in sys.path)
        self.refused: SsigError | None = None
        self.gpus = [] if measuring else [str(gpu) for gpu in ray.get_gpu_ids()]
        self.run = setup.run
        try:
            setup.activate()
            on_gpu = not measuring and device_for(setup.device, has_gpu=bool(self.gpus)) != "cpu"
            setup = setup.measuring(measuring) if measuring else _filled(setup)
            torch.set_num_threads(setup.threads)
            self._set_up(setup, on_gpu)
        except (UsageError, DeviceFailedError) as error:
            self.refused = error

    def _set_up(self, setup: WorkerSetup, on_gpu: bool) -> None:
        """Makes the worker, and checks its device."""
        name = f"GPU {', '.join(self.gpus)} of {socket.gethostname()}" if self.gpus else socket.gethostname()
        try:
            self.worker = set_up(setup, on_gpu=on_gpu)
        except Exception as error:
            if is_device_error(error):
                raise DeviceFailedError(f"{name} failed: {one_line(error)}", begun=False) from None
            raise
        self.health = Health(self.worker.device, setup.known, name)
        self.health.check()

    def ready(self) -> dict[str, Any]:
        """Where this actor is; returns when the replica is loaded.

        Raises:
            UsageError: code that the job names differs from the driver's, or does not run; or CUDA is asked for and
                cannot be used here.
            DeviceFailedError: the device does not compute what the CPU does.
        """
        if self.refused is not None:
            raise self.refused
        node = ray.get_runtime_context().get_node_id()
        gpu = f"GPU {', '.join(self.gpus)} of node {node}" if self.gpus else None
        return {**described(self.worker), "node": node, "gpus": self.gpus, "gpu": gpu}

    def sees(self, name: str) -> bool:
        """Whether a file that the driver has just written is here too."""
        return open_storage(self.run).entry(name) is not None

    def under_way(self) -> float:
        """How many maps are computed but not committed."""
        return self.worker.under_way

    def watch(self) -> None:
        """Never returns. Its failure shows that this actor has ended, even without work."""
        threading.Event().wait()

    def process(self, task: Task) -> Done:
        return self._guarded(self.worker.process, task)

    def probe(self, task: Task) -> None:
        self._guarded(self.worker.probe, task)

    def _guarded(self, do: Callable[[Task], Result], task: Task) -> Result:
        """Does a task; once the device has failed, this process ends."""
        try:
            return self.health.guarded(do, task)
        except DeviceFailedError:
            # The driver ends this process when it reads the answer; should the driver have ended, nobody does.
            timer = threading.Timer(END_SECONDS, os._exit, (1,))
            timer.daemon = True
            timer.start()
            raise


def _filled(setup: WorkerSetup) -> WorkerSetup:
    """The setup with this node's threads, where an actor takes its share of the node that it is on."""
    if not setup.fills:
        return setup
    node = nodes().get(ray.get_runtime_context().get_node_id(), {})
    return replace(setup, threads=threads_on(node, setup.gpu_share, setup.threads))


def remote_class(
    actor: type, num_cpus: float, num_gpus: float, marks: Mapping[str, float] = MappingProxyType({})
) -> Any:
    """`AttributionActor`, or a class that answers the same calls, as a remote class with its resources.

    Args:
        actor: the class.
        num_cpus, num_gpus: cores and GPUs of each.
        marks: further resources that its node must have.
    """
    remote: Any = ray.remote(concurrency_groups={STATUS: 1, WATCH: 1})  # type: ignore[call-overload]
    environment = preloaded() if num_gpus == 0 else {}
    return remote(actor).options(
        num_cpus=num_cpus,
        num_gpus=num_gpus,
        resources=dict(marks),
        max_restarts=0,
        max_task_retries=0,
        max_concurrency=calls_at_once(on_gpu=num_gpus > 0),
        runtime_env={"env_vars": environment} if environment else None,
    )


def reason_of(error: RayError) -> str:
    """Why a call failed, on one line: the Python error behind Ray's, or what Ray knows of a process that died."""
    if isinstance(error, RayTaskError) and isinstance(error.cause, Exception):
        return one_line(error.cause)
    text = str(error).strip()
    first = text.partition("\n")[0].strip()
    if first == text or ' File "' in text:
        return message_line(text)
    detail = re.search(r"Worker exit detail: (.*?)(?:\. |\n|$)", text)
    return first if detail is None else f"{first} {detail[1].rstrip('.')}."
