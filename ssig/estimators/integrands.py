"""Integrands `h(g, x̂)` of gradient integration and readouts over the channels.

    magnitude  |g|              no completeness
    squared    g^2              no completeness
    signed     g                no completeness
    gradient   g * (x - x')     complete on a straight path
    product    g * (x̂ - x')

Readouts turn values (B, C, H, W) into a map (B, H, W): `sum` (signed), `sum-abs`, `max-abs`.
"""

from __future__ import annotations

from torch import Tensor

INTEGRANDS = ("magnitude", "squared", "signed", "gradient", "product")
READOUTS = ("sum", "sum-abs", "max-abs")
NONNEGATIVE = frozenset({"magnitude", "squared"})
RESIDUAL = frozenset({"gradient", "product"})


def integrand(name: str, gradient: Tensor, point: Tensor, image: Tensor, baseline: Tensor) -> Tensor:
    """`h` at one sample of each image; all tensors (B, C, H, W)."""
    if name == "magnitude":
        return gradient.abs()
    if name == "squared":
        return gradient.square()
    if name == "signed":
        return gradient
    if name == "gradient":
        return gradient * (image - baseline)
    if name == "product":
        return gradient * (point - baseline)
    raise ValueError(f"unknown integrand {name!r}")


def readout(name: str, values: Tensor) -> Tensor:
    """The map (B, H, W) of values (B, C, H, W)."""
    if name == "sum":
        return values.sum(dim=1)
    if name == "sum-abs":
        return values.abs().sum(dim=1)
    if name == "max-abs":
        return values.abs().amax(dim=1)
    raise ValueError(f"unknown readout {name!r}")


def aligned_readout(name: str, values: Tensor, guide: Tensor) -> Tensor:
    """The map of values with the signs of `guide`, and for `max-abs` its channel; both (B, C, H, W).

    With `values` as the guide it is `readout`. Noise of `values` does not bias it if the guide's is independent.
    """
    signed = values * guide.sign()
    if name == "sum-abs":
        return signed.sum(dim=1)
    if name == "max-abs":
        return signed.gather(1, guide.abs().argmax(dim=1, keepdim=True)).squeeze(1)
    raise ValueError(f"no magnitudes: {name!r}")


def default_readout(integrand_name: str) -> str:
    """`sum-abs` for magnitudes and squares, signed `sum` otherwise."""
    return "sum-abs" if integrand_name in NONNEGATIVE else "sum"


def is_linear(readout_name: str, integrand_name: str) -> bool:
    """Whether the readout of the mean is the mean of the readouts, so that their spread is the map's error."""
    return readout_name == "sum" or (readout_name == "sum-abs" and integrand_name in NONNEGATIVE)
