"""Parity of metrics: the numbers that a metric and its reference give of the same maps, network and random draws.

    difference = max over images and points of a curve of |ours - reference|,  or |ours / reference - 1|

the second where a number has no bound (infidelity, max-sensitivity, completeness). In float64, but for the maps, which
are stored in float32; on a small network that answers sharply, and on EfficientNet-Lite0 with one photograph where
that is cheap. The object is a rectangle. A metric is one line at the end, with the tolerance of its arithmetic.

Not compared, as the reference is wrong or is something else:

- Quantus: its localisation by signed maps (shares below 0 and above 1); Sensitivity-N (blocks in order of the map,
  correlated across images); Infidelity (perturbations accumulate); Completeness (exact equality); ROAD on images of
  several channels (it fails, but its imputation does not: the curves here are made with that); SSIM in Random Logit
  (of maps as long vectors); MPRT's mean (it counts the network that is not randomised), of which the stages remain;
- PAIR's curves where pixels tie (a sparse map reveals the whole image), which is preset `pair` only.

Nothing to compare with is installed: `diffid` (softmax ratio), `road_gap` against the authors' driver, curves over
MS-SSIM, `stability`, `effective_support`, and what this project defines itself.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import metric_references as peers
import numpy as np
import published_protocols as protocols
import torch
from check import Check
from metric_setup import SETUPS, SHAPE, Setup, channels, explain
from scipy.special import softmax
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import (
    average_precision_score,
    jaccard_score,
    mean_absolute_error,
    mean_squared_error,
    roc_auc_score,
)
from sklearn.preprocessing import minmax_scale
from torch import Tensor, nn
from torch.nn.functional import interpolate

from jobs.bench.peers import pair_pic
from ssig.metrics.faithfulness.infidelity import InfidelityOptions, perturbation
from ssig.metrics.faithfulness.sensitivity_n import subset_sizes
from ssig.metrics.faithfulness.subsets import pixel_subset
from ssig.metrics.information.partial_images import eight_bit, random_pixels
from ssig.metrics.localization.max_box_acc import grey_levels
from ssig.metrics.randomisation.randomised_networks import Randomised, randomised, randomised_maps
from ssig.metrics.robustness.max_sensitivity import MaxSensitivityOptions, perturbed
from ssig.registry import METRICS

BLOCK = 6  # pixels, of which SHAPE with its channels holds a whole number
THRESHOLDS = (0.01, 0.05, 0.2, 0.5)  # of the information curves: each costs the reference a second
RANDOM_PIXELS = 0.01
SUBSETS = 20
PERTURBATIONS = 12

METRIC_CHECKS: list[Check] = []


Reference = Callable[[Setup], np.ndarray]


def _compare(
    metric: str,
    reference: str,
    tolerance: float,
    theirs: Reference,
    /,
    *,
    column: str = "",
    on: tuple[str, ...] = ("small",),
    relative: bool = False,
    **options: Any,
) -> None:
    """Adds a metric with the given options against a reference's numbers (B,) or (B, n).

    Args:
        metric: its name, and that of its module.
        reference: the implementation compared with.
        tolerance: the greatest difference that is agreement.
        theirs: the reference's numbers.
        column: that is compared, a curve or vector too; the metric's name by default.
        on: names of `SETUPS`.
        relative: the difference is relative to the reference's number.
        **options: of the metric.
    """
    column = column or metric
    for name in on:
        measure = functools.partial(_difference, SETUPS[name], metric, column, options, theirs, relative)
        METRIC_CHECKS.append(Check(f"{column} on {name}", reference, tolerance, measure))


def _difference(
    make: Callable[[], Setup], metric: str, column: str, options: dict[str, Any], theirs: Reference, relative: bool
) -> float:
    setup, spec = make(), METRICS[metric]
    result = spec.compute(setup.evaluation, spec.parse(options))
    ours = {**result.columns, **result.curves, **result.vectors}[column]
    expected = np.asarray(theirs(setup), dtype=np.float64)
    if ours.shape != expected.shape:
        raise ValueError(f"{metric}: {ours.shape} numbers against {expected.shape} of the reference")
    return float(np.abs((ours - expected) / (np.abs(expected) if relative else 1.0)).max())


def _by_image(measure: Callable[[np.ndarray, np.ndarray], Any]) -> Reference:
    """A measure of the mask and |map| of one image, both flat."""
    return lambda setup: np.array(
        [measure(mask.ravel(), np.abs(a).ravel()) for mask, a in zip(setup.masks, setup.maps, strict=True)]
    )


def _quantus_map(name: str, with_mask: bool = True) -> Reference:
    return lambda setup: peers.quantus_map(name, setup.maps, setup.masks if with_mask else None)


def _rise(game: str, block: int) -> Reference:
    def curves(setup: Setup) -> np.ndarray:
        found = []
        for image, saliency, target in zip(setup.normalised, setup.maps, setup.targets.tolist(), strict=True):
            start, finish = (protocols.rise_blur(image), image) if game == "insertion" else (image, 0 * image)
            found.append(protocols.rise(setup.from_normalised, saliency, target, start, finish, block)[1])
        return np.array(found)

    return curves


def _rise_gap(setup: Setup) -> np.ndarray:
    return _rise("insertion", BLOCK)(setup) - _rise("deletion", BLOCK)(setup)


def _xplique(deletion: bool) -> Reference:
    def one(setup: Setup, row: int) -> float:
        part = slice(row, row + 1)
        return protocols.xplique(
            setup.logits, setup.images[part], setup.maps[part], setup.targets[part].tolist(), deletion
        )

    return lambda setup: np.array([one(setup, row) for row in range(len(setup.maps))])


def _insertion_score(number: int) -> Reference:
    """TMLR-IDGI's area (1) or that of the normalised curve (2)."""

    def areas(setup: Setup) -> np.ndarray:
        black = channels(-setup.evaluation.mean / setup.evaluation.std)
        rows = zip(setup.normalised, setup.maps, setup.targets.tolist(), strict=True)
        return np.array([protocols.insertion_score(setup.from_normalised, *row, black)[number] for row in rows])

    return areas


def _lpi(number: int) -> Reference:
    """LPI's decisions (0) or logit ratios (1), insertion less deletion, (B, 9)."""

    def curves(setup: Setup) -> np.ndarray:
        rows = zip(setup.normalised, np.abs(setup.maps), setup.targets.tolist(), strict=True)
        games = [protocols.lpi(setup.from_normalised, *row)[number] for row in rows]
        return np.array([inserted - deleted for inserted, deleted in games])

    return curves


def _sig(setup: Setup) -> np.ndarray:
    """SIG's decisions in the order of |values|, insertion less deletion, (B, 9)."""
    assert setup.evaluation.values is not None
    values = setup.evaluation.values.abs().numpy()
    rows = zip(setup.normalised, values, setup.targets.tolist(), strict=True)
    games = [protocols.sig(setup.from_normalised, *row) for row in rows]
    return np.array([inserted - deleted for inserted, deleted in games])


def _pixel_flipping(setup: Setup) -> np.ndarray:
    """Quantus's curve, which starts after the first block, with the image's probability before it."""
    first = softmax(setup.logits(setup.images), axis=1)[np.arange(len(setup.targets)), setup.targets]
    later = peers.quantus_pixel_flipping(setup.network, setup.images, setup.maps, setup.targets, BLOCK)
    return np.concatenate([first[:, None], later], axis=1)


def _faithfulness(setup: Setup) -> np.ndarray:
    pixels = setup.maps[0].size // 20
    subsets = [
        [pixel_subset(stream.generator(k), pixels, SHAPE) for k in range(SUBSETS)]
        for stream in setup.evaluation.streams("faithfulness_correlation")
    ]
    return peers.quantus_faithfulness(setup.network, setup.images, setup.maps, setup.targets, subsets)


def _sensitivity_n(setup: Setup) -> np.ndarray:
    """(B, sizes), a correlation for each size of subset."""
    sizes = subset_sizes(setup.maps[0].size, 5)
    streams = setup.evaluation.streams("sensitivity_n")
    found = []
    for size_number, size in enumerate(sizes):
        numbers = range(size_number, len(sizes) * SUBSETS, len(sizes))
        sets = [[pixel_subset(stream.generator(k), size, SHAPE) for k in numbers] for stream in streams]
        found.append(_removed(setup, sets, pearsonr))
    return np.stack(found, axis=1)


def _mufidelity(setup: Setup) -> np.ndarray:
    def cells(generator: np.random.Generator) -> np.ndarray:
        hidden = torch.from_numpy(generator.random((9, 9)) < 0.2).double()
        return interpolate(hidden[None, None], SHAPE, mode="nearest-exact")[0, 0].numpy() > 0

    streams = setup.evaluation.streams("mufidelity")
    return _removed(setup, [[cells(stream.generator(k)) for k in range(SUBSETS)] for stream in streams], spearmanr)


def _removed(setup: Setup, sets: list[list[np.ndarray]], correlation: Any) -> np.ndarray:
    fill, found = channels(setup.evaluation.mean), []
    for row, hidden in enumerate(sets):

        def score(points: np.ndarray, target: int = int(setup.targets[row])) -> np.ndarray:
            return setup.logits(points)[:, target]

        found.append(peers.removal_correlation(score, setup.images[row], setup.maps[row], fill, hidden, correlation))
    return np.array(found)


def _road(highest: bool) -> Reference:
    """(B, 9), probabilities with the highest or lowest tenths imputed by Quantus."""

    def curves(setup: Setup) -> np.ndarray:
        found = []
        for image, saliency, target in zip(setup.images, setup.maps, setup.targets.tolist(), strict=True):
            order = protocols.falling(saliency)[:: 1 if highest else -1]
            counts = [tenth * order.size // 10 for tenth in range(1, 10)]
            imputed = np.stack([peers.quantus_imputed(image, order[:count]) for count in counts])
            found.append(softmax(setup.logits(imputed), axis=1)[:, target])
        return np.array(found)

    return curves


def _infidelity(perturbation_law: str, reading: str, normalised: bool) -> Reference:
    def values(setup: Setup) -> np.ndarray:
        options = InfidelityOptions(perturbation=perturbation_law, reading=reading, samples=PERTURBATIONS)
        evaluation = setup.evaluation
        mean = evaluation.mean.view(1, -1, 1, 1).expand_as(evaluation.images)
        change = [
            perturbation(stream.generator(k), away, options)
            for stream, away in zip(evaluation.streams("infidelity"), evaluation.images - mean, strict=True)
            for k in range(PERTURBATIONS)
        ]
        points = evaluation.images.repeat_interleave(PERTURBATIONS, dim=0) - torch.stack(change)
        # A map is the sum of its channels, and prefers none.
        spread = (evaluation.maps.double()[:, None] / evaluation.images.shape[1]).expand_as(evaluation.images)
        multiplied = reading == "attribution"
        return peers.captum_infidelity(
            setup.network, evaluation.images, spread, evaluation.targets, mean, points, multiplied, normalised
        )

    return values


def _moved(setup: Setup) -> list[Tensor]:
    return list(perturbed(setup.evaluation, MaxSensitivityOptions()))


def _captum_max_sensitivity(setup: Setup) -> np.ndarray:
    evaluation = setup.evaluation
    return peers.captum_max_sensitivity(setup.network, evaluation.images, evaluation.targets, explain, _moved(setup))


def _quantus_max_sensitivity(setup: Setup) -> np.ndarray:
    moved = [points.numpy() for points in _moved(setup)]
    return peers.quantus_max_sensitivity(setup.network, setup.images, setup.targets, explain, moved, len(moved))


def _completeness(setup: Setup) -> np.ndarray:
    evaluation, values = setup.evaluation, setup.attribution.values
    black = torch.zeros_like(evaluation.images)
    found = peers.captum_completeness(setup.network, evaluation.images, values, evaluation.targets, black)
    return np.asarray(np.abs(found))


def _explain_forgetful(setup: Setup) -> peers.Explain:
    """Maps under our network with those layers randomised that have other weights in the reference's."""
    networks = randomised(setup.evaluation)
    assert isinstance(networks, Randomised)

    def differs(network: nn.Module, name: str) -> bool:
        theirs, ours = (one.get_submodule(name).parameters() for one in (network, networks.trained))
        return not all(torch.equal(one, other) for one, other in zip(theirs, ours, strict=True))

    def forgetful(network: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        names = [name for name in networks.layers if differs(network, name)]
        return randomised_maps(setup.evaluation, networks, names) if names else setup.evaluation.maps

    return forgetful


def _mprt(setup: Setup) -> np.ndarray:
    return peers.quantus_mprt(setup.network, setup.images, setup.maps, setup.targets, _explain_forgetful(setup))


def _emprt(setup: Setup) -> np.ndarray:
    return peers.quantus_emprt(setup.network, setup.images, setup.maps, setup.targets, _explain_forgetful(setup))


def _random_logit(setup: Setup) -> np.ndarray:
    classes = int(setup.evaluation.image_logits().shape[1])
    drawn = [stream.generator(0).integers(classes - 1) for stream in setup.evaluation.streams("random_logit")]
    return peers.quantus_random_logit(
        setup.network, setup.images, setup.maps, setup.targets, explain, np.array(drawn), classes
    )


def _pic(name: str) -> Reference:
    def areas(setup: Setup) -> np.ndarray:
        images, shown = eight_bit(setup.evaluation), random_pixels(setup.evaluation, RANDOM_PIXELS)
        found = []
        for row, target in enumerate(setup.targets.tolist()):

            def score(levels: np.ndarray, target: int = target) -> np.ndarray:
                logits = setup.logits(np.ascontiguousarray(np.moveaxis(levels, -1, 1)) / 255)
                if name == "aic":
                    return np.asarray(logits.argmax(axis=1) == target, dtype=np.float64)
                return np.asarray(softmax(logits, axis=1)[:, target])

            curve = pair_pic(images[row], np.abs(setup.maps[row]), shown[row], score, THRESHOLDS, 0.0)
            found.append(np.nan if curve is None else curve.auc)
        return np.array(found)

    return areas


def _contours(setup: Setup) -> np.ndarray:
    """(B, 255), of the largest contour."""
    return _both_contours(setup)[:, 0]


def _all_contours(setup: Setup) -> np.ndarray:
    """(B, 255), the best of all contours."""
    return _both_contours(setup)[:, 1]


def _both_contours(setup: Setup) -> np.ndarray:
    rows = zip(np.abs(setup.maps), setup.evaluation.boxes, strict=True)
    return np.stack([peers.contour_ious(grey_levels(a), boxes[0]) for a, boxes in rows if not isinstance(boxes, str)])


BOTH = ("small", "lite0")
CURVES: dict[str, Any] = {
    "preset": "pair",
    "thresholds": THRESHOLDS,
    "random_fraction": RANDOM_PIXELS,
    "min_probability": 0.0,
}

_compare("insertion", "RISE protocol", 1e-5, _rise("insertion", BLOCK), preset="rise", pixels_per_step=BLOCK)
_compare("insertion", "RISE protocol", 1e-5, _rise("insertion", 1792), on=("lite0",), preset="rise", orders="signed")
_compare("insertion", "Xplique protocol", 1e-5, _xplique(deletion=False), preset="xplique")
_compare("deletion", "RISE protocol", 1e-5, _rise("deletion", BLOCK), preset="rise", pixels_per_step=BLOCK)
_compare("deletion", "RISE protocol", 1e-5, _rise("deletion", 1792), on=("lite0",), preset="rise", orders="signed")
_compare("deletion", "Xplique protocol", 1e-5, _xplique(deletion=True), preset="xplique")
_compare("insertion_deletion_gap", "RISE protocol", 1e-5, _rise_gap, preset="rise", pixels_per_step=BLOCK)
_compare("insertion_score", "TMLR-IDGI protocol", 1e-5, _insertion_score(1), ties="raster")
_compare(
    "insertion_score",
    "TMLR-IDGI protocol",
    1e-5,
    _insertion_score(2),
    column="insertion_score_normalised",
    ties="raster",
)
_compare("diffid_accuracy", "LPI protocol", 0.0, _lpi(0), column="diffid_accuracy_abs_curve", ties="raster")
_compare("diffid_element", "LPI protocol", 0.0, _lpi(0), column="diffid_element_abs_curve", ties="raster")
_compare("diffid_element", "LPI protocol, logits", 1e-4, _lpi(1), column="diffid_element_abs_curve", preset="lpi")
_compare("diffid_channels", "SIG protocol", 0.0, _sig, column="diffid_channels_abs_curve", preset="sig")
_compare("aic", "PAIR compute_pic_metric", 2e-3, _pic("aic"), column="aic_abs", on=("lite0",), **CURVES)
_compare("sic", "PAIR compute_pic_metric", 2e-3, _pic("sic"), column="sic_abs", on=("lite0",), **CURVES)
_compare(
    "pixel_flipping",
    "Quantus PixelFlipping",
    1e-5,
    _pixel_flipping,
    column="pixel_flipping_curve",
    pixels_per_step=BLOCK,
    ties="raster",
)
_compare(
    "faithfulness_correlation",
    "Quantus FaithfulnessCorrelation",
    1e-5,
    _faithfulness,
    fill="minimum",
    subsets=SUBSETS,
)
_compare(
    "sensitivity_n", "ReCal protocol", 1e-5, _sensitivity_n, column="sensitivity_n_curve", sizes=5, subsets=SUBSETS
)
_compare("mufidelity", "Xplique protocol", 1e-5, _mufidelity, subsets=SUBSETS)
_compare("road", "Quantus imputation", 1e-5, _road(True), column="road_morf_curve", noise=0.0, ties="raster")
_compare("road", "Quantus imputation", 1e-5, _road(False), column="road_lerf_curve", noise=0.0, ties="raster")
for law in ("gaussian", "square"):
    for reading in ("gradient", "attribution"):
        for column, normalised in (("infidelity", False), ("infidelity_normalised", True)):
            _compare(
                "infidelity",
                f"captum infidelity, {law}, {reading}",
                1e-5,
                _infidelity(law, reading, normalised),
                column=column,
                relative=True,
                perturbation=law,
                reading=reading,
                samples=PERTURBATIONS,
            )
_compare("roc_auc", "scikit-learn roc_auc_score", 1e-9, _by_image(roc_auc_score), on=BOTH)
_compare("roc_auc", "Quantus AUC", 1e-9, _quantus_map("AUC"), on=BOTH)
_compare(
    "average_precision", "scikit-learn average_precision_score", 1e-9, _by_image(average_precision_score), on=BOTH
)
_compare("pointing", "Quantus PointingGame", 0.0, _quantus_map("PointingGame"), on=BOTH, tolerance=0.0)
_compare("energy", "Quantus RelevanceMassAccuracy", 1e-6, _quantus_map("RelevanceMassAccuracy"), on=BOTH)
_compare("relevance_rank", "Quantus RelevanceRankAccuracy", 1e-9, _quantus_map("RelevanceRankAccuracy"), on=BOTH)
_compare("relevance_rank", "Quantus TopKIntersection", 1e-9, lambda s: peers.quantus_top_k(s.maps, s.masks), on=BOTH)
_compare(
    "iou",
    "scikit-learn jaccard_score",
    1e-9,
    _by_image(lambda mask, a: jaccard_score(mask, a > 0.2 * a.max())),
    on=BOTH,
    threshold="max",
    tau=0.2,
)
_compare(
    "mask_mae",
    "scikit-learn mean_absolute_error",
    1e-9,
    _by_image(lambda mask, a: mean_absolute_error(mask, minmax_scale(a))),
    on=BOTH,
)
_compare(
    "mask_mse",
    "scikit-learn mean_squared_error",
    1e-9,
    _by_image(lambda mask, a: mean_squared_error(mask, minmax_scale(a))),
    on=BOTH,
)
_compare("max_box_acc", "OpenCV findContours", 1e-9, _contours, column="max_box_iou_v1_vector")
_compare("max_box_acc", "OpenCV findContours", 1e-9, _all_contours, column="max_box_iou_v2_vector")
_compare("gini", "Quantus Sparseness", 1e-5, _quantus_map("Sparseness", with_mask=False), on=BOTH)
_compare("entropy", "Quantus Complexity", 1e-5, _quantus_map("Complexity", with_mask=False), on=BOTH)
_compare("completeness", "captum compute_convergence_delta", 1e-6, _completeness, on=BOTH, relative=True)
_compare("max_sensitivity", "captum sensitivity_max", 1e-5, _captum_max_sensitivity, relative=True)
_compare("max_sensitivity", "Quantus MaxSensitivity", 1e-5, _quantus_max_sensitivity, relative=True)
_compare("mprt", "Quantus MPRT", 1e-6, _mprt, column="mprt_curve")
_compare("emprt", "Quantus EfficientMPRT", 1e-6, _emprt)
_compare("random_logit", "Quantus RandomLogit", 1e-6, _random_logit)
