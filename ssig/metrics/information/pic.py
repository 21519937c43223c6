"""Performance information curves: the score that is regained against the information that is shown.

    x_t  shows the top t of the map's pixels and a random 1 %, and interpolates the others;  t = .005 .. .75
    h_t  = clip( (H(x_t) - H(x_0)) / (H(x) - H(x_0)), 0, 1 ),   H the bytes of an image as lossless WebP
    q_t  = max_{s <= t} clip( (p(x_s) - p(x_0)) / (p(x) - p(x_0)), 0, 1 )
    curve: through (0, 0), all (h_t, q_t) in order of h, (1, 1);  its area is the number of the image

XRAI (Kapishnikov et al., ICCV 2019) with PAIR's `saliency.metrics.pic`. p is the softmax probability of the target
(`sic`) or whether it is predicted (`aic`); one pass of the network serves both.

Excluded, as there: images that are not predicted well enough to begin with, and those whose x_0 has no lower score or
no less information. So `aic` and `sic` keep different images; `filter: confident` starts both from the same.

Departures: pixels of one value are told apart at random (`ties: random`), where the reference shows all that
reach its quantile, with a sparse map the whole image (`ties: quantile`). Preset `pair` is the reference and its
notebook's order, |map|. Preset `ms-ssim` is the variant of IDGI (Yang et al., CVPR 2023): pixels put back into a
blurred image, h_t its MS-SSIM with the image, not rescaled; here the blur is of the network's input, not of the file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from ssig.metrics.information.partial_images import (
    Partial,
    PartialOptions,
    least_images,
    partial_images,
    unfit,
    whole_images,
)
from ssig.metrics.shared.assemble import NOT_FINITE, assemble
from ssig.metrics.shared.ranking import Order, in_orders
from ssig.options import option
from ssig.registry import MetricSpec
from ssig.types import Evaluation, MetricResult

WRONG = "image is not predicted as its target"
NO_LOSS = "image without its pixels has no lower score"
NO_INFORMATION_LOSS = "image without its pixels has no less information"

_MS_SSIM_STEPS = 24
PRESETS: Mapping[str, Mapping[str, Any]] = {
    "pair": {"ties": "quantile", "orders": "absolute"},
    "ms-ssim": {
        "thresholds": tuple(step / _MS_SSIM_STEPS for step in range(1, _MS_SSIM_STEPS)),
        "random_fraction": 0.0,
        "ties": "raster",
        "hidden": "blurred",
        "information": "ms-ssim",
        "filter": "confident",
        "points": 100,
    },
}


@dataclass(frozen=True)
class PicOptions(PartialOptions):
    """The protocol of a performance information curve."""

    filter: str = option(
        "score",
        "images included: own score at least `min_probability`, or that probability and a right prediction",
        choices=("score", "confident"),
    )
    min_probability: float = option(
        0.8, "least own score of an included image; a right prediction counts as 1", at_most=1
    )
    monotonous: bool = option(True, "no point is lower than one with fewer pixels")
    points: int = option(1000, "number of equal steps of information on the curve", at_least=1)


class End(NamedTuple):
    """Information and score of an image with all or none of its pixels."""

    information: float
    score: float


class Ends(NamedTuple):
    """For each image the reason for its exclusion, if any, and both ends of its curve."""

    reasons: list[str | None]
    least: list[End]
    whole: list[End]


def pic(name: str, evaluation: Evaluation, options: PicOptions) -> MetricResult:
    """The columns `name` and `name`_abs with their curves, for `name` of ``aic`` and ``sic``."""
    reasons, least, whole = _ends(name, evaluation, options)

    def curves_in(rows: Tensor, order: Order) -> np.ndarray:
        curves = np.full((len(rows), options.points + 1), np.nan)
        positions = {row: position for position, row in enumerate(rows.tolist()) if reasons[row] is None}
        partial = partial_images(evaluation, options, list(positions), order)
        for row, information, scores in zip(positions, partial.information, _scores(name, partial), strict=True):
            curves[positions[row]] = curve(information, scores, least[row], whole[row], options)
        return curves

    curves = in_orders(evaluation, options, ("pic", name, options), curves_in)
    absolute = f"{name}_abs"
    missing = options.missing(signed=(name,), absolute=(absolute,))
    return assemble(
        columns={name: areas(curves.signed), absolute: areas(curves.absolute)},
        excluded=[{**(dict.fromkeys((name, absolute), reason) if reason else {}), **missing} for reason in reasons],
        curves={f"{name}_curve": curves.signed, f"{absolute}_curve": curves.absolute},
    )


def curve(information: np.ndarray, scores: np.ndarray, least: End, whole: End, options: PicOptions) -> np.ndarray:
    """(points + 1,), the normalised score at equal steps of normalised information, from 0 to 1.

    Args:
        information, scores: (T,) of the image with more and more of its pixels.
        least, whole: the image with none of them, and with all.
        options: the protocol.
    """
    start, amounts = least.information, information
    if options.information == "webp":
        start, amounts = 0.0, np.clip((information - start) / (whole.information - start), 0, 1)
    height = np.clip((scores - least.score) / (whole.score - least.score), 0, 1)
    if options.monotonous:
        height = np.maximum.accumulate(height)
    # The fixed ends come last: of points with the same information, the last one is that of the curve.
    x, y = np.array([start, *amounts, 0.0, 1.0]), np.array([0.0, *height, 0.0, 1.0])
    order = x.argsort(kind="stable")
    result: np.ndarray = np.interp(_axis(options.points + 1), x[order], y[order])
    return result


def areas(curves: np.ndarray) -> np.ndarray:
    """(...,), area under curves (..., n) over an axis from 0 to 1."""
    result: np.ndarray = np.trapezoid(curves, _axis(curves.shape[-1]), axis=-1)
    return result


def aggregated(name: str) -> Callable[[Mapping[str, np.ndarray], PicOptions], dict[str, float]]:
    """What gives the areas under the pointwise mean and median of all images' curves, in [0, 1].

    NaN where there are no images, or no curves: of an order that was not computed they are (N, 0).
    """

    def areas_of(columns: Mapping[str, np.ndarray], options: PicOptions) -> dict[str, float]:
        result = {}
        for column in (name, f"{name}_abs"):
            curves = np.asarray(columns[f"{column}_curve"], dtype=np.float64)
            for how, aggregate in (("mean", np.mean), ("median", np.median)):
                result[f"{column}_{how}"] = float(areas(aggregate(curves, axis=0))) if curves.size else np.nan
        return result

    return areas_of


def redrawn(
    name: str,
) -> Callable[[Mapping[str, np.ndarray], np.ndarray, PicOptions], dict[str, np.ndarray]]:
    """What gives `aggregated` of images that are drawn again, (R,) each, for how often each is taken (R, N)."""

    def areas_of(columns: Mapping[str, np.ndarray], counts: np.ndarray, options: PicOptions) -> dict[str, np.ndarray]:
        result: dict[str, np.ndarray] = {}
        for column in (name, f"{name}_abs"):
            curves = columns[f"{column}_curve"]
            if curves.size:
                means = counts @ curves.astype(np.float64) / curves.shape[0]
                result |= {f"{column}_mean": areas(means), f"{column}_median": areas(_medians(curves, counts))}
            else:
                result |= dict.fromkeys((f"{column}_mean", f"{column}_median"), np.full(len(counts), np.nan))
        return result

    return areas_of


def _medians(curves: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """(R, n) pointwise medians of curves (N, n), of which curve i is taken counts[r, i] times, N in all.

    The curves are put in order once: in a draw, place k of the ordered values is the first up to which more than k
    were taken.
    """
    images = len(curves)
    order = curves.T.argsort(axis=1)
    ranked = np.take_along_axis(curves.T, order, axis=1)
    kind = np.min_scalar_type(images)
    result = np.empty((len(counts), curves.shape[1]))
    for draw, multiplicities in enumerate(counts.astype(kind)):
        up_to = multiplicities[order].cumsum(axis=1, dtype=kind)
        middle = [(up_to <= place).sum(axis=1) for place in ((images - 1) // 2, images // 2)]
        result[draw] = np.mean([ranked[np.arange(len(ranked)), place] for place in middle], axis=0, dtype=np.float64)
    return result


def specification(name: str, aggregates: tuple[str, str], definition: str) -> MetricSpec:
    """The registry's entry of ``aic`` or ``sic``.

    Args:
        name: of the metric.
        aggregates: ``mean`` and ``median``, the paper's first.
        definition: one line.
    """

    def compute(evaluation: Evaluation, options: PicOptions) -> MetricResult:
        return pic(name, evaluation, options)

    columns = {name: "higher", f"{name}_abs": "higher"}
    return MetricSpec(
        name=name,
        compute=compute,
        options=PicOptions,
        columns=columns,
        curves=tuple(f"{column}_curve" for column in columns),
        descriptions=_descriptions(name),
        definition=definition,
        range="[0, 1]",
        reference="Kapishnikov et al., XRAI, ICCV 2019",
        forwards=lambda options: options.forwards,
        family="information",
        revision=1,
        needs=frozenset({"map", "model"}),
        presets=PRESETS,
        dataset_columns={f"{column}_{how}": "higher" for how in aggregates for column in columns},
        dataset=aggregated(name),
        resampled=redrawn(name),
    )


def _descriptions(name: str) -> dict[str, str]:
    score = "accuracy" if name == "aic" else "normalised probability"
    by_magnitude = "; in the order of |map|"
    return {
        f"{name}_curve": f"{score} at equal steps of normalised information, from none to all",
        **{
            f"{name}{order}_{how}": f"area under the pointwise {how} of the curves of all images{words}"
            for how in ("mean", "median")
            for order, words in (("", ""), ("_abs", by_magnitude))
        },
    }


def _ends(name: str, evaluation: Evaluation, options: PicOptions) -> Ends:
    nothing = [End(np.nan, np.nan)] * len(evaluation)
    if (reason := unfit(evaluation, options)) is not None:
        return Ends([reason] * len(evaluation), nothing, nothing)
    ends = whole_images(evaluation, options, range(len(evaluation)))
    whole = _each_end(name, ends)
    reasons = [
        _exclusion(name, float(probability), bool(predicted), options)
        for probability, predicted in zip(ends.probability[:, 0], ends.predicted[:, 0], strict=True)
    ]
    least, included = list(nothing), [row for row, reason in enumerate(reasons) if reason is None]
    for row, end in zip(included, _each_end(name, least_images(evaluation, options, included)), strict=True):
        least[row] = end
        if end.information >= whole[row].information:
            reasons[row] = NO_INFORMATION_LOSS
        elif end.score >= whole[row].score:
            reasons[row] = NO_LOSS
    return Ends(reasons, least, whole)


def _exclusion(name: str, probability: float, predicted: bool, options: PicOptions) -> str | None:
    """Why an image is not measured, by the network's output for the whole image."""
    if not np.isfinite(probability):
        return NOT_FINITE
    confident = options.filter == "confident"
    if (confident or name == "aic") and not predicted:
        return WRONG
    if (confident or name == "sic") and probability < options.min_probability:
        return f"probability of the target is below {options.min_probability:g}"
    return None


def _each_end(name: str, images: Partial) -> list[End]:
    return [End(*values) for values in zip(images.information[:, 0], _scores(name, images)[:, 0], strict=True)]


def _scores(name: str, images: Partial) -> np.ndarray:
    return images.predicted if name == "aic" else images.probability


def _axis(count: int) -> np.ndarray:
    return np.linspace(0.0, 1.0, count)
