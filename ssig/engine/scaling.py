"""Scales of the loss that keep gradients in float16 between its smallest and its largest number.

    d = s df/dlogits,   s = 2^floor(log2(h / max |df/dlogits|))

so that the largest entry of d is near h for every score. Each point has its own scale, so its gradient does not depend
on the other points of its batch. A gradient that overflows is computed again with a lower h. Powers of two change no
digit, and they are divided out in float32.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ssig.models.scores import score

# In float16, 65504 is the largest number, and 6e-8 the smallest above zero.
HIGHEST = 2.0**10
LOWER = (2.0**4, 2.0**-2, 2.0**-8)

# Bounds of the exponent of a scale, so that products with it stay within float32.
_EXPONENTS = (-24, 96)


def directions(logits: Tensor, targets: Tensor, name: str, highest: float) -> tuple[Tensor, Tensor]:
    """`s df/dlogits` (n, classes) and `s` (n,) of each point's score.

    Args:
        logits: (n, classes).
        targets, name: as in `ssig.models.scores.score`.
        highest: `h`.
    """
    with torch.enable_grad():
        leaves = logits.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(score(leaves, targets, name).sum(), leaves)
    largest = gradient.abs().amax(dim=1)
    exponents = (highest / largest).log2().floor().clamp(*_EXPONENTS)
    scales = torch.where(exponents.isfinite(), exponents, 0).exp2()
    return gradient * scales.unsqueeze(1), scales


def finite(gradients: Tensor) -> Tensor:
    """(n,) bool, whether each point's gradient (n, ...) has only finite numbers."""
    return gradients.flatten(1).isfinite().all(dim=1)
