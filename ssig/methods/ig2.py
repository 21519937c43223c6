"""IG2: gradients along a path that brings the image's logits near to those of images of other classes.

    A = mean_r sum_k (X_k - X_{k+1}) * grad f_y(X_k),   X_0 = x
    X_{k+1} = clip(X_k - eta v / |v|_2, 0, 1),   v = grad |l(X_k) - l(x_r)|^2

Source: Zhuo, Ge, *IG2: Integrated Gradient on Iterative Gradient Path for Feature Attribution* (2024), and the
authors' code. The path ends in a counterfactual, which takes the place of the baseline: the sum tends
to `f(x) - mean_r f(X_K)`, whose last term is the `baseline_score`, and the option `baseline` is not used. The
representation `l` is the logits; in the authors' code it is the input of the last layer. References are drawn by each
image's own stream from those of the run that the network predicts as another class; the standard error is over them.
The image itself is used as a reference only if there is no other: there is no way to go, and rounding would be
stretched to whole steps. Images are taken to lie in [0, 1].

`step` is eta as a root mean square change of a value, by default the authors' 256 / 255 in L2 at 224 x 224. Their 201
steps, `preset: paper`, take 402 gradients for each reference. Compared with paths of that length in 67 steps, the
default's maps have a cosine of .75, and of .91 after a mean over 9 x 9 pixels (EfficientNet-Lite0, one photograph).
Steps of one length zigzag where the way bends: the residual is large, more so for longer steps, and in float32 maps
depend on rounding.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Generator
from dataclasses import dataclass

import torch
from torch import Tensor

from ssig.errors import UsageError
from ssig.estimators.common_options import CommonOptions
from ssig.estimators.integrands import READOUTS, readout
from ssig.estimators.integration import attribution, endpoints, error_of_parts, gradients_of, logits_of, scores_of
from ssig.estimators.moments import WeightedSum
from ssig.methods.agi import GRADIENT, LOGITS_AND_GRADIENT
from ssig.methods.expected_gradients import references_of
from ssig.options import option
from ssig.registry import METHODS, MethodSpec
from ssig.types import SCORE, Group, References, Request, Response, Steps

# The authors' step, for images of 3 x 224 x 224 values.
STEP = 256 / 255 / math.sqrt(3 * 224 * 224)


@dataclass(frozen=True)
class IterativeOptions(CommonOptions):
    readout: str = option("sum", "channels to map", choices=READOUTS)
    paths: int = option(2, "references of each image, one path to each", at_least=1)
    steps: int = option(8, "steps of a path, two gradient evaluations each", at_least=1)
    step: float = option(STEP, "length of a step: root mean square change of the values", above=0)
    pool: int = option(64, "images of the data set to draw references from; at least `paths`", at_least=1)

    def __post_init__(self) -> None:
        if self.pool < self.paths:
            raise UsageError("pool", self.pool, f"at least paths ({self.paths})")


def ig2(group: Group, options: IterativeOptions) -> Steps:
    pool = references_of(group)
    drawn = counterparts(group, pool, options.paths)
    paths = drawn.shape[1]
    values, ends = WeightedSum(), WeightedSum()
    error = error_of_parts(options.readout)
    for first in range(0, paths, group.budget):
        goals = pool.logits[drawn[:, first : first + group.budget].T.reshape(-1)]
        sums, end_scores = yield from approaches(group, goals, options)
        count = len(goals) // len(group)
        parts = zip(sums.chunk(count), end_scores.chunk(count), strict=True)
        for number, (path_values, score) in enumerate(parts, start=first):
            values.add(1 / paths, path_values)
            ends.add(1 / paths, score)
            error.add(number, path_values, readout(options.readout, path_values))
    scores = yield from endpoints(dataclasses.replace(group, baseline_scores=ends.result()))
    return attribution(
        values.result(),
        options.readout,
        scores,
        has_residual=True,
        error=error,
        evaluations=2 * options.steps * paths,
    )


def counterparts(group: Group, pool: References, paths: int) -> Tensor:
    """The references of each image, (B, R) int64, R at most their number.

    References of the target's class are taken only if there are too few others. With few references some may be taken
    twice.
    """
    if group.targets is None:
        raise RuntimeError("a group whose method draws images of other classes must know its targets")
    predicted = pool.logits.argmax(dim=1).cpu()
    count = min(paths, len(pool))
    rows = []
    for image, stream, target in zip(group.images, group.streams, group.targets, strict=True):
        order = torch.from_numpy(stream.generator(0).permutation(len(pool)))
        same_image = is_image(pool, image)[order]
        same_class = predicted[order] == target
        candidates = (
            order
            if same_image.all()
            else torch.cat([order[~same_class & ~same_image], order[same_class & ~same_image]])
        )
        rows.append(candidates.repeat(-(-count // len(candidates)))[:count])
    return torch.stack(rows)


def is_image(pool: References, image: Tensor) -> Tensor:
    """(R,) bool on the CPU, which of the references have the pixels of an image (C, H, W)."""
    return (pool.images.to(image) == image).flatten(1).all(dim=1).cpu()


def approaches(
    group: Group, goals: Tensor, options: IterativeOptions
) -> Generator[Request, Response, tuple[Tensor, Tensor]]:
    """The sums over k of paths from the images, (n, C, H, W), and the scores at their ends, (n,).

    Args:
        group: the images.
        goals: (n, classes), the logits to come near to, for one or more paths an image, image index fastest.
        options: options of the method.
    """
    owners = group.owners(len(goals) // len(group))
    points = group.images[owners]
    length = options.step * math.sqrt(points[0].numel())
    sums = torch.zeros_like(points)
    for _ in range(options.steps):
        response = yield Request(points, owners, want=LOGITS_AND_GRADIENT)
        gradient = gradients_of(response)
        # Half the gradient of the distance's fall: of the logits, weighted by what they still lack.
        response = yield Request(points, owners, targets=goals - logits_of(response), want=GRADIENT)
        moved = (points + length * unit(gradients_of(response))).clamp(0, 1)
        sums += (points - moved) * gradient
        points = moved
    response = yield Request(points, owners, want=SCORE)
    return sums, scores_of(response)


def unit(gradient: Tensor) -> Tensor:
    """(n, C, H, W), each divided by its L2 norm; 0 stays 0."""
    # Squares of small gradients would underflow in float32.
    norm = gradient.double().flatten(1).norm(dim=1).to(gradient).view(-1, 1, 1, 1)
    return gradient / torch.where(norm == 0, 1, norm)


METHODS.add(
    MethodSpec(
        name="ig2",
        run=ig2,
        options=IterativeOptions,
        paper="Zhuo, Ge 2024",
        equation="E_r[sum_k (X_k - X_{k+1}) grad f(X_k)], X descending from x to logits of other images",
        evaluations=lambda options: 2 * int(options.steps * options.paths),
        complete=True,
        revision=1,  # errors come from eight groups of samples
        baseline=lambda options: False,
        references=lambda options: int(options.pool),
        presets={"paper": {"steps": 201, "score": "logit"}},
    )
)
