"""Left-IG: integrated gradients up to where the score saturates.

    A = (x - x') * mean_{k < c} grad f_y(X_k),   X_k = x' + a_k (x - x'),   k < K,   X_K = x
    c the first step with f_y(X_c) > share * max_k f_y(X_k)

Source: Miglani, Kokhlikyan, Alsallakh, Martin, Reblitz-Richardson, *Investigating Saturation Effects in Integrated
Gradients* (2020), as Walker, Jha, Chen, Ewetz implement it beside Integrated Decision Gradients. The image is a step
like the others, the last: where the score first exceeds the share there, all K gradients count. c is at least 1, and 1
if no step is above the share, as with scores that are all negative; with a share of 1 nothing is left out. The points
are those of `ig` with the left rule. `preset: paper` does what the implementation does: 50 points that include both
ends, so that the image is the last of them, and its baseline and score.

Where c lies is only known at the end of the path, so this method holds the gradients of all its steps.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ssig.estimators.common_options import CommonOptions, check_rule
from ssig.estimators.integrands import READOUTS
from ssig.estimators.integration import attribution, endpoints, gradients_of, scores_of
from ssig.methods.idgi import straight_path
from ssig.options import option
from ssig.registry import METHODS, MethodSpec
from ssig.types import Group, Steps


@dataclass(frozen=True)
class LeftOptions(CommonOptions):
    readout: str = option("sum", "channels to map", choices=READOUTS)
    steps: int = option(32, "points on the path, one gradient evaluation each", at_least=1)
    share: float = option(0.9, "share of the largest score; gradients behind it are left out", above=0, at_most=1)
    rule: str = option("left", "a_k: k / K, or k / (K - 1) with both ends", choices=("left", "endpoints"))

    def __post_init__(self) -> None:
        check_rule(self.rule, self.steps)


def left_ig(group: Group, options: LeftOptions) -> Steps:
    scores = yield from endpoints(group)
    gradients: list[Tensor] = []
    on_path: list[Tensor] = []
    for request in straight_path(group, options.steps, rule=options.rule):
        response = yield request
        steps = len(request.points) // len(group)
        gradients += gradients_of(response).chunk(steps)
        on_path += scores_of(response).chunk(steps)
    counts = cutoffs(torch.stack(on_path), scores[0], options.share)
    total = torch.zeros_like(group.images)
    for k, gradient in enumerate(gradients):
        inside = k < counts
        total[inside] += gradient[inside]
    return attribution(
        total / counts.view(-1, 1, 1, 1) * group.difference,
        options.readout,
        scores,
        has_residual=False,
        error=None,
        evaluations=options.steps,
    )


def cutoffs(on_path: Tensor, ends: Tensor, share: float) -> Tensor:
    """How many steps of each image count, (B,) int64, from the scores on its path (K, B) and at its end (B,)."""
    if share == 1:
        return torch.full_like(ends, len(on_path), dtype=torch.int64)
    scores = torch.cat([on_path, ends.unsqueeze(0)])
    # The first of equal maxima: where no step is above, all are equal and it is step 0.
    first = (scores > share * scores.amax(dim=0)).int().argmax(dim=0)
    return first.clamp_min(1)


METHODS.add(
    MethodSpec(
        name="left-ig",
        run=left_ig,
        options=LeftOptions,
        paper="Miglani, Kokhlikyan, Alsallakh, Martin, Reblitz-Richardson 2020",
        equation="(x - x') * mean of grad f(x' + a (x - x')) over a before f first exceeds .9 of its maximum",
        evaluations=lambda options: int(options.steps),
        complete=False,
        path=lambda options: ("line", options.rule, options.steps),
        presets={"paper": {"steps": 50, "rule": "endpoints", "baseline": "mean", "score": "logit"}},
    )
)
