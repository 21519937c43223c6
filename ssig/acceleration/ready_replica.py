"""A model made ready for its device: an optimised copy, at the fastest setting."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection

import torch
from torch import Tensor, nn

from ssig.acceleration.accelerator import elapsed, physical_name, synchronise, usable_gib
from ssig.acceleration.allocator import keep_memory, return_memory
from ssig.acceleration.choice import Stopwatch
from ssig.acceleration.cuda_graphs import TOLERANCES, CudaRecorder
from ssig.acceleration.optimise import Compile, optimised
from ssig.acceleration.tuning import Setting, TuningCache, TuningKey, tune
from ssig.engine.accelerators import release_memory
from ssig.engine.graphs import Graphs
from ssig.engine.lanes import Lanes, lanes_for
from ssig.engine.replica import GPU_MICRO_BATCH, Replica
from ssig.errors import ModelError, UsageError
from ssig.models import Model
from ssig.types import SCORE_AND_GRADIENT

LOG = logging.getLogger(__name__)

# The time of tuning in seconds; for slow networks in points of the first micro-batch.
TUNING_SECONDS, TUNING_POINTS = 10.0, 40
LARGEST_ON_CPU, LEAST_IN_LANE, LARGEST = 16, 4, 1024
# Factor in favour of lanes: each calling thread needs its own OpenMP pool for one lane, but not for lanes.
FAVOUR = 1.15
SEED = 0  # of the noise for verifying and timing the replica


def ready_replica(
    model: Model,
    *,
    micro_batch: int | None = None,
    compile: Compile = "none",
    keep: Collection[str] = (),
    sizes: TuningCache | None = None,
    timer: Callable[[], float] = time.perf_counter,
) -> Replica:
    """A replica of an optimised copy of `model`, on the model's device.

    For a model on the CPU the process keeps freed memory from now on (`ssig.acceleration.allocator`).

    Args:
        model: the network; it is not changed.
        micro_batch: points evaluated at once, on the CPU in as many lanes as there are threads; by default the
            fastest, from `sizes` or by a measurement.
        compile: ``none``, ``default`` for `torch.compile`, or ``cuda-graphs`` for recorded passes on a GPU
            (`ssig.engine.graphs`); on the CPU ``cuda-graphs`` is ``none``, and a warning says so.
        keep: submodules whose outputs must not change (`ssig.acceleration.optimise`).
        sizes: settings found before; a new setting is added.
        timer: a clock, in seconds.

    Raises:
        UsageError: an unknown kind of compilation, or a micro-batch that the network does not take.
        ModelError: the network cannot be compiled.
        torch.OutOfMemoryError: a single point does not fit the device.
    """
    if compile == "cuda-graphs" and model.device.type != "cuda":
        LOG.warning("%s runs without CUDA graphs (actors.compile: cuda-graphs): they need a GPU", model.name)
        compile = "none"
    replica, lanes, noise = prepared(model, micro_batch=micro_batch, compile=compile, keep=keep)
    if micro_batch is not None or not replica.takes_batches:
        replica.lanes = lanes
        return replica
    name = f"{model.name} {model.weights_hash[:12]} {compile}"
    key = TuningKey(name, _kind(model.device), model.precision, model.input_size)
    setting = (sizes or TuningCache()).find(
        key, physical_name(model.device), lambda: fastest(replica, lanes, noise, timer)
    )
    replica.micro_batch, replica.lanes = setting.micro_batch, lanes if setting.lanes > 1 else None
    return replica


def noise_for(model: Model) -> Tensor:
    """(1, C, H, W), always the same, to verify and time a network on its device."""
    generator = torch.Generator().manual_seed(SEED)
    noise = torch.rand(1, len(model.mean), *model.input_size, generator=generator)
    return noise.to(model.device, model.mean.dtype)


def prepared_copy(network: nn.Module, *, keep: Collection[str] = ()) -> nn.Module | None:
    """An optimised copy of a network that is explained beside a run's own, such as one with random layers.

    None where none is made: on a GPU its memory is the run's, and a network must be a `Model` to be verified.
    """
    if not isinstance(network, Model) or network.device.type != "cpu":
        return None
    fast = optimised(network, noise_for(network), precision=network.precision, keep=keep)
    return None if fast.network is network else fast.network


def prepared(
    model: Model, *, micro_batch: int | None = None, compile: Compile = "none", keep: Collection[str] = ()
) -> tuple[Replica, Lanes | None, Tensor]:
    """A replica of an optimised copy of `model`, its possible lanes, and noise (1, C, H, W) to time it on.

    Args:
        model, micro_batch, compile, keep: as in `ready_replica`.
    """
    if model.device.type == "cpu":
        keep_memory()
    noise = noise_for(model)
    stopwatch = None
    if model.device.type == "cuda":
        stopwatch = Stopwatch(
            points=micro_batch or GPU_MICRO_BATCH, seconds=lambda call: elapsed(model.device, call).finished
        )
    fast = optimised(model, noise, precision=model.precision, keep=keep, compile=compile, stopwatch=stopwatch)
    for sentence in fast.left_out:
        LOG.warning("%s runs without %s", model.name, sentence)
    batches = fast.batches and not model.one_at_a_time
    if not batches:
        if micro_batch is not None and micro_batch > 1:
            raise UsageError("micro_batch", micro_batch, "1: the network takes no batch of 2")
        LOG.warning("%s takes no batch of 2: its points are evaluated one by one", model.name)
        micro_batch = 1
    replica = Replica(fast.network, device=model.device, micro_batch=micro_batch, layout=fast.layout)
    replica.keep, replica.takes_batches = tuple(keep), batches
    if compile == "cuda-graphs":
        replica.graphs = Graphs(CudaRecorder(model.device), TOLERANCES[model.precision])
    threads = torch.get_num_threads()
    count = lanes_for(threads) if model.device.type == "cpu" and compile == "none" and batches else 1
    lanes = None
    if count > 1 and fast.network is not model:  # a network that cannot be copied has no lanes
        try:
            lanes = Lanes(fast.network, count, threads)
        except ModelError as error:
            LOG.warning("%s runs in one lane: %s", model.name, error)
    return replica, lanes, noise


def fastest(replica: Replica, lanes: Lanes | None, noise: Tensor, timer: Callable[[], float]) -> Setting:
    """The setting with the most gradients a second at `noise` (1, C, H, W); changes the replica's setting."""
    device = replica.device

    def evaluate(size: int) -> None:
        replica.micro_batch = size
        points = noise.expand(size, -1, -1, -1)
        replica.evaluate(points, torch.zeros(size, dtype=torch.int64), "logit", SCORE_AND_GRADIENT)
        synchronise(device)
        if replica.size(SCORE_AND_GRADIENT) < size:  # halved by the replica
            raise torch.OutOfMemoryError

    candidates = [lanes, None] if lanes is not None else [None]
    rated: list[tuple[float, Setting]] = []
    for candidate in candidates:
        replica.lanes = candidate
        count = 1 if candidate is None else len(candidate)
        # The CPU raises no error when memory is used up, and its caches are small.
        largest = max(LARGEST_ON_CPU, LEAST_IN_LANE * count) if device.type == "cpu" else LARGEST
        tuned = tune(
            evaluate,
            timer=timer,
            seconds=TUNING_SECONDS / len(candidates),
            points=TUNING_POINTS // len(candidates),
            largest=largest,
            first=count,
        )
        if tuned.out_of_memory is not None:  # only here, after the error has released its tensors
            release_memory(device)
        rated.append((tuned.rate * (1 if candidate is None else FAVOUR), Setting(tuned.micro_batch, count)))
    if replica.graphs is not None:
        replica.graphs.clear()  # recorded again on the thread that uses them, at one size
    if device.type == "cpu":
        return_memory()  # after trying several sizes
    return max(rated, key=lambda pair: pair[0])[1]


def _kind(device: torch.device) -> str:
    """The device in a `TuningKey`: its kind, its usable memory or its threads, and the version of torch."""
    if device.type == "cuda":
        name = f"{torch.cuda.get_device_name(device)}, {usable_gib(device)}"
    else:
        name = f"{torch.backends.cpu.get_cpu_capability()} CPU, {torch.get_num_threads()} threads"
    return f"{name}, torch {torch.__version__}"
