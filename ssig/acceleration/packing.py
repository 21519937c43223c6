"""Faster forms of frozen layers on the CPU.

    packed_linear       linear layers
    packed_lrn          in float32, local response normalisation
    packed_pointwise    in float32, convolutions of one pixel
    strided_depthwise   in bf16, depthwise convolutions with a stride

A faster form is tried on example values, on one thread, as some forms leave more of them to the library. It is used if
its outputs and gradients equal the library's; otherwise the layer is not changed.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn

from ssig.acceleration.operators import AlignedConv, working_type
from ssig.acceleration.packed_linear import PackedLinear
from ssig.acceleration.packed_lrn import PackedLrn
from ssig.acceleration.packed_pointwise import PackedPointwise
from ssig.acceleration.strided_depthwise import StridedDepthwise

LOG = logging.getLogger(__name__)

Packed = PackedLinear | PackedLrn | PackedPointwise | StridedDepthwise

# Relative L2 distances of outputs and gradients from the library's: above rounding, below the error of a wrong tap.
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 1e-2}
ROUNDINGS = 4
# Weights are packed for so many points at once.
TYPICAL_BATCH = 4


def packed(layer: nn.Module, values: Tensor) -> Packed | None:
    """The faster form of a layer; None if there is none or its results differ.

    Args:
        layer: a plain `Conv2d`, `Linear` or `LocalResponseNorm`, or an `AlignedConv`.
        values: (B, C, H, W) or (B, ..., I), example values; call under the autocast of later calls.
    """
    dtype = working_type(values)
    if dtype not in TOLERANCE:
        return None
    values = values.detach()[:1]
    try:
        changed = _made(layer, values, dtype)
        if changed is None:
            return None
        with one_thread():
            actual, expected = _answers(changed, values), _answers(layer, values)
            sizes = _answers(_absolute(layer), values.abs())
    except (AttributeError, RuntimeError) as error:  # not supported by this processor or this build of torch
        LOG.info("%s is not packed: %s", layer, error)
        return None
    # Terms of both signs may cancel, mostly in a layer with one output: then the terms' sizes bound the rounding.
    same = all(
        (tensor - reference).norm()
        <= max(TOLERANCE[dtype] * reference.norm(), ROUNDINGS * torch.finfo(dtype).eps * size.norm())
        for tensor, reference, size in zip(actual, expected, sizes, strict=True)
    )
    return changed if same else None


@contextmanager
def one_thread() -> Iterator[None]:
    """Lets the body compute on one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _made(layer: nn.Module, values: Tensor, dtype: torch.dtype) -> Packed | None:
    if isinstance(layer, nn.Linear):
        rows = TYPICAL_BATCH * values.shape[:-1].numel()
        return PackedLinear(layer, rows, dtype) if PackedLinear.suits(layer) else None
    if dtype == torch.float32 and values.ndim == 4:
        _, channels, height, width = values.shape
        if isinstance(layer, nn.LocalResponseNorm):
            return PackedLrn(layer, channels, TYPICAL_BATCH * height * width, dtype)
        if isinstance(layer, nn.Conv2d) and PackedPointwise.suits(layer):
            return PackedPointwise(layer, (TYPICAL_BATCH, channels, height, width), dtype)
    if dtype == torch.bfloat16 and StridedDepthwise.suits(layer):
        return StridedDepthwise(cast("nn.Conv2d | AlignedConv", layer))
    return None


def _absolute(layer: nn.Module) -> nn.Module:
    """The layer with the magnitudes of its weights."""
    sizes = copy.deepcopy(layer)
    for parameter in sizes.parameters():
        parameter.data.abs_()
    return sizes


def _answers(layer: Any, values: Tensor) -> list[Tensor]:
    """Output and input gradient, in float64."""
    with torch.enable_grad():
        values = values.clone().requires_grad_()
        result = layer(values)
        # A different weight for each output, in a sequence that does not repeat with rows and columns.
        weights = torch.arange(result.numel()).mul(0.618).remainder(1).view_as(result).to(result.dtype)
        (gradient,) = torch.autograd.grad(result, values, weights)
    return [result.detach().double(), gradient.double()]
