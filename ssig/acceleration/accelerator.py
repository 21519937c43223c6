"""What this package asks of a device: to finish, how long a call takes, and which device it is."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from ssig.engine.graphs import Seconds


def synchronise(device: torch.device) -> None:
    """Waits until a device has finished; on the CPU every call has when it returns."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def elapsed(device: torch.device, call: Callable[[], object]) -> Seconds:
    """Seconds of a call on a device, which has nothing else to do."""
    synchronise(device)
    start = time.perf_counter()
    call()
    launched = time.perf_counter()
    synchronise(device)
    return Seconds(launched - start, time.perf_counter() - start)


def keep_to_share(device: torch.device, share: float) -> None:
    """Limits this process to a part of a GPU's memory: beyond it, `torch.OutOfMemoryError` is raised here.

    Without the limit, the first of two actors on one GPU tunes itself to all of the memory.
    """
    if device.type == "cuda" and 0 < share < 1:
        torch.cuda.set_per_process_memory_fraction(share, device)


def usable_gib(device: torch.device) -> str:
    """The memory of a GPU, and the part of it that this process may use."""
    size = torch.cuda.get_device_properties(device).total_memory / 2**30
    return f"{torch.cuda.get_per_process_memory_fraction(device):.3g} of {size:.0f} GiB"


def physical_name(device: torch.device) -> str | None:
    """The name of the one device in the world on which a process should measure alone; None for the CPU.

    Actors on a CPU share its caches and its memory for as long as they run, so they measure beside each other too:
    what is fastest on a quiet machine is not what is fastest there. Beside each other on one GPU, each would time the
    kernels of the other, in an order of the driver's choice.
    """
    if device.type != "cuda":
        return None
    return f"GPU-{torch.cuda.get_device_properties(device).uuid}"
