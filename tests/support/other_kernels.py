"""Rounds as another machine might: each layer's result differs in its last bits by an image's place in its batch.

Libraries promise nothing about the last bits of equal points in different batches, threads or processors. On one
machine they are often equal all the same; a test that counts on it passes there and fails on the next.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook
from torch.utils.hooks import RemovableHandle

UNITS = 4  # of the last place, at most


def round_otherwise() -> RemovableHandle:
    """Lets every module without submodules round otherwise from now on; the handle's `remove` ends it."""
    return register_module_forward_hook(_rounded)


def _rounded(module: nn.Module, inputs: Any, output: Any) -> Any:
    if torch.jit.is_tracing() or torch.compiler.is_compiling():  # what is recorded here would be there for good
        return None
    if not isinstance(output, Tensor) or not output.is_floating_point() or next(module.children(), None) is not None:
        return None
    if output.dtype not in (torch.float32, torch.float64):  # of few digits, these would not be the last
        return None
    if output.ndim < 2 or not any(True for _ in module.parameters(recurse=False)):
        return None
    count = len(output)
    places = torch.arange(count, device=output.device, dtype=torch.float64) + 7 * count
    shift = UNITS * torch.finfo(output.dtype).eps * torch.sin(places)
    return output * (1 + shift).to(output.dtype).view(-1, *[1] * (output.ndim - 1))
