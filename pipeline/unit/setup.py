"""Makes a worker with a ready replica from the settings of a driver, in any process."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import pyarrow as pa
import torch

from pipeline.run.labels import Label
from pipeline.unit.beside_device import decoders, take_turns_quickly
from pipeline.unit.caches import StoredSizes, cache_folder
from pipeline.unit.health import KnownPoint
from pipeline.unit.memory import memory
from pipeline.unit.placement import Wish
from pipeline.unit.worker import Worker, may_change_network
from ssig.acceleration.accelerator import keep_to_share
from ssig.acceleration.optimise import Compile
from ssig.acceleration.ready_replica import ready_replica
from ssig.metrics.information.processes import beside_a_gpu
from ssig.models import ModelState, restore
from ssig.registry import METHODS, METRICS, Source
from ssig.registry.sources import activate


@dataclass(frozen=True)
class WorkerSetup:
    """What a worker is made from.

    Attributes:
        state: the exported network.
        labels: the run's labels by method label.
        run: URL or path of the run.
        seed: of the run.
        micro_batch: points evaluated at once, or None for the fastest.
        compile: how the network is compiled (`ssig.acceleration.optimise`).
        gpu_share: the part of its GPU that the worker may use; 0 without a GPU.
        threads: CPU threads of the worker.
        fills: whether a worker with a GPU computes with its share of its node's cores, where that is more.
        path: the driver's import path, where a `module:callable` network may lie.
        sources: of the methods and metrics that are not ssig's own.
        device: `actors.device`.
        known: what the CPU computes at a known point, for the self-check of a device; None for no such check.
    """

    state: ModelState
    labels: Mapping[str, Label]
    run: str
    seed: int
    micro_batch: int | None = None
    compile: Compile = "none"
    gpu_share: float = 1.0
    threads: int = 1
    fills: bool = False
    path: tuple[str, ...] = ()
    sources: tuple[Source, ...] = ()
    device: Wish = "auto"
    known: KnownPoint | None = None

    def measuring(self, threads: int) -> WorkerSetup:
        """That of a worker without a GPU which measures maps of others.

        Args:
            threads: CPU threads of the worker.
        """
        return replace(
            self,
            micro_batch=None if self.gpu_share else self.micro_batch,
            compile="none",
            gpu_share=0.0,
            threads=threads,
            fills=False,
            device="cpu",
            known=None,
        )

    def activate(self) -> None:
        """Resolves the code that is not ssig's own: methods, metrics and the network.

        Raises:
            UsageError: it differs from the driver's, or does not run.
        """
        activate([*self.sources, *([] if self.state.source is None else [self.state.source])])


def set_up(setup: WorkerSetup, *, on_gpu: bool) -> Worker:
    """A worker, with its replica loaded and tuned.

    Args:
        setup: what it is made from.
        on_gpu: whether it computes on the first GPU that this process sees.
    """
    device = "cuda" if on_gpu else "cpu"
    if on_gpu:
        beside_a_gpu(setup.threads)
        take_turns_quickly()
    model = restore(setup.state, device=device)
    keep_to_share(model.device, setup.gpu_share)
    replica = ready_replica(
        model,
        micro_batch=setup.micro_batch,
        compile=setup.compile,
        keep=layers(setup.labels),
        sizes=StoredSizes(cache_folder()),
    )
    pa.array(
        [""]
    )  # Arrow looks for pandas with its first array: half a second, now rather than while the device waits
    # A copy of the weights stays in memory, so only where a metric may need it.
    may_change = any(map(may_change_network, setup.labels.values()))
    fresh = partial(restore, setup.state, device=device) if may_change else None
    return Worker(replica, setup.labels, setup.run, setup.seed, fresh, decoders(setup.threads, on_gpu))


def described(worker: Worker) -> dict[str, Any]:
    """Where a worker is and how it computes, for the log."""
    usage = memory()
    return {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "device": str(worker.device.replica.device),
        "micro_batch": worker.device.replica.micro_batch,
        "threads": torch.get_num_threads(),
        "resident_bytes": usage.resident if usage else None,
    }


def sources_of(labels: Sequence[Label]) -> tuple[Source, ...]:
    """Where the methods and metrics of labels come from that are not ssig's own, each once."""
    sources: dict[Source, None] = {}
    for label in labels:
        methods = [] if label.evaluation is not None else [METHODS.source(label.settings.method.name)]
        for source in (*methods, *map(METRICS.source, label.settings.metrics)):
            if source is not None:
                sources[source] = None
    return tuple(sources)


def layers(labels: Mapping[str, Label]) -> list[str]:
    """The layers that methods name: their outputs must stay as they are."""
    options = [label.settings.method.options for label in labels.values()]
    return sorted({str(method_options["layer"]) for method_options in options if method_options.get("layer")})
