"""Insertion and deletion curves: the target score while a map's pixels change, most important first.

    c_k = score( pixels of rank < n_k from the finish image, the others from the start image ),  k = 0 .. n
    area = trapezoid of c over the fraction of pixels changed, n_k / N in [0, 1]

RISE (Petsiuk et al., BMVC 2018) counts each of its blocks of pixels as 1 / n, also a last one that is smaller
(`area: steps`). The ends of a curve are the same for every map: the image is evaluated when it is predicted, the
reference once for both orders; between them are n - 1 forward evaluations per order. The protocols that the presets
name are RISE's, that of IDG (Walker et al., AAAI 2024: RISE's in blocks of 224 pixels, by magnitude, on images that
are classified correctly) and Xplique's (Fel et al., 2022: ten steps, zeros, logits); all of
them order equal pixels by their place.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ssig.metrics.shared.assemble import assemble
from ssig.metrics.shared.perturbation import SCORES, image_scores, reference, reference_key, reference_scores, sweep
from ssig.metrics.shared.ranking import InOrder, Order, OrderOptions, in_orders, ranks
from ssig.options import option
from ssig.types import Evaluation, MetricResult

# Protocols; insertion's start and deletion's fill come on top. IDG further limits images per class and drops those
# whose performance information curve is undefined: a choice of the data set, not of the curve.
RISE = {"pixels_per_step": 8 * 224, "area": "steps", "ties": "raster"}
IDG = {"pixels_per_step": 224, "area": "steps", "orders": "absolute", "filter": "correct", "ties": "raster"}
XPLIQUE = {"steps": 10, "area": "steps", "score": "logit", "ties": "raster"}

FILTERS = ("none", "correct")
MISCLASSIFIED = "the target is not the predicted class (filter: correct)"

_IMAGE = "image"  # the end of a curve that is the image itself
_USUAL_PIXELS = 224 * 224


@dataclass(frozen=True)
class CurveOptions(OrderOptions):
    """The protocol that insertion and deletion have in common."""

    steps: int = option(28, "steps of the curve; step k has changed floor(k N / steps) of N pixels", at_least=1)
    pixels_per_step: int | None = option(None, "pixels that change in a step, instead of `steps`", at_least=1)
    blur_sigma: float = option(10.0, "standard deviation of `blur`, in pixels", above=0)
    blur_kernel: int = option(
        31,
        "width of `blur`, in pixels: the Gaussian is cut off there; borders are reflected",
        at_least=1,
        check=lambda width: None if width % 2 else "an odd number of pixels",
    )
    score: str = option("probability", "what the curve shows: softmax probability or logit", choices=SCORES)
    normalised: bool = option(False, "divide the curve by the score of the whole image")
    area: str = option(
        "fraction", "trapezoid over the fraction of pixels changed, or over equal steps", choices=("fraction", "steps")
    )
    filter: str = option("none", "images that count: all, or those whose target is predicted", choices=FILTERS)

    def counts(self, pixels: int) -> tuple[int, ...]:
        """Number of changed pixels at each point of the curve, from 0 to `pixels`."""
        if self.pixels_per_step is None:
            return tuple(step * pixels // self.steps for step in range(self.steps + 1))
        return (*range(0, pixels, self.pixels_per_step), pixels)

    @property
    def forwards(self) -> int:
        """Forward evaluations for a signed map; of 224 x 224 pixels, where that matters."""
        return self.order_count * (len(self.counts(_USUAL_PIXELS)) - 2) + 1


def insertion_curves(evaluation: Evaluation, start: str, options: CurveOptions) -> InOrder:
    """(B, n + 1) scores from the reference `start` to the image."""
    return _curves(evaluation, start, _IMAGE, options)


def deletion_curves(evaluation: Evaluation, fill: str, options: CurveOptions) -> InOrder:
    """(B, n + 1) scores from the image to the reference `fill`."""
    return _curves(evaluation, _IMAGE, fill, options)


def area(curves: np.ndarray, pixels: int, options: CurveOptions) -> np.ndarray:
    """(B,), area under the curves (B, n + 1) of maps of so many pixels, over an axis from 0 to 1."""
    if options.area == "steps":
        axis = np.linspace(0.0, 1.0, curves.shape[1])
    else:
        axis = np.array(options.counts(pixels)) / pixels
    result: np.ndarray = np.trapezoid(curves, axis, axis=1)
    return result


def areas(curves: InOrder, evaluation: Evaluation, options: CurveOptions) -> InOrder:
    """(B,), area under the curves of each order."""
    pixels = evaluation.maps.shape[-2:].numel()
    return InOrder(*(area(curve, pixels, options) for curve in curves))


def curve_result(name: str, curves: InOrder, evaluation: Evaluation, options: CurveOptions) -> MetricResult:
    """The columns `name` and `name`_abs, the areas, with their curves."""
    signed, absolute = areas(curves, evaluation, options)
    return assemble(
        columns={name: signed, f"{name}_abs": absolute},
        excluded=excluded(evaluation, options, signed=(name,), absolute=(f"{name}_abs",)),
        curves={f"{name}_curve": curves.signed, f"{name}_abs_curve": curves.absolute},
    )


def excluded(
    evaluation: Evaluation, options: CurveOptions, signed: tuple[str, ...], absolute: tuple[str, ...] = ()
) -> list[dict[str, str]]:
    """For each image, column -> reason, for its columns by signed and by absolute order that were not computed."""
    missing = options.missing(signed, absolute)
    filtered = dict.fromkeys((*signed, *absolute), MISCLASSIFIED)
    return [filtered | missing if dropped else missing for dropped in _dropped(evaluation, options)]


def _dropped(evaluation: Evaluation, options: CurveOptions) -> np.ndarray:
    """(B,) bool, which images the filter takes out; logits that are not finite are another reason."""
    if options.filter == "none":
        return np.zeros(len(evaluation), dtype=bool)
    return np.asarray(image_scores(evaluation, "accuracy") == 0)


def _curves(evaluation: Evaluation, start: str, finish: str, options: CurveOptions) -> InOrder:
    counts = options.counts(evaluation.maps.shape[-2:].numel())
    dropped = _dropped(evaluation, options)
    ends = (_key(start, options), _key(finish, options))
    key = ("curve", *ends, counts, options.score, tuple(np.flatnonzero(dropped)))

    def compute(rows: Tensor, order: Order) -> np.ndarray:
        is_used = ~dropped[rows.numpy()]
        curves = np.full((len(rows), len(counts)), np.nan)
        curves[is_used] = walk(rows[torch.from_numpy(is_used)], ranks(evaluation, order))
        return curves

    def walk(rows: Tensor, ranked: Tensor) -> np.ndarray:
        before, after = _end(evaluation, start, options), _end(evaluation, finish, options)
        between = torch.tensor(counts[1:-1], dtype=ranked.dtype, device=ranked.device).view(-1, 1, 1, 1)

        def build(image: int, steps: range) -> Tensor:
            return torch.where(ranked[image] < between[steps.start : steps.stop], after[image], before[image])

        inner = sweep(evaluation, rows, len(counts) - 2, build, options.score)
        first, last = (_end_scores(evaluation, end, options)[rows.numpy(), None] for end in (start, finish))
        return np.concatenate([first, inner, last], axis=1)

    curves = in_orders(evaluation, options, key, compute)
    if not options.normalised:
        return curves
    whole = 0 if start == _IMAGE else -1
    with np.errstate(divide="ignore", invalid="ignore"):
        return InOrder(*(curve / curve[:, [whole]] for curve in curves))


def _key(end: str, options: CurveOptions) -> tuple[str | float, ...]:
    return reference_key(end, options.blur_sigma, options.blur_kernel)


def _end(evaluation: Evaluation, end: str, options: CurveOptions) -> Tensor:
    if end == _IMAGE:
        return evaluation.images
    return reference(evaluation, end, options.blur_sigma, options.blur_kernel)


def _end_scores(evaluation: Evaluation, end: str, options: CurveOptions) -> np.ndarray:
    if end == _IMAGE:
        return image_scores(evaluation, options.score)
    return reference_scores(evaluation, end, options.blur_sigma, options.blur_kernel, options.score)
