"""The Ray actor, one replica pinned to its device, and the pool of them.

`max_restarts=0, max_task_retries=0`: Ray's own retries would hide which call died. Two calls run at once, so that one
unit is read or written while another is on the device.
"""

from __future__ import annotations

import os
import re
import socket
import sys
import threading
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import pyarrow as pa
import ray
import torch
from ray.exceptions import RayError, RayTaskError

from pipeline.driver.jemalloc import preloaded
from pipeline.driver.telemetry import memory
from pipeline.run.labels import Label
from pipeline.storage import open_storage
from pipeline.unit.caches import cache_folder, known_sizes, remember_sizes
from pipeline.unit.messages import Done, Task
from pipeline.unit.worker import Worker, may_change_network
from ssig.acceleration.optimise import Compile
from ssig.acceleration.ready_replica import ready_replica
from ssig.errors import UsageError, said, told
from ssig.metrics.information.processes import beside_a_gpu
from ssig.models import ModelState, restore
from ssig.registry import Source
from ssig.registry.sources import activate

CALLS_AT_ONCE = 2
# Concurrency groups: of calls that are answered while others are at work, and of the one that never is.
STATUS, WATCH = "status", "watch"


class AttributionActor:
    """Loads its replica once, from weights in the object store.

    Args:
        state: the exported network.
        labels: the run's labels by method label.
        run: URL or path of the run.
        seed: of the run.
        micro_batch: points evaluated at once, or None for the fastest.
        compile: how the network is compiled (`ssig.acceleration.optimise`).
        threads: CPU threads of this actor.
        path: where the driver imports from: a `module:callable` network may be there.
        worker: what does the tasks.
        sources: of the methods and metrics that are not ssig's own. Where one is another here than on the driver,
            `ready` says so.
    """

    def __init__(
        self,
        state: ModelState,
        labels: Mapping[str, Label],
        run: str,
        seed: int,
        micro_batch: int | None,
        compile: Compile,
        threads: int,
        path: Sequence[str] = (),
        worker: type[Worker] = Worker,
        sources: Sequence[Source] = (),
    ) -> None:
        sys.path.extend(entry for entry in path if entry not in sys.path)
        self.refused: UsageError | None = None
        try:
            activate([*sources, *([] if state.source is None else [state.source])])
        except UsageError as error:
            self.refused = error
            return
        torch.set_num_threads(threads)
        # Logical GPUs on a machine without CUDA compute on the CPU.
        on_gpu = bool(ray.get_gpu_ids()) and torch.cuda.is_available()
        device = "cuda" if on_gpu else "cpu"
        if on_gpu:
            beside_a_gpu(threads)
        model = restore(state, device=device)
        sizes = known_sizes(cache_folder())
        replica = ready_replica(model, micro_batch=micro_batch, compile=compile, keep=layers(labels), sizes=sizes)
        remember_sizes(cache_folder(), sizes)
        self.run = run
        pa.array([""])  # Arrow looks for pandas with its first array: half a second now, or of the device's time
        # The weights are held for as long as the actor lives, so only where a metric may ask for them.
        fresh = partial(restore, state, device=device) if any(map(may_change_network, labels.values())) else None
        self.worker = worker(replica, labels, run, seed, fresh)

    def ready(self) -> dict[str, Any]:
        """Where this actor is; returns when the replica is loaded.

        Raises:
            UsageError: code that the job names is another here than on the driver, or does not run.
        """
        if self.refused is not None:
            raise self.refused
        context = ray.get_runtime_context()
        replica = self.worker.device.replica
        held = memory()
        return {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "node": context.get_node_id(),
            "gpus": [str(gpu) for gpu in ray.get_gpu_ids()],
            "device": str(replica.device),
            "micro_batch": replica.micro_batch,
            "threads": torch.get_num_threads(),
            "resident_bytes": held.resident if held else None,
        }

    def sees(self, name: str) -> bool:
        """Whether a file that the driver has just written is here too."""
        return open_storage(self.run).entry(name) is not None

    def under_way(self) -> float:
        """How many maps are computed but not committed."""
        return self.worker.under_way

    def watch(self) -> None:
        """Never returns: that it fails tells of this actor's end, even if it had nothing to do."""
        threading.Event().wait()

    def process(self, task: Task) -> Done:
        return self.worker.process(task)

    def probe(self, task: Task) -> None:
        self.worker.probe(task)


def layers(labels: Mapping[str, Label]) -> list[str]:
    """The layers that methods ask for by name, whose outputs must be what their names say."""
    options = [label.config["method"]["options"] for label in labels.values()]
    return sorted({str(given["layer"]) for given in options if given.get("layer")})


def remote_class(actor: type, num_cpus: float, num_gpus: float) -> Any:
    """`AttributionActor`, or a class that answers the same calls, as a remote class with its resources."""
    remote: Any = ray.remote(concurrency_groups={STATUS: 1, WATCH: 1})  # type: ignore[call-overload]
    environment = preloaded() if num_gpus == 0 else {}
    return remote(actor).options(
        num_cpus=num_cpus,
        num_gpus=num_gpus,
        max_restarts=0,
        max_task_retries=0,
        max_concurrency=CALLS_AT_ONCE,
        runtime_env={"env_vars": environment} if environment else None,
    )


def reason_of(error: RayError) -> str:
    """Why a call failed, on one line: the Python error behind Ray's, or what Ray knows of a process that died."""
    if isinstance(error, RayTaskError) and isinstance(error.cause, Exception):
        return told(error.cause)
    text = str(error).strip()
    first = text.partition("\n")[0].strip()
    if first == text or ' File "' in text:
        return said(text)
    detail = re.search(r"Worker exit detail: (.*?)(?:\. |\n|$)", text)
    return first if detail is None else f"{first} {detail[1].rstrip('.')}."
