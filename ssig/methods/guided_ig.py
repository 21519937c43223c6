"""Guided integrated gradients: a path that moves the features with the smallest gradients first.

    A = sum_t grad f_y(X_t) * (X_{t+1} - X_t),   X_0 = x',   |x - X_t|_1 = (1 - t/T) |x - x'|_1

Source: Kapishnikov et al., *Guided Integrated Gradients: an Adaptive Path Method for Removing Noise* (2021); the
steps are those of PAIR's implementation, where `max_dist` has taken the place of the paper's anchors. With
`u = (X - x') / (x - x')` for each of the D features, step t brings the distance to the image down to its target:

    1. features behind `max(t/T - max_dist, 0)` jump to it;
    2. of those short of `min(t/T + max_dist, 1)`, the ones whose |gradient| is at most the order statistic
       `floor(fraction (D - 1))` move there; all D features count in it, those already there as infinite;
    3. 2 is repeated while the distance is above its target, and the last ones to move go only as far as it takes.

The sum tends to `f(x) - f(x')` at first order in 1 / T. `max_dist` 0 is integrated gradients by the left rule; 1 lets
the path go anywhere between baseline and image. `anchors` A > 1 walks A equal segments of the straight line in turn,
in T / A steps each and with `max_dist` relative to a segment; the paper's own form has `max_dist` 1.

A gradient that is not a number is never among the smallest: its feature waits, the step ends when no other feature is
left, and its attribution is NaN. PAIR's code walks in the network's input space and this one in pixel space: they
agree where all channels are normalised by the same width. `preset: paper` gives PAIR's settings.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

from ssig.errors import UsageError
from ssig.estimators.common_options import CommonOptions
from ssig.estimators.integrands import READOUTS
from ssig.estimators.integration import attribution, endpoints, gradients_of
from ssig.options import option
from ssig.registry import METHODS, MethodSpec
from ssig.types import Group, Request, Steps

# A distance within this of its target, relative or absolute, has reached it; the reference's bound.
TOLERANCE = 1e-9


@dataclass(frozen=True)
class GuidedOptions(CommonOptions):
    readout: str = option("sum", "channels to map", choices=READOUTS)
    steps: int = option(32, "steps T of the path, one gradient evaluation each", at_least=1)
    fraction: float = option(0.25, "share of all features that move at once", at_least=0, at_most=1)
    max_dist: float = option(0.02, "how far a feature may stray from the straight line", at_least=0, at_most=1)
    anchors: int = option(0, "segments that are walked in turn, a divisor of steps; 0 and 1 are one", at_least=0)

    def __post_init__(self) -> None:
        if self.steps % self.segments:
            raise UsageError("anchors", self.anchors, f"a divisor of steps ({self.steps})")

    @property
    def segments(self) -> int:
        return max(self.anchors, 1)


def guided_ig(group: Group, options: GuidedOptions) -> Steps:
    scores = yield from endpoints(group)
    # In float64: in float32 the distance would never be within its tolerance of the target.
    start = group.baselines.double().flatten(1)
    change = (group.images.double().flatten(1) - start) / options.segments
    lengths = change.abs()
    steps = options.steps // options.segments
    total = torch.zeros_like(change)
    for segment in range(options.segments):
        end = start + (segment + 1) * change
        rest = torch.ones_like(change)
        for step in range(steps):
            points = (end - rest * change).to(group.images).view_as(group.images)
            response = yield Request(points, group.owners())
            gradient = gradients_of(response).flatten(1)
            after = advance(
                rest,
                gradient,
                lengths,
                time=(step + 1) / steps,
                fraction=options.fraction,
                max_dist=options.max_dist,
            )
            total += (rest - after) * gradient
            rest = after
    return attribution(
        (total * change).to(group.images).view_as(group.images),
        options.readout,
        scores,
        has_residual=True,
        error=None,
        evaluations=options.steps,
    )


def advance(
    rest: Tensor, gradient: Tensor, lengths: Tensor, *, time: float, fraction: float, max_dist: float
) -> Tensor:
    """One step of the path. Its state is `rest = 1 - u`, the share of its way that each feature still has to go.

    Args:
        rest: (B, D) float64 in [0, 1], before the step.
        gradient: (B, D) at the present point.
        lengths: (B, D) float64, `|x - x'|`.
        time: `t / T` after the step, in (0, 1].
        fraction, max_dist: of `GuidedOptions`.

    Returns:
        `rest` after the step; it is exactly 0 where a feature has reached the image.
    """
    most, least = 1 - max(time - max_dist, 0.0), 1 - min(time + max_dist, 1.0)
    rest = rest.clamp_max(most)
    room = rest - least
    gaps = lengths * room
    whole = lengths.sum(dim=1, keepdim=True)
    target = whole * (1 - time)
    distance = gaps.sum(dim=1, keepdim=True) + whole * least
    step_length = distance - target
    active = step_length > TOLERANCE * torch.maximum(distance, target).clamp_min(1)

    # A feature without a gap has the key infinity, or NaN if its gradient is 0. NaN is ordered after infinity.
    keys = (gradient / number(torch.gt, gaps, torch.zeros_like(whole)).to(gradient)).abs()
    order = Order(keys)
    last = keys.shape[1] - 1
    # Features with a key up to `whole_way` close their gap, others up to `part_way` the share `gamma` of it.
    whole_way, part_way = torch.full_like(keys[:, :1], -1), torch.full_like(keys[:, :1], -1)
    gamma, closed, moved = torch.zeros_like(whole), torch.zeros_like(whole), torch.zeros_like(whole)
    while bool(active.any()):
        rank = (moved + math.floor(fraction * last)).clamp_max(last)
        threshold = order.statistic(rank).nan_to_num(nan=math.inf)
        chosen = number(torch.le, keys, threshold).double()
        count = chosen.sum(dim=1, keepdim=True)
        reach = (chosen * gaps).sum(dim=1, keepdim=True)
        enough = active & (reach >= step_length)
        part_way = torch.where(enough, threshold, part_way)
        gamma = torch.where(enough, (step_length - closed) / (reach - closed), gamma)
        active = active & ~enough & (count > moved)
        whole_way = torch.where(active, threshold, whole_way)
        closed, moved = torch.where(active, reach, closed), torch.where(active, count, moved)
    share = torch.maximum(
        number(torch.le, keys, whole_way).double(), number(torch.le, keys, part_way).double() * gamma
    )
    return rest - share * room


class Order:
    """Order statistics of each row of `keys` (B, D), which are at least 0, infinite or not numbers.

    Such numbers are ordered as their bit patterns are. A radix selection, a digit of 16 bits at a time (8 bits for
    few keys), costs a tenth of a sort, which would cost nearly as much as the gradient.
    """

    def __init__(self, keys: Tensor) -> None:
        self.dtype = keys.dtype
        self.bits = 16 if keys.shape[1] > 4096 else 8
        total = 8 * keys.element_size()
        patterns = keys.view(torch.int32 if total == 32 else torch.int64)
        # The digits of row b start at b * 2^bits, so that one count serves all rows.
        self.offsets = torch.arange(len(keys), dtype=patterns.dtype, device=keys.device).unsqueeze(1) << self.bits
        mask = (1 << self.bits) - 1
        self.digits = [
            ((patterns >> shift) & mask) + self.offsets for shift in range(total - self.bits, -1, -self.bits)
        ]
        self.starts = self._starts(self.digits[0], None)

    def statistic(self, rank: Tensor) -> Tensor:
        """(B, 1), the key of 0-based `rank` (B, 1) float64 in each row."""
        starts, inside = self.starts, None
        pattern = torch.zeros_like(self.offsets)
        for digits, finer in zip(self.digits, [*self.digits[1:], None], strict=True):
            digit = torch.searchsorted(starts, rank, right=True) - 1
            pattern = (pattern << self.bits) | digit.to(pattern)
            if finer is not None:
                rank = rank - starts.gather(1, digit)
                same = number(torch.eq, digits, digit.to(digits) + self.offsets)
                inside = same if inside is None else inside * same
                starts = self._starts(finer, inside)
        return pattern.view(self.dtype)

    def _starts(self, digits: Tensor, inside: Tensor | None) -> Tensor:
        """(B, 2^bits + 1) float64: how many of the keys `inside` have a smaller digit, for each digit."""
        weights = None if inside is None else inside.flatten()
        counts = torch.bincount(digits.flatten(), weights, minlength=len(digits) << self.bits)
        return pad(counts.view(len(digits), -1).cumsum(dim=1, dtype=torch.float64), (1, 0))


def number(compare: Callable[..., Tensor], values: Tensor, bound: Tensor) -> Tensor:
    """1 where the comparison holds, else 0, in the type of `values`; several times as fast as through booleans."""
    return compare(values, bound, out=torch.empty_like(values))


METHODS.add(
    MethodSpec(
        name="guided-ig",
        run=guided_ig,
        options=GuidedOptions,
        paper="Kapishnikov et al. 2021",
        equation="sum_t grad f(X_t) (X_{t+1} - X_t), X moving the features of smallest gradient first",
        evaluations=lambda options: int(options.steps),
        complete=True,
        presets={"paper": {"steps": 200, "baseline": "black", "score": "probability"}},
    )
)
