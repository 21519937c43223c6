"""Integrated gradients with nodes where the path needs them, and weights that completeness gives.

Along the straight path `x' + a d`, `g(a) = grad f_y . d` is the derivative of the score, so on every interval [a, b]
between two nodes the true integral of `g` is known at no cost: `f(b) - f(a)`. It is used twice.

    weights   v g(a) + (h - v) g(b) = f(b) - f(a),   h = b - a,  v clipped to [0, h]
    nodes     halve the interval of the largest error |v g(a) + (h - v) g(b) - (f(b) - f(a))|,
              until the errors sum to `tolerance` |f(x) - f(x')| or the evaluations are spent

The weights are fitted to the residual, so a small residual says little about the map: the gradients of an interval may
change in many pixels and not in their sum. With a map tolerance, nodes are added until half as many more change the
map by at most that tolerance. Once the first tolerance is met, each new node halves the widest interval.

For a piecewise linear network the gradient on an interval with one kink is g(a) before it and g(b) after it, and `v`
is where the kink lies: the rule is exact, while fixed rules only find it as fast as they refine. One evaluation gives
the gradient and the score of a node, so the errors cost nothing. Source: this project; the integral is that of
Sundararajan, Taly, Yan, *Axiomatic Attribution for Deep Networks* (2017).
"""

from __future__ import annotations

import math
from bisect import bisect
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ssig.estimators.integration import attribution, gradients_of, scores_of
from ssig.types import Group, Request, Steps

INTERVALS = 8  # intervals of equal width at the start
FEWEST = INTERVALS + 1
GROWTH = 1.5  # factor on the number of nodes between two checks of the map
_NARROWEST = 2.0**-20


@dataclass
class _Path:
    """The nodes of one image, in order: position, score, derivative of the score along the path, gradient."""

    alphas: list[float] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    slopes: list[float] = field(default_factory=list)
    gradients: list[Tensor] = field(default_factory=list)
    last_count: int = 0  # nodes at the last check of the map
    last_map: Tensor | None = None  # the map at that check

    def insert(self, alpha: float, score: float, slope: float, gradient: Tensor) -> None:
        at = bisect(self.alphas, alpha)
        self.alphas.insert(at, alpha)
        self.scores.insert(at, score)
        self.slopes.insert(at, slope)
        self.gradients.insert(at, gradient)

    def next(self, tolerance: float, map_tolerance: float, difference: Tensor) -> float | None:
        """Where the next node goes; None if none is needed, or if the errors are not finite."""
        errors = [abs(self._error(j)) for j in range(len(self.alphas) - 1)]
        if sum(errors) > tolerance * abs(self.scores[-1] - self.scores[0]):
            chosen = max(range(len(errors)), key=errors.__getitem__)
        elif map_tolerance == 0 or not math.isfinite(sum(errors)) or self._settled(map_tolerance, difference):
            return None
        else:
            chosen = max(range(len(errors)), key=lambda j: self.alphas[j + 1] - self.alphas[j])
        left, right = self.alphas[chosen : chosen + 2]
        return (left + right) / 2 if right - left > _NARROWEST else None

    def _settled(self, map_tolerance: float, difference: Tensor) -> bool:
        """Whether the map has changed by no more than the tolerance since there were two thirds of the nodes."""
        if len(self.alphas) < GROWTH * self.last_count:
            return False
        before, self.last_map, self.last_count = self.last_map, self.integral() * difference, len(self.alphas)
        return before is not None and bool((self.last_map - before).norm() <= map_tolerance * self.last_map.norm())

    def integral(self) -> Tensor:
        """`integral of grad f da`, (C, H, W)."""
        weights = [0.0] * len(self.alphas)
        for j in range(len(self.alphas) - 1):
            first, second = self._weights(j)
            weights[j] += first
            weights[j + 1] += second
        total = torch.zeros_like(self.gradients[0])
        for weight, gradient in zip(weights, self.gradients, strict=True):
            total.add_(gradient, alpha=weight)
        return total

    def _weights(self, j: int) -> tuple[float, float]:
        width = self.alphas[j + 1] - self.alphas[j]
        gain = self.scores[j + 1] - self.scores[j]
        before, after = self.slopes[j], self.slopes[j + 1]
        share = width / 2 if before == after else (gain - after * width) / (before - after)
        share = min(max(share, 0.0), width)
        return share, width - share

    def _error(self, j: int) -> float:
        first, second = self._weights(j)
        gain = self.scores[j + 1] - self.scores[j]
        return first * self.slopes[j] + second * self.slopes[j + 1] - gain


def adaptive_path(
    group: Group, *, most: int, tolerance: float, readout_name: str, map_tolerance: float = 0.0
) -> Steps:
    """Integrated gradients of each image of a group, from as many gradient evaluations as it needs.

    Args:
        group: the images and baselines.
        most: gradient evaluations per image at most, `FEWEST` or more.
        tolerance: largest sum of the errors of the intervals, relative to `|f(x) - f(x')|`.
        readout_name: one of `ssig.estimators.integrands.READOUTS`.
        map_tolerance: largest change of the map by half as many more nodes, relative to its norm; 0 for no limit.
    """
    paths = [_Path() for _ in range(len(group))]
    pending = [[k / INTERVALS for k in range(FEWEST)] for _ in paths]
    difference = group.difference
    while any(pending):
        # One node per image at a time, whatever the budget: an image's nodes must not depend on its batch.
        owners = [image for image, alphas in enumerate(pending) if alphas]
        alphas = [pending[image].pop(0) for image in owners]
        index = torch.tensor(owners)
        position = group.images.new_tensor(alphas).view(-1, 1, 1, 1)
        moved = difference[index]
        response = yield Request(group.baselines[index] + position * moved, index)
        gradients = gradients_of(response)
        slopes = (gradients.double() * moved.double()).sum(dim=(1, 2, 3)).tolist()
        scores = scores_of(response).double().tolist()
        for image, alpha, score, slope, gradient in zip(owners, alphas, scores, slopes, gradients, strict=True):
            path = paths[image]
            path.insert(alpha, score, slope, gradient)
            if not pending[image] and len(path.alphas) < most:
                following = path.next(tolerance, map_tolerance, difference[image])
                pending[image] = [] if following is None else [following]
    ends = (group.images.new_tensor([path.scores[end] for path in paths]) for end in (-1, 0))
    score, baseline_score = ends
    return attribution(
        torch.stack([path.integral() for path in paths]) * difference,
        readout_name,
        (score, baseline_score),
        has_residual=True,
        error=None,
        evaluations=torch.tensor([len(path.alphas) for path in paths]),
    )
