"""MFABA: gradients along a descent from the image to where the network decides for another class.

    A = - sum_k (X_{k+1} - X_k) * grad f_y(X_k),   X_0 = x

    sharp   X_{k+1} = clip(X_k - s v / |v|_2, 0, 1),   v = grad f_y(X_k)
    smooth  X_{k+1} = clip(x + clip(X_k - s sign(v) - x, -r, r), 0, 1)

Source: Zhu, Chen, Zhang, Wang, Jin, Xue, Zhu, Choo, *MFABA: A More Faithful and Accelerated Boundary-based Attribution
Method for Deep Neural Networks* (2024), and the authors' code. A path ends after T steps, or where the likeliest class
is not the target's, which is looked for after each step and not at the image. Its end takes the place of the baseline:
the sum tends to `f(x) - f(end)` as the steps become small, the end's score is the `baseline_score`, and the option
`baseline` is not used. Images are taken to lie in [0, 1].

The authors' T is 50, with s = .1 in L2 (sharp) or .001 in each value (smooth), r = .3 and the probability: `preset:
paper` and `preset: paper-smooth`. `step` is s as a root mean square change of a value, by default their .1 at 224 x
224. Their code takes inputs of any range, by default [0, 1]; here steps and clip are in pixel space. Where the
gradient is 0 the path stays, while theirs divides 0 by 0. The class and the gradient at a point come from one
evaluation, so that a path of k steps costs k + 1 gradients. Photographs take 1 to 3 such steps (EfficientNet-Lite0). A
smaller `step` brings the sum nearer to the difference, for more gradients. The variants `cos` and `norm` weigh the
straight line from the end to the image by these gradients, and are left out.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Generator
from dataclasses import dataclass

import torch
from torch import Tensor

from ssig.estimators.common_options import CommonOptions
from ssig.estimators.integrands import READOUTS
from ssig.estimators.integration import attribution, endpoints, gradients_of, logits_of
from ssig.methods.agi import LOGITS_AND_GRADIENT
from ssig.methods.ig2 import unit
from ssig.options import option
from ssig.registry import METHODS, MethodSpec
from ssig.types import Group, Request, Response, Steps

SHARP, SMOOTH = "sharp", "smooth"
# The authors' sharp step, for images of 3 x 224 x 224 values.
STEP = 0.1 / math.sqrt(3 * 224 * 224)


@dataclass(frozen=True)
class BoundaryOptions(CommonOptions):
    readout: str = option("sum", "channels to map", choices=READOUTS)
    steps: int = option(
        32, "steps T of the path at most, one gradient evaluation each; 50 in the authors' code", at_least=1
    )
    descent: str = option(SHARP, "along the gradient, or along its sign", choices=(SHARP, SMOOTH))
    step: float = option(STEP, "length of a step: root mean square change of the values", above=0)
    radius: float = option(0.3, "smooth descent: largest change of a value", above=0)


def mfaba(group: Group, options: BoundaryOptions) -> Steps:
    values, ends, evaluations = yield from descent(group, options)
    scores = yield from endpoints(dataclasses.replace(group, baselines=ends, baseline_scores=None))
    return attribution(
        values,
        options.readout,
        scores,
        has_residual=True,
        error=None,
        evaluations=evaluations,
    )


def descent(group: Group, options: BoundaryOptions) -> Generator[Request, Response, tuple[Tensor, Tensor, Tensor]]:
    """The sums, (B, C, H, W), the ends of the paths, (B, C, H, W), and the gradients spent, (B,) int64."""
    if group.targets is None:
        raise RuntimeError("a group whose method looks for another class must know its targets")
    points, sums = group.images.clone(), torch.zeros_like(group.images)
    spent = torch.zeros(len(group), dtype=torch.int64)
    going = group.owners()
    for step in range(options.steps):
        here = points[going]
        response = yield Request(here, going, want=LOGITS_AND_GRADIENT)
        spent[going] += 1
        gradient = gradients_of(response)
        if step:
            logits = logits_of(response)
            target = logits.gather(1, group.targets[going].to(logits.device).unsqueeze(1)).squeeze(1)
            # NaN equals nothing, so that its path ends here too.
            decided = (target == logits.amax(dim=1)).cpu()
            here, gradient, going = here[decided], gradient[decided], going[decided]
            if len(going) == 0:
                break
        moved = stepped(group.images[going], here, gradient, options)
        sums[going] -= (moved - here) * gradient
        points[going] = moved
    return sums, points, spent


def stepped(images: Tensor, points: Tensor, gradient: Tensor, options: BoundaryOptions) -> Tensor:
    """`X_{k+1}` from `X_k` and the gradient there, all (n, C, H, W)."""
    if options.descent == SHARP:
        length = options.step * math.sqrt(points[0].numel())
        return (points - length * unit(gradient)).clamp(0, 1)
    change = points - options.step * gradient.sign() - images
    return (images + change.clamp(-options.radius, options.radius)).clamp(0, 1)


METHODS.add(
    MethodSpec(
        name="mfaba",
        run=mfaba,
        options=BoundaryOptions,
        paper="Zhu, Chen, Zhang, Wang, Jin, Xue, Zhu, Choo 2024",
        equation="- sum_k (X_{k+1} - X_k) grad f(X_k), X descending from x until another class is likeliest",
        evaluations=lambda options: int(options.steps),
        complete=True,
        baseline=lambda options: False,
        presets={
            "paper": {"steps": 50, "score": "probability"},
            "paper-smooth": {"steps": 50, "score": "probability", "descent": SMOOTH, "step": 0.001},
        },
    )
)
