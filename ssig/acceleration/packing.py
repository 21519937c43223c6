"""Layers whose frozen weights are brought into the processor's layout once and not in each call, on the CPU.

Which form a layer takes is said in `ssig.acceleration.packed_conv` and `ssig.acceleration.packed_linear`; here it is
tried. What gives the library's outputs and gradients on the values at hand is taken, anything else is left as it is.
"""

from __future__ import annotations

import logging
from typing import Any, cast

import torch
from torch import Tensor, nn

from ssig.acceleration.operators import AlignedConv, working_type
from ssig.acceleration.packed_conv import PackedConv
from ssig.acceleration.packed_linear import PackedLinear

LOG = logging.getLogger(__name__)

# Relative L2 distances of outputs and gradients from the library's: rounding stays below, a wrong tap does not.
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 1e-2}
# Weights are packed for about so many points at once.
TYPICAL_BATCH = 4


def packed(layer: nn.Module, values: Tensor) -> PackedConv | PackedLinear | None:
    """The packed form of a layer, or None where there is none or it gives something else.

    Args:
        layer: a `Conv2d` or `Linear`, as its class computes it, or an `AlignedConv`.
        values: (B, C, H, W) or (B, ..., I), on which it is tried, under the autocast that it will work under.
    """
    dtype = working_type(values)
    kind = PackedLinear if isinstance(layer, nn.Linear) else PackedConv
    if dtype not in TOLERANCE or not kind.suits(layer):
        return None
    values = values.detach()[:1]
    try:
        changed = _made(layer, values, dtype)
        found, expected = _answers(changed, values), _answers(layer, values)
    except (AttributeError, RuntimeError) as error:  # this processor or this build of torch lacks what it takes
        LOG.info("%s is not packed: %s", layer, error)
        return None
    same = all(
        (one - other).norm() <= TOLERANCE[dtype] * other.norm() for one, other in zip(found, expected, strict=True)
    )
    return changed if same else None


def _made(layer: nn.Module, values: Tensor, dtype: torch.dtype) -> PackedConv | PackedLinear:
    if isinstance(layer, nn.Linear):
        return PackedLinear(layer, TYPICAL_BATCH * values.shape[:-1].numel(), dtype)
    return PackedConv(cast("nn.Conv2d | AlignedConv", layer), (TYPICAL_BATCH, *values.shape[1:]), dtype)


def _answers(layer: Any, values: Tensor) -> list[Tensor]:
    """Output and input gradient, in float64."""
    with torch.enable_grad():
        values = values.clone().requires_grad_()
        result = layer(values)
        # Weights of their own for all outputs, in a row that does not repeat with the rows and columns.
        weights = torch.arange(result.numel()).mul(0.618).remainder(1).view_as(result).to(result.dtype)
        (gradient,) = torch.autograd.grad(result, values, weights)
    return [result.detach().double(), gradient.double()]
