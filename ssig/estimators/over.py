"""Any method's mean over random inputs, for each image:  `z = E_{x̂ ~ q(. | x)} [ A(x̂) ]`, then the readout.

    over: noise    x̂ = x + over_sigma (max x - min x) eps, eps ~ N(0, I): SmoothGrad of any method
    over: uniform  x̂ = x' + m (x - x'), m ~ U(0, 1) per pixel: the same over suppressed inputs

Source for noise: Smilkov et al., *SmoothGrad* (2017), as PAIR's `GetSmoothedMask` has it with `magnitude=False`: each
`x̂` is explained from the baseline of the image itself, and signed values are averaged before the readout. Published
tables call it SmoothGrad + IG and SmoothGrad + Guided IG.

Each input has random numbers of its own, for itself and for the method. The standard error is over the inputs. The
values sum to a mean over random inputs and not to `f(x) - f(x')`, so there is no completeness residual.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ssig.estimators.integrands import readout
from ssig.estimators.integration import attribution, endpoints, error_of_parts
from ssig.estimators.moments import WeightedSum
from ssig.estimators.samplers import Noise, Sampler, Uniform
from ssig.types import Attribution, Group, Steps

Run = Callable[[Group, Any], Steps]


def repeats(options: Any) -> int:
    """How often a method runs for each image."""
    return 1 if options.over == "none" else int(options.over_samples)


def law_of(options: Any) -> Sampler:
    """The law of the random inputs."""
    return Noise(options.over_sigma) if options.over == "noise" else Uniform()


def over(group: Group, method: Run, options: Any) -> Steps:
    """The mean of a method over the random inputs of each image that its options ask for.

    Args:
        group: the images.
        method: the coroutine of the method itself.
        options: of the method, with `over`, `over_samples` and `over_sigma`.
    """
    law, samples = law_of(options), options.over_samples
    scores = yield from endpoints(group)
    readout_name = options.readout or "sum"
    drawing = replace(group, streams=tuple(stream.derived("over") for stream in group.streams))
    total, error = WeightedSum(), error_of_parts(readout_name)
    evaluations = torch.zeros(len(group), dtype=torch.int64)
    at_once = min(samples, max(1, group.budget))
    for first in range(0, samples, at_once):
        drawn = range(first, min(first + at_once, samples))
        points = law.points(drawing, drawn, samples)
        part = yield from _owned(method(_repeated(group, points, drawn, scores[1]), options), len(group))
        evaluations += part.gradient_evaluations.view(len(drawn), -1).sum(dim=0).to(evaluations)
        for k, values in zip(drawn, part.values.chunk(len(drawn)), strict=True):
            total.add(1 / samples, values)
            error.add(k, values, readout(readout_name, values))
    return attribution(total.result(), readout_name, scores, has_residual=False, error=error, evaluations=evaluations)


def _repeated(group: Group, points: Tensor, drawn: range, baseline_scores: Tensor) -> Group:
    """The group of S inputs (S * B, C, H, W) of each image of a group, image index fastest."""
    count = len(drawn)

    def repeated(values: Tensor | None) -> Tensor | None:
        return None if values is None else torch.cat([values] * count)

    return replace(
        group,
        images=points,
        baselines=torch.cat([group.baselines] * count),
        baseline_scores=repeated(baseline_scores),
        targets=repeated(group.targets),
        streams=tuple(stream.derived(f"over {k}") for k in drawn for stream in group.streams),
        budget=max(1, group.budget // count),
        scores=None,
        logits=None,
    )


def _owned(steps: Steps, count: int) -> Steps:
    """A coroutine of S inputs of each of `count` images, whose points belong to the images; no points are shared."""
    try:
        request = next(steps)
        while True:
            request = steps.send((yield replace(request, owners=request.owners % count, key=None)))
    except StopIteration as stop:
        result: Attribution = stop.value
        return result
    finally:
        steps.close()
