"""What a device beside the CPU needs: marks in its queue of work, page-locked copies, and memory given back.

An accelerator computes later than the program asks for it: a call puts work into the device's queue and returns. A
`Mark` is a place in that queue. Whoever needs what stands before it waits for the mark, and the seconds between two
marks are those that the device took. On the CPU a mark is a time, and nobody waits.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor

from ssig.errors import UsageError
from ssig.estimators.transfer import buffer


def is_accelerator(device: torch.device) -> bool:
    """Whether the device has a memory and a queue of its own."""
    return device.type != "cpu"


class Mark(Protocol):
    """A place in a device's queue of work."""

    def reached(self) -> bool:
        """Whether all work before it is done; does not wait."""

    def wait(self) -> None:
        """Waits until all work before it is done."""

    def until(self, later: Any) -> float:
        """Seconds from here to a later mark of the same device; waits for both."""


class HostMark:
    """A mark of a device that computes at once."""

    def __init__(self, device: torch.device) -> None:
        self.time = time.perf_counter()

    def reached(self) -> bool:
        return True

    def wait(self) -> None:
        pass

    def until(self, later: HostMark) -> float:
        return later.time - self.time


class EventMark:
    """A CUDA event in the device's current stream. Threads that wait for it sleep."""

    def __init__(self, device: torch.device) -> None:
        events: Any = torch.cuda.Event
        with torch.cuda.device(device):
            self.event = events(enable_timing=True, blocking=True)
            self.event.record()

    def reached(self) -> bool:
        return bool(self.event.query())

    def wait(self) -> None:
        self.event.synchronize()

    def until(self, later: EventMark) -> float:
        later.wait()
        return float(self.event.elapsed_time(later.event)) / 1000


# Other devices, such as those of extensions of torch, compute as far as is known at once.
MARKS: dict[str, Callable[[torch.device], Mark]] = {"cuda": EventMark}


def mark(device: torch.device) -> Mark:
    """A mark behind all work that this thread has given to the device so far."""
    return MARKS.get(device.type, HostMark)(device)


def to_host(tensor: Tensor) -> Tensor:
    """A tensor's copy on the CPU, whole as soon as a mark that is set later is reached; the tensor itself if there."""
    if tensor.device.type != "cuda":
        return tensor.cpu()
    return buffer(tensor.shape, tensor.dtype, tensor.device).copy_(tensor, non_blocking=True)


def release_memory(device: torch.device) -> None:
    """Gives memory that the device's allocator holds unused back to the device."""
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.empty_cache()


def forget(error: BaseException) -> None:
    """Lets go of the tensors in the frames that an error came through, so that their memory is free again."""
    while True:
        traceback.clear_frames(error.__traceback__)
        if error.__context__ is None:
            return
        error = error.__context__


def usable(device: torch.device | str) -> torch.device:
    """A device by its name, with its number.

    Raises:
        UsageError: it is no device, or this machine has none such.
    """
    try:
        return torch.empty(0, device=torch.device(device)).device
    except Exception as error:  # drivers and extensions raise what they like
        reason = " ".join(str(error).split()).partition(". ")[0]
        allowed = f"a device that torch finds here, such as cpu, cuda or cuda:1 ({reason[:200]})"
        raise UsageError("device", str(device), allowed) from None
