"""Spectral integrated gradients: a path that adds the singular components of the image one after the other.

    A = sum_k (X_{k+1} - X_k) * grad f_y(X_k),   X_k = X(k / K),   k = 0 .. K - 1
    X(a) = x' + U diag(s gate(p)) V^T,   p_i = clip((a - (1 - w) (1 - s_i / s_1)) / w, 0, 1)

with the singular value decomposition `U diag(s) V^T` of each channel of `x - x'`, s_1 the largest value. Strong
components come first, each over a share `w` (`overlap`) of the path; with `w` = 1 and the linear gate it is the
straight line. The path starts at `x'` and ends at `x`, so that the sum tends to `f(x) - f(x')`.

    linear   p              cosine  (1 - cos(pi p)) / 2
    sigmoid  logistic(12 (p - 1/2)), shifted and scaled to [0, 1]

Source: the `SpectralPathGenerator` of a public code that compares path methods. Its T points are T - 1 = K gradients,
as the last one's has no step to go with. Its hard step, `w` = 0, is left out: that path does not start at the
baseline. Signs of singular vectors and the basis of equal singular values are not unique, but components of equal
value have equal gates, so that X(a) is. `preset: paper` gives its settings.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ssig.estimators.common_options import CommonOptions
from ssig.estimators.integrands import READOUTS
from ssig.estimators.integration import attribution, endpoints, gradients_of
from ssig.options import option
from ssig.registry import METHODS, MethodSpec
from ssig.types import Group, Request, Steps

STEEPNESS = 12.0


def sigmoid_gate(progress: Tensor) -> Tensor:
    low = 1 / (1 + math.exp(STEEPNESS / 2))
    return ((STEEPNESS * (progress - 0.5)).sigmoid() - low) / (1 - 2 * low)


GATES: dict[str, Callable[[Tensor], Tensor]] = {
    "linear": lambda progress: progress,
    "cosine": lambda progress: (1 - (math.pi * progress).cos()) / 2,
    "sigmoid": sigmoid_gate,
}


@dataclass(frozen=True)
class SpectralOptions(CommonOptions):
    readout: str = option("sum", "channels to map", choices=READOUTS)
    steps: int = option(32, "steps K of the path, one gradient evaluation each", at_least=1)
    overlap: float = option(0.4, "share w of the path over which a component is added", above=0, at_most=1)
    gate: str = option("linear", "how a component is added", choices=GATES)


@dataclass(frozen=True)
class SpectralPath:
    """`X(a) - x'` of each image.

    Attributes:
        left, right: (B, C, H, n) and (B, C, n, W), the singular vectors.
        values: (B, C, n) singular values, descending.
        overlap, gate: of `SpectralOptions`.
    """

    left: Tensor
    values: Tensor
    right: Tensor
    overlap: float
    gate: str

    @staticmethod
    def of(difference: Tensor, overlap: float, gate: str) -> SpectralPath:
        """The path of `x - x'` (B, C, H, W), decomposed in float64."""
        left, values, right = torch.linalg.svd(difference.double(), full_matrices=False)
        return SpectralPath(left, values, right, overlap, gate)

    def at(self, alpha: float) -> Tensor:
        """(B, C, H, W) float64."""
        largest = self.values[..., :1]
        strength = self.values / torch.where(largest == 0, 1, largest)
        starts = (1 - self.overlap) * (1 - strength)
        gates = GATES[self.gate](((alpha - starts) / self.overlap).clamp(0, 1))
        return (self.left * (self.values * gates).unsqueeze(-2)) @ self.right


def spectral_ig(group: Group, options: SpectralOptions) -> Steps:
    scores = yield from endpoints(group)
    path = SpectralPath.of(group.difference, options.overlap, options.gate)
    position = path.at(0.0)
    total = torch.zeros_like(group.images)
    for first in range(0, options.steps, group.budget):
        points, moves = [], []
        for k in range(first, min(first + group.budget, options.steps)):
            following = path.at((k + 1) / options.steps)
            points.append(group.baselines + position.to(group.images))
            moves.append((following - position).to(group.images))
            position = following
        response = yield Request(torch.cat(points), group.owners(len(points)))
        for move, gradient in zip(moves, gradients_of(response).chunk(len(moves)), strict=True):
            total.addcmul_(move, gradient)
    return attribution(
        total,
        options.readout,
        scores,
        has_residual=True,
        error=None,
        evaluations=options.steps,
    )


METHODS.add(
    MethodSpec(
        name="spectral-ig",
        run=spectral_ig,
        options=SpectralOptions,
        paper="Spectral IG, public code",
        equation="sum_k (X_{k+1} - X_k) grad f(X_k), X bringing in singular components of x - x', strong ones first",
        evaluations=lambda options: int(options.steps),
        complete=True,
        presets={"paper": {"steps": 199, "baseline": "black", "score": "probability"}},
    )
)
