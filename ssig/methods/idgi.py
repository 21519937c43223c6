"""IDGI: only the part of each step along a path that lies in the direction of the gradient, since only it changes f.

    A = sum_{k < K} g_k^2 / |g_k|^2 (f_y(X_{k+1}) - f_y(X_k)),   g_k = grad f_y(X_k),   X_0 = x',   X_K = x

Source: Yang, Wang, Bilgic, *IDGI: A Framework to Eliminate Explanation Noise from Integrated Gradients* (2023). It
takes the points of any path from baseline to image; the scores at them come with the gradients, so that it costs
nothing beyond the path:

    idgi-ig         the straight line, X_k = x' + k/K (x - x')
    idgi-guided     the path of Guided IG (`ssig.methods.guided_ig`)
    idgi-ssig-path  R suppression paths (`ssig.methods.ssig_path`), averaged; X_k at t = k/K, K = samples / R

The sum is `f(x) - f(x')` for any K, to rounding. A gradient of 0 has no direction: its step adds nothing, where the
formula has 0/0, and the sum misses that step's change, which the residual then shows. Within a step all pixels have
the sign of its change, so maps are close to weighted means of squared gradients. `preset: paper` is the black baseline
and the softmax probability.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ssig.estimators.common_options import CommonOptions
from ssig.estimators.integrands import READOUTS, readout
from ssig.estimators.integration import attribution, endpoints, error_of_parts, gradients_of, scores_of
from ssig.estimators.moments import WeightedSum
from ssig.estimators.samplers import Line, requests
from ssig.methods.guided_ig import GuidedOptions, guided_ig
from ssig.methods.ssig_path import PathOptions, onsets, suppression_path
from ssig.options import option
from ssig.registry import METHODS, MethodSpec
from ssig.types import SCORE_AND_GRADIENT, Group, Request, Response, Steps, differs

# Requests the gradients at X_0 .. X_{K-1} of every image of a group, in order; any number of steps in one request.
Path = Generator[Request, Response, object]

PAPER = "Yang, Wang, Bilgic 2023"
PRESETS = {"paper": {"baseline": "black", "score": "probability"}}


@dataclass(frozen=True)
class LineOptions(CommonOptions):
    readout: str = option("sum", "channels to map", choices=READOUTS)
    steps: int = option(32, "steps K of the path, one gradient evaluation each", at_least=1)


def idgi_ig(group: Group, options: LineOptions) -> Steps:
    return (
        yield from idgi(
            group,
            lambda scored: [straight_path(scored, options.steps)],
            readout_name=options.readout,
            evaluations=options.steps,
        )
    )


def idgi_guided(group: Group, options: GuidedOptions) -> Steps:
    # With both scores known, Guided IG requests only the points of its path.
    return (
        yield from idgi(
            group,
            lambda scored: [guided_ig(scored, options)],
            readout_name=options.readout,
            evaluations=options.steps,
        )
    )


def idgi_ssig_path(group: Group, options: PathOptions) -> Steps:
    steps = options.samples // options.paths
    return (
        yield from idgi(
            group,
            lambda scored: [onset_path(scored, number, steps, options.width) for number in range(options.paths)],
            readout_name=options.readout,
            evaluations=options.samples,
        )
    )


def idgi(group: Group, paths: Callable[[Group], Sequence[Path]], *, readout_name: str, evaluations: int) -> Steps:
    """The mean of IDGI over paths.

    Args:
        group: the images and baselines.
        paths: makes the paths of a group whose scores are all known.
        readout_name: one of `ssig.estimators.integrands.READOUTS`.
        evaluations: gradients per image on all paths.
    """
    score, baseline_score = yield from endpoints(group)
    walks = paths(dataclasses.replace(group, scores=score, baseline_scores=baseline_score))
    total = WeightedSum()
    error = error_of_parts(readout_name)
    for number, walk in enumerate(walks):
        values = yield from idgi_along(group, walk, score)
        total.add(1 / len(walks), values)
        error.add(number, values, readout(readout_name, values))
    return attribution(
        total.result(),
        readout_name,
        (score, baseline_score),
        has_residual=True,
        error=error,
        evaluations=evaluations,
    )


def idgi_along(group: Group, path: Path, score: Tensor) -> Generator[Request, Response, Tensor]:
    """IDGI of one path that ends in the images, (B, C, H, W); `score` (B,) is theirs.

    A step that does not move adds nothing, so that rounding of the scores does not make a map.
    """
    values, shares = torch.zeros_like(group.images), torch.zeros_like(group.images)
    left, before = group.images, score

    def add(point: Tensor, reached_score: Tensor) -> None:
        change = torch.where(differs(point, left), reached_score - before, 0)
        values.addcmul_(shares, change.view(-1, 1, 1, 1))

    request: Request | None = next(path)
    while request is not None:
        response = yield request
        steps = len(request.points) // len(group)
        reached = (request.points.to(values), gradients_of(response), scores_of(response))
        for point, gradient, reached_score in zip(*(tensor.chunk(steps) for tensor in reached), strict=True):
            add(point, reached_score)
            left, before, shares = point, reached_score, squared_shares(gradient)
        request = _next(path, response)
    add(group.images, score)
    return values


def squared_shares(gradient: Tensor) -> Tensor:
    """`g^2 / |g|^2` of each image of (B, C, H, W); 0 for a gradient of 0."""
    # Squares of small gradients would underflow.
    largest = gradient.abs().amax(dim=(1, 2, 3), keepdim=True)
    squares = (gradient / torch.where(largest == 0, 1, largest)).square()
    total = squares.sum(dim=(1, 2, 3), keepdim=True)
    return squares / torch.where(total == 0, 1, total)


def straight_path(
    group: Group, steps: int, *, rule: str = "left", want: frozenset[str] = SCORE_AND_GRADIENT
) -> Generator[Request, Response, None]:
    """The line from baselines to images, at the nodes of a quadrature rule; methods that also walk it can share it."""
    line = Line(rule)
    for drawn, points in requests(group, line, steps):
        key = ("line", tuple(line.alpha(k, steps) for k in drawn))
        yield Request(points, group.owners(len(drawn)), want=want, key=key)


def onset_path(group: Group, number: int, steps: int, width: float) -> Generator[Request, Response, None]:
    """Suppression path `number` of each image, at t = k / K."""
    onset = onsets(group, number)
    for first in range(0, steps, group.budget):
        gammas = [suppression_path(onset, width, k / steps) for k in range(first, min(first + group.budget, steps))]
        points = torch.cat([group.baselines + gamma * group.difference for gamma in gammas])
        yield Request(points, group.owners(len(gammas)))


def _next(path: Path, response: Response) -> Request | None:
    try:
        return path.send(response)
    except StopIteration:
        return None


METHODS.add(
    MethodSpec(
        name="idgi-ig",
        run=idgi_ig,
        options=LineOptions,
        paper=PAPER,
        equation="sum_k g_k^2 / |g_k|^2 (f(X_{k+1}) - f(X_k)) along the straight line",
        evaluations=lambda options: int(options.steps),
        complete=True,
        revision=1,  # a step that does not move adds nothing
        path=lambda options: ("line", "left", options.steps),
        presets=PRESETS,
    )
)
METHODS.add(
    MethodSpec(
        name="idgi-guided",
        run=idgi_guided,
        options=GuidedOptions,
        paper=PAPER,
        equation="sum_k g_k^2 / |g_k|^2 (f(X_{k+1}) - f(X_k)) along the path of Guided IG",
        evaluations=lambda options: int(options.steps),
        complete=True,
        revision=1,  # a step that does not move adds nothing
        presets={"paper": {**PRESETS["paper"], **METHODS["guided-ig"].presets["paper"]}},
    )
)
METHODS.add(
    MethodSpec(
        name="idgi-ssig-path",
        run=idgi_ssig_path,
        options=PathOptions,
        paper=f"this project; IDGI: {PAPER}",
        equation="E_s[sum_k g_k^2 / |g_k|^2 (f(X_{k+1}) - f(X_k))] along random monotone suppression paths",
        evaluations=lambda options: int(options.samples),
        complete=True,
        revision=1,  # a step that does not move adds nothing
    )
)
