"""Expected gradients: integrated gradients averaged over baselines from the data set, with random points.

    z = E_{x' ~ data, t ~ U(0, 1)} [ (x - x') * grad f_y(x' + t (x - x')) ]

Source: Erion, Janizek, Sturmfels, Lundberg, Lee, *Improving performance of deep learning models with axiomatic
attribution priors and expected gradients* (2021); it is Captum's `GradientShap` without noise. `stdev` adds its noise:
then `x + stdev eps` stands in both places of `x`. Baselines are drawn with replacement from the run's reference
images, by each image's own stream, and take the place of the option `baseline`. The expectation is over the whole data
set: where the image itself is among the references it may be drawn, and that draw adds 0 to the sum and to its limit.

The sum tends to `f(x) - E f(x')`: `baseline_score` is the mean score of the baselines drawn. The standard error is
over the draws of both. `preset: paper` takes the 200 draws that the authors advise.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ssig.errors import UsageError
from ssig.estimators.common_options import CommonOptions, samples_option
from ssig.estimators.integrands import READOUTS, readout
from ssig.estimators.integration import attribution, endpoints, error_of_parts, gradients_of
from ssig.estimators.moments import WeightedSum
from ssig.estimators.transfer import stacked
from ssig.models.scores import score
from ssig.options import option
from ssig.registry import METHODS, MethodSpec
from ssig.types import Group, References, Request, Steps


@dataclass(frozen=True)
class ExpectedGradientsOptions(CommonOptions):
    readout: str = option("sum", "channels to map", choices=READOUTS)
    samples: int = samples_option()
    pool: int = option(64, "images of the data set to draw baselines from", at_least=1)
    stdev: float = option(0.0, "Gaussian noise on the image, in units of its values; 0 for none", at_least=0)


def expected_gradients(group: Group, options: ExpectedGradientsOptions) -> Steps:
    pool = references_of(group)
    pool_scores = scores_of_references(group, group.score)
    values, baseline_scores = WeightedSum(), WeightedSum()
    error = error_of_parts(options.readout)
    for first in range(0, options.samples, group.budget):
        drawn = range(first, min(first + group.budget, options.samples))
        points, differences = [], []
        for k in drawn:
            generators = [stream.generator(k) for stream in group.streams]
            times = stacked([generator.random((1, 1, 1)) for generator in generators], group.images)
            chosen = torch.tensor([int(generator.integers(len(pool))) for generator in generators])
            baselines = pool.images[chosen].to(group.images)
            differences.append(_noisy(group.images, generators, options.stdev) - baselines)
            points.append(baselines + times * differences[-1])
            baseline_scores.add(1 / options.samples, pool_scores[torch.arange(len(group)), chosen])
        response = yield Request(torch.cat(points), group.owners(len(drawn)))
        for k, difference, gradient in zip(drawn, differences, gradients_of(response).chunk(len(drawn)), strict=True):
            sample = gradient * difference
            values.add(1 / options.samples, sample)
            error.add(k, sample, readout(options.readout, sample))
    scores = yield from endpoints(dataclasses.replace(group, baseline_scores=baseline_scores.result()))
    return attribution(
        values.result(),
        options.readout,
        scores,
        has_residual=True,
        error=error,
        evaluations=options.samples,
    )


def references_of(group: Group) -> References:
    """The reference images of the data set.

    Raises:
        UsageError: there are none, or their size differs from the group's.
    """
    if group.references is None or len(group.references) == 0:
        raise UsageError("references", None, "at least one image of the data set")
    shape, expected = tuple(group.references.images.shape[1:]), tuple(group.images.shape[1:])
    if shape != expected:
        raise UsageError("references", shape, f"images of the size of those explained, {expected}")
    return group.references


def scores_of_references(group: Group, score_name: str) -> Tensor:
    """(B, R), the score of every reference image for the target of every image of the group."""
    logits = references_of(group).logits
    if group.targets is None:
        raise RuntimeError("a group whose method compares with references must know its targets")
    rows = [score(logits, target.expand(len(logits)), score_name) for target in group.targets.to(logits.device)]
    return torch.stack(rows)


def _noisy(images: Tensor, generators: list[np.random.Generator], stdev: float) -> Tensor:
    if stdev == 0:
        return images
    draws = [generator.standard_normal(tuple(images.shape[1:]), dtype=np.float32) for generator in generators]
    return images + stdev * stacked(draws, images)


METHODS.add(
    MethodSpec(
        name="expected-gradients",
        run=expected_gradients,
        options=ExpectedGradientsOptions,
        paper="Erion, Janizek, Sturmfels, Lundberg, Lee 2021",
        equation="E[(x - x') * grad f(x' + t (x - x'))], x' from the data set, t ~ U(0, 1)",
        evaluations=lambda options: int(options.samples),
        complete=True,
        revision=1,  # errors come from eight groups of samples
        baseline=lambda options: False,
        references=lambda options: int(options.pool),
        presets={"paper": {"samples": 200, "pool": 200}},
    )
)
