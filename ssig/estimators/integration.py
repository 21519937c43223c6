"""Gradient integration, streamed:  `z(x) = E_{x̂ ~ q(. | x)} [ h(grad f_y(x̂), x̂) ]`, then a readout over channels.

`integrate` is the coroutine behind most methods: a sampler draws `x̂`, the engine returns the gradients, and running
sums hold the estimate and its standard error, so memory does not grow with the number of samples.
"""

from __future__ import annotations

from collections.abc import Generator
from functools import partial
from typing import Literal, cast

import torch
from torch import Tensor

from ssig.estimators.integrands import NONNEGATIVE, RESIDUAL, aligned_readout, integrand, is_linear, readout
from ssig.estimators.moments import Jackknife, NoError, StandardError, WeightedSum, Welford
from ssig.estimators.samplers import Sampler, key_of_points, requests
from ssig.types import SCORE, Attribution, Group, Request, Response, Steps

Endpoints = Generator[Request, Response, tuple[Tensor, Tensor]]


def integrate(group: Group, sampler: Sampler, *, samples: int, integrand_name: str, readout_name: str) -> Steps:
    """Estimates `z` for each image of a group from `samples` draws of `sampler`.

    Args:
        group: the images, baselines and streams.
        sampler: the law `q`.
        samples: gradient evaluations per image.
        integrand_name: `h`, one of `ssig.estimators.integrands.INTEGRANDS`.
        readout_name: one of `ssig.estimators.integrands.READOUTS`.
    """
    scores = yield from endpoints(group)
    total = WeightedSum()
    error = error_of(sampler, integrand_name, readout_name)
    # `x - x'` is the same for all samples: if no single sample is needed, multiply the sum by it once.
    factored = integrand_name == "gradient" and isinstance(error, NoError)
    sample_readout = "sum" if readout_name == "sum-abs" and integrand_name in NONNEGATIVE else readout_name
    for drawn, points in requests(group, sampler, samples):
        key = key_of_points(sampler, samples, drawn, group.streams)
        response = yield Request(points, group.owners(len(drawn)), key=key)
        parts = (tensor.chunk(len(drawn)) for tensor in (points, gradients_of(response)))
        for k, point, gradient in zip(drawn, *parts, strict=True):
            if factored:
                total.add(sampler.weight(k, samples), gradient)
                continue
            values = integrand(integrand_name, gradient, point, group.images, group.baselines)
            total.add(sampler.weight(k, samples), values)
            if not isinstance(error, NoError):
                error.add(k, values, readout(sample_readout, values))
    return attribution(
        total.result() * group.difference if factored else total.result(),
        readout_name,
        scores,
        has_residual=integrand_name in RESIDUAL,
        error=error,
        evaluations=samples,
    )


def endpoints(group: Group) -> Endpoints:
    """The target scores of images and baselines, (B,) each; one forward request for the unknown ones.

    An image that equals its baseline gets the same score for both: networks may round differently in another batch.
    """
    image_scores, baseline_scores = group.scores, group.baseline_scores
    unknown = [
        points for points, score in ((group.images, image_scores), (group.baselines, baseline_scores)) if score is None
    ]
    if unknown:
        response = yield Request(torch.cat(unknown), group.owners(len(unknown)), want=SCORE)
        scores = iter(scores_of(response).chunk(len(unknown)))
        image_scores = next(scores) if image_scores is None else image_scores
        baseline_scores = next(scores) if baseline_scores is None else baseline_scores
    image_scores, baseline_scores = cast(Tensor, image_scores), cast(Tensor, baseline_scores)
    return image_scores, torch.where(group.moved, baseline_scores, image_scores)


def scores_of(response: Response) -> Tensor:
    """(n,), the scores of a response to a request that wanted them."""
    return _part(response, "scores")


def gradients_of(response: Response) -> Tensor:
    """(n, ...), the gradients of a response to a request that wanted them."""
    return _part(response, "gradients")


def logits_of(response: Response) -> Tensor:
    """(n, classes), the logits of a response to a request that wanted them."""
    return _part(response, "logits")


def activations_of(response: Response) -> Tensor:
    """(n, ...), the activations of a response to a request with a layer."""
    return _part(response, "activations")


def _part(response: Response, name: Literal["scores", "gradients", "logits", "activations"]) -> Tensor:
    part: Tensor | None = getattr(response, name)
    if part is None:
        raise RuntimeError(f"the engine returned no {name} for a request that wants them")
    return part


def attribution(
    values: Tensor,
    readout_name: str,
    scores: tuple[Tensor, Tensor],
    *,
    has_residual: bool,
    error: StandardError | None,
    evaluations: int | Tensor,
) -> Attribution:
    """Finishes a method: the map, its error, and the completeness residual summed in float64.

    `error` has accumulated the samples; None for a method without samples. `evaluations` is the number of gradients
    per image, or (B,) int64.
    """
    score, baseline_score = scores
    residual = None
    if has_residual:
        total = values.sum(dim=(1, 2, 3), dtype=torch.float64)
        residual = (total - (score.double() - baseline_score.double())).to(values.dtype)
    return Attribution(
        values=values,
        map=readout(readout_name, values),
        score=score,
        baseline_score=baseline_score,
        completeness_residual=residual,
        standard_error=None if error is None else error.result(),
        bias=None if error is None else error.bias(),
        reliability=None if error is None else error.reliability(),
        gradient_evaluations=torch.as_tensor(evaluations, dtype=torch.int64).expand(len(values)).clone(),
    )


def error_of(sampler: Sampler, integrand_name: str, readout_name: str) -> StandardError:
    """The accumulator of a map's standard error for a sampler."""
    if sampler.kind == "deterministic":
        return NoError()
    if sampler.kind == "independent" and is_linear(readout_name, integrand_name):
        return Welford()
    return jackknife(readout_name, nonnegative=integrand_name in NONNEGATIVE)


def error_of_parts(readout_name: str) -> StandardError:
    """The accumulator of the error of a map that is the mean of independent parts, such as paths."""
    return Welford() if readout_name == "sum" else jackknife(readout_name)


def jackknife(readout_name: str, *, nonnegative: bool = False) -> Jackknife:
    """The jackknife of a readout; values that are never negative have no bias but the choice of `max-abs`."""
    biased = readout_name == "max-abs" or (readout_name == "sum-abs" and not nonnegative)
    return Jackknife(partial(readout, readout_name), partial(aligned_readout, readout_name) if biased else None)
