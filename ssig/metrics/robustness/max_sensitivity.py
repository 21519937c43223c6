"""Max-sensitivity: the furthest that a map moves when its image moves a little.

    max_sensitivity = max_j |A(x + d_j) - A(x)| / |A(x)|,   d_j ~ U(-r, r) per pixel and channel, |.| over all pixels

Yeh et al., On the (In)fidelity and Sensitivity of Explanations, NeurIPS 2019; r in pixel space, whose range is [0, 1],
and no clamp. The target stays; |A(x)| = 0 counts as 1, as in captum. A method that draws random numbers draws the same
for every A, so its sampling error is not taken for sensitivity. `noise_floor: true` measures that error for itself,
on the same scale: max_j |A_j(x) - A(x)| / |A(x)|, each A_j with draws of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from ssig.metrics.shared.assemble import assemble
from ssig.metrics.shared.similarity import NO_METHOD
from ssig.options import option
from ssig.registry import METRICS, MetricSpec
from ssig.types import Evaluation, Explainer, MetricResult

COLUMNS = ("max_sensitivity", "max_sensitivity_noise")


@dataclass(frozen=True)
class MaxSensitivityOptions:
    """How images are changed."""

    radius: float = option(0.02, "greatest change of a pixel's channel, in the pixel range [0, 1]", above=0)
    samples: int = option(10, "changed images, one explanation each", at_least=1)
    noise_floor: bool = option(False, "also explain the unchanged image `samples` times, with other random draws")


def max_sensitivity(evaluation: Evaluation, options: MaxSensitivityOptions) -> MetricResult:
    """The sensitivity, and the noise floor if the options include it."""
    explainer, size = evaluation.explainer, len(evaluation)
    nothing = np.full(size, np.nan)
    if explainer is None:
        reasons = [dict.fromkeys(COLUMNS, NO_METHOD)] * size
        return assemble(dict.fromkeys(COLUMNS, nothing), reasons)
    rows = torch.arange(size)
    maps = explainer.maps(evaluation.images, evaluation.targets, rows)
    columns = {
        "max_sensitivity": furthest(maps, _of_changed(evaluation, explainer, options)),
        "max_sensitivity_noise": nothing,
    }
    if options.noise_floor:
        columns["max_sensitivity_noise"] = furthest(maps, _drawn_anew(evaluation, explainer, options.samples))
        return assemble(columns, [{}] * size)
    return assemble(columns, [{"max_sensitivity_noise": "not computed (noise_floor: false)"}] * size)


def furthest(maps: Tensor, changed_maps: Iterable[Tensor]) -> np.ndarray:
    """(B,) float64, the greatest relative distance of each map (B, H, W) from the others of its image."""
    norms = maps.double().flatten(1).norm(dim=1)
    norms = torch.where(norms == 0, torch.ones_like(norms), norms)
    greatest = torch.zeros_like(norms)
    for changed in changed_maps:
        distances = (changed.double() - maps.double()).flatten(1).norm(dim=1) / norms
        greatest = torch.maximum(greatest, distances)  # keeps NaN
    return greatest.cpu().numpy()


def perturbed(evaluation: Evaluation, options: MaxSensitivityOptions) -> Iterator[Tensor]:
    """The changed images, (B, C, H, W) each."""
    streams, images = evaluation.streams("max_sensitivity"), evaluation.images
    for sample in range(options.samples):
        moves = [
            torch.from_numpy(
                stream.generator(sample).uniform(-options.radius, options.radius, tuple(images.shape[1:]))
            )
            for stream in streams
        ]
        yield images + torch.stack(moves).to(images)


def _of_changed(evaluation: Evaluation, explainer: Explainer, options: MaxSensitivityOptions) -> Iterator[Tensor]:
    """Maps (B, H, W) of the changed images; several changes are explained together, to fill micro-batches."""
    changed = perturbed(evaluation, options)
    together = max(1, evaluation.batch // max(1, len(evaluation)))
    while points := list(islice(changed, together)):
        targets, rows = evaluation.targets.repeat(len(points)), torch.arange(len(evaluation)).repeat(len(points))
        yield from explainer.maps(torch.cat(points), targets, rows).chunk(len(points))


def _drawn_anew(evaluation: Evaluation, explainer: Explainer, count: int) -> Iterator[Tensor]:
    rows = torch.arange(len(evaluation))
    for draw in range(1, count + 1):
        yield explainer.maps(evaluation.images, evaluation.targets, rows, draw=draw)


METRICS.add(
    MetricSpec(
        name="max_sensitivity",
        compute=max_sensitivity,
        options=MaxSensitivityOptions,
        columns={"max_sensitivity": "lower", "max_sensitivity_noise": "none"},
        definition="greatest relative change of the map under small changes of the image (explains samples + 1 times)",
        range="[0, inf)",
        reference="Yeh et al., On the (In)fidelity and Sensitivity of Explanations, NeurIPS 2019",
        forwards=lambda options: 0,
        family="robustness",
        explanations=lambda options: 1 + options.samples,
        descriptions={
            "max_sensitivity_noise": "greatest relative change of the map under other random draws, same image",
        },
        needs=frozenset({"model", "method"}),
    )
)
