"""What this package asks of a device: to finish, to return memory, and how long a call takes. The CPU needs none."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from ssig.engine.graphs import Seconds


def synchronise(device: torch.device) -> None:
    """Waits until a device has finished; on the CPU every call has when it returns."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def release_memory(device: torch.device) -> None:
    """Returns a GPU's unused memory, for recordings and other processes; does nothing on the CPU."""
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.empty_cache()


def elapsed(device: torch.device, call: Callable[[], object]) -> Seconds:
    """Seconds of a call on a device, which has nothing else to do."""
    synchronise(device)
    start = time.perf_counter()
    call()
    launched = time.perf_counter()
    synchronise(device)
    return Seconds(launched - start, time.perf_counter() - start)
