"""A model made ready for work on its device: an optimised copy of it, at the micro-batch that is fastest there."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from ssig.allocator import keep_memory, return_memory
from ssig.models import Model
from ssig.optimise import Compile, optimised
from ssig.replica import Replica
from ssig.tuning import TuningCache, TuningKey, tune
from ssig.types import SCORE_AND_GRADIENT

# What tuning may take, in seconds, or in points of the first micro-batch where those are slow.
TUNING_SECONDS, TUNING_POINTS = 10.0, 40
LARGEST_ON_CPU, LARGEST = 16, 1024
_SEED = 0  # of the noise that the replica is proved and timed on


def ready_replica(
    model: Model,
    *,
    micro_batch: int | None = None,
    compile: Compile = "none",
    sizes: TuningCache | None = None,
    timer: Callable[[], float] = time.perf_counter,
) -> Replica:
    """A replica of an optimised copy of `model`, on the model's device.

    For a model on the CPU the process keeps freed memory from now on (`ssig.allocator`).

    Args:
        model: the network; it is left as it is.
        micro_batch: points evaluated at once; by default the fastest, which `sizes` knows or a measurement finds.
        compile: whether by `torch.compile` too, and how (`ssig.optimise`).
        sizes: micro-batches found before; what is found here is added.
        timer: a clock, in seconds.

    Raises:
        UsageError: an unknown kind of compilation.
        ModelError: the network cannot be compiled.
        torch.OutOfMemoryError: a single point does not fit the device.
    """
    if model.device.type == "cpu":
        keep_memory()
    generator = torch.Generator().manual_seed(_SEED)
    noise = torch.rand(1, len(model.mean), *model.input_size, generator=generator).to(model.device)
    fast = optimised(model, noise, precision=model.precision, compile=compile).network
    replica = Replica(fast, device=model.device, micro_batch=micro_batch)
    if micro_batch is not None:
        return replica
    name = f"{model.name} {model.weights_hash[:12]} {compile}"
    key = TuningKey(name, _device(model.device), model.precision, model.input_size)
    known = sizes.get(key) if sizes is not None else None

    def evaluate(size: int) -> None:
        replica.micro_batch = size
        points = noise.expand(size, -1, -1, -1)
        replica.evaluate(points, torch.zeros(size, dtype=torch.int64), "logit", SCORE_AND_GRADIENT)
        if model.device.type == "cuda":
            torch.cuda.synchronize(model.device)
        if replica.micro_batch < size:  # halved on the way
            raise torch.OutOfMemoryError

    if known is None:
        # The CPU has no error for memory that is used up, and its caches are small.
        largest = LARGEST_ON_CPU if model.device.type == "cpu" else LARGEST
        tuned = tune(evaluate, timer=timer, seconds=TUNING_SECONDS, points=TUNING_POINTS, largest=largest)
        known = tuned.micro_batch
        if sizes is not None:
            sizes.put(key, known)
        if model.device.type == "cpu":
            return_memory()  # of the sizes that were tried
    replica.micro_batch = known
    return replica


def _device(device: torch.device) -> str:
    """What the best micro-batch depends on: the sort of device, the threads, and the version of torch."""
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
    else:
        name = f"{torch.backends.cpu.get_cpu_capability()} CPU, {torch.get_num_threads()} threads"
    return f"{name}, torch {torch.__version__}"
