"""Adversarial gradient integration: gradients along the steps that turn the image into other classes.

    A = sum_c sum_t -grad f_y(X_t) * (X_{t+1} - X_t),   X_{t+1} = clip(X_t + eps sign(grad f_c(X_t)), 0, 1),   X_0 = x

Source: Pan, Li, Zhu, *Explaining Deep Neural Network Models with Adversarial Gradient Integration* (2021). The classes
c are k at equal distances in the network's list, but for the target; the way to c ends after T steps, or when the
network finds c likeliest. Each way adds about `f_y(x) - f_y(its end)`, so there is no completeness with respect to a
baseline, and the option `baseline` is not used. A point costs two gradients, by c and by y; at the end of a way only
the first of them. Images are taken to lie in [0, 1].

Most ways arrive in 2 steps or 3. Of the pairs (k, T) within 32 gradients, (5, 3) came nearest to k = T = 20
(EfficientNet-Lite0, logits, two photographs: cosine .69 and .55 of the maps; with probabilities, all pairs .8 to .9).

`compat` is the authors' code, in which every step starts from the image, `X_{t+1} = clip(x + eps sign(...))`, and
meets the whole way, `-grad f_y(X_t) * (X_{t+1} - x)`; and whose range of classes has one more than k where k does not
divide their number. One of its scripts applies softmax twice, which no score of this project does. `preset: paper` is
the paper's k = T = 20, up to 800 gradients. The sign makes every step chaotic: in float32 maps depend on rounding.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Generator
from dataclasses import dataclass

import torch
from torch import Tensor

from ssig.estimators.common_options import CommonOptions
from ssig.estimators.integrands import READOUTS
from ssig.estimators.integration import attribution, endpoints, gradients_of, logits_of
from ssig.options import option
from ssig.registry import METHODS, MethodSpec
from ssig.types import SCORE, Group, Request, Response, Steps

LOGITS_AND_GRADIENT = frozenset({"logits", "gradient"})
GRADIENT = frozenset({"gradient"})
# The classes of ImageNet, for the listed cost.
LISTED_CLASSES = 1000


@dataclass(frozen=True)
class AdversarialOptions(CommonOptions):
    readout: str = option("sum", "channels to map", choices=READOUTS)
    classes: int = option(5, "other classes k that the image is turned into", at_least=1)
    steps: int = option(3, "steps T to each class at most, two gradient evaluations each", at_least=1)
    epsilon: float = option(0.05, "change of every value in a step", above=0)
    compat: bool = option(False, "steps and classes of the authors' code")


def agi(group: Group, options: AdversarialOptions) -> Steps:
    group, logits = yield from _logits(group)
    scores = yield from endpoints(group)
    other_classes = [
        [c for c in spaced_classes(logits.shape[1], options.classes, whole=options.compat) if c != target]
        for target in _targets(group)
    ]
    values = torch.zeros_like(group.images)
    evaluations = torch.zeros(len(group), dtype=torch.int64)
    for first in range(0, max(map(len, other_classes)), group.budget):
        pairs = [(image, c) for image, all_c in enumerate(other_classes) for c in all_c[first : first + group.budget]]
        owners, classes = torch.tensor(pairs, dtype=torch.int64).view(-1, 2).unbind(dim=1)
        ways, spent = yield from adversarial_ways(group, owners, classes, options)
        # In a fixed order, so that an image's sum does not depend on its batch.
        for owner, way in zip(owners.tolist(), ways, strict=True):
            values[owner] += way
        evaluations.index_add_(0, owners, spent)
    return attribution(
        values,
        options.readout,
        scores,
        has_residual=False,
        error=None,
        evaluations=evaluations,
    )


def spaced_classes(number: int, count: int, *, whole: bool = False) -> list[int]:
    """`count` of `number` classes at equal distances, from 0 on; with `whole` all of the authors' range."""
    spaced = list(range(0, number - 1, max(1, number // count)))
    return spaced if whole else spaced[:count]


def adversarial_ways(
    group: Group, owners: Tensor, classes: Tensor, options: AdversarialOptions
) -> Generator[Request, Response, tuple[Tensor, Tensor]]:
    """The sums over t for pairs of an image and a class, (n, C, H, W), and the gradients spent on each, (n,).

    Args:
        group: the images.
        owners, classes: (n,) int64 on the CPU.
        options: options of the method.
    """
    starts = group.images[owners]
    points, sums = starts.clone(), torch.zeros_like(starts)
    spent = torch.zeros(len(owners), dtype=torch.int64)
    going = torch.arange(len(owners))
    for _ in range(options.steps):
        response = yield Request(points[going], owners[going], targets=classes[going], want=LOGITS_AND_GRADIENT)
        spent[going] += 1
        logits = logits_of(response)
        class_logits = logits.gather(1, classes[going].to(logits.device).unsqueeze(1)).squeeze(1)
        # NaN equals nothing, so it counts as ahead.
        ahead = (class_logits != logits.amax(dim=1)).cpu()
        going = going[ahead]
        if len(going) == 0:
            break
        uphill = gradients_of(response)[ahead].sign()
        response = yield Request(points[going], owners[going], want=GRADIENT)
        spent[going] += 1
        origin = starts[going] if options.compat else points[going]
        moved = (origin + options.epsilon * uphill).clamp(0, 1)
        sums[going] -= gradients_of(response) * (moved - origin)
        points[going] = moved
    return sums, spent


def _logits(group: Group) -> Generator[Request, Response, tuple[Group, Tensor]]:
    """The logits of the images; and the group, with its scores if they were evaluated too."""
    if group.logits is not None:
        return group, group.logits
    response = yield Request(group.images, group.owners(), want=SCORE | {"logits"})
    return dataclasses.replace(group, scores=response.scores), logits_of(response)


def _targets(group: Group) -> list[int]:
    if group.targets is None:
        raise RuntimeError("a group whose method looks for other classes must know its targets")
    targets: list[int] = group.targets.tolist()
    return targets


def _evaluations(options: AdversarialOptions) -> int:
    return 2 * options.steps * len(spaced_classes(LISTED_CLASSES, options.classes, whole=options.compat))


METHODS.add(
    MethodSpec(
        name="agi",
        run=agi,
        options=AdversarialOptions,
        paper="Pan, Li, Zhu 2021",
        equation="sum_c sum_t -grad f(X_t) (X_{t+1} - X_t), X stepping along sign(grad f_c) to other classes c",
        evaluations=_evaluations,
        complete=False,
        baseline=lambda options: False,
        presets={"paper": {"classes": 20, "steps": 20, "score": "probability"}},
    )
)
