"""On which device a worker computes, and why CUDA cannot be used where it is asked for."""

from __future__ import annotations

import os
import socket
from typing import Literal

import torch

from pipeline.unit.messages import NoCudaError
from ssig.errors import message_line

Wish = Literal["auto", "cuda", "cpu"]


def device_for(wish: Wish, *, has_gpu: bool) -> str:
    """``cuda`` or ``cpu``: where a worker computes.

    Args:
        wish: `actors.device`.
        has_gpu: whether a GPU is set aside for the worker, or asked for by a number.

    Raises:
        NoCudaError: a GPU is wanted, and CUDA cannot be used in this process.
    """
    if wish == "cpu" or (wish == "auto" and not has_gpu):
        return "cpu"
    why = cuda_fault()
    if why is None:
        return "cuda"
    raise NoCudaError(
        "actors.device",
        wish,
        f"cpu, since CUDA cannot be used on {socket.gethostname()} ({why}); to compute on the CPU type "
        "--set actors.device=cpu",
    )


def cuda_fault() -> str | None:
    """Why CUDA cannot be used in this process; None if it can."""
    if torch.version.cuda is None and torch.version.hip is None:
        return f"torch {torch.__version__} is built without CUDA: install a build of torch with CUDA"
    if torch.cuda.is_available():
        return None
    try:
        torch.cuda.init()  # type: ignore[no-untyped-call]
    except Exception as error:  # torch raises RuntimeError, AssertionError or AcceleratorError
        return f"torch says: {message_line(str(error)).partition('. ')[0].rstrip('.')}{_hidden()}"
    return f"no GPU is visible to this process{_hidden()}"


def _hidden() -> str:
    """Names the variable that hides GPUs from CUDA, if it is set."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return "" if visible is None else f"; CUDA_VISIBLE_DEVICES={visible!r}"
