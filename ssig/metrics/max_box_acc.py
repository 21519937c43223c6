"""MaxBoxAcc: share of images whose thresholded map has a box that fits the object, at the data set's best threshold.

    max_box_acc_v1 = max_t mean over images of [ IoU_1(t) >= .5 ]
    max_box_acc_v2 = mean over d in {.3, .5, .7} of max_t mean over images of [ IoU_2(t) >= d ]

Choe et al., Evaluating weakly supervised object localization methods right, CVPR 2020. |a| is scaled to [0, 1] and cut
to the grey levels 0 ... 255; the contours at threshold t are those of the pixels above t. IoU_1(t) is that of the box
of the contour of largest area, IoU_2(t) the highest of the boxes of all contours, each against the object's best box.
The benchmark's thresholds int(tau 255), tau = 0, .001, ..., .999, are the levels t = 0 ... 254. Its conventions:

- contours are 8-connected; those of holes count too;
- the area of a contour is that of the polygon through the centres of its pixels, so a line has none; of equal areas
  the contour that begins last in raster order is taken;
- a box ends one pixel after its contour, unless the image ends there; an object's box is cut to integers; both ends of
  a box lie inside it.

Departures: grey levels are cut in float64, not float32; an object's box ends with the image; an image with a
segmentation but without boxes has the box of the segmentation. The number of a single image is its highest IoU over
all thresholds, which is optimistic: the benchmark has one threshold for all images.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ssig.metrics.contours import WHITE, contours, highest
from ssig.metrics.evaluation import Box, Evaluation, MetricResult
from ssig.metrics.magnitudes import ALL_ZERO, CONSTANT, magnitudes
from ssig.metrics.objects import no_object
from ssig.metrics.results import NoOptions, assemble
from ssig.registry import METRICS, MetricSpec

OVERLAPS = (0.3, 0.5, 0.7)

_COLUMNS = ("max_box_iou_v1", "max_box_iou_v2")


def max_box_acc(evaluation: Evaluation, options: NoOptions) -> MetricResult:
    """IoU of the map's boxes with the object's at every threshold, and the highest."""
    curves = np.full((len(_COLUMNS), len(evaluation), WHITE), np.nan)
    excluded: list[dict[str, str]] = [{} for _ in range(len(evaluation))]
    for row, magnitude in enumerate(magnitudes(evaluation)):
        boxes = _object_boxes(evaluation, row)
        if isinstance(boxes, str):
            excluded[row] = dict.fromkeys(_COLUMNS, boxes)
        elif magnitude.min() == magnitude.max():
            excluded[row] = dict.fromkeys(_COLUMNS, CONSTANT if magnitude.any() else ALL_ZERO)
        else:
            curves[:, row] = box_ious(grey_levels(magnitude), boxes)
    return assemble(
        columns=dict(zip(_COLUMNS, curves.max(axis=2), strict=True)),
        excluded=excluded,
        vectors={f"{column}_vector": curve for column, curve in zip(_COLUMNS, curves, strict=True)},
    )


def accuracies(columns: Mapping[str, np.ndarray], options: NoOptions) -> dict[str, float]:
    """Both accuracies of a data set from its images' IoUs (N, 255); NaN without images."""
    largest, every = (columns[f"{column}_vector"] for column in _COLUMNS)
    return {
        "max_box_acc_v1": _accuracy(largest, 0.5),
        "max_box_acc_v2": float(np.mean([_accuracy(every, overlap) for overlap in OVERLAPS])),
    }


def redrawn(columns: Mapping[str, np.ndarray], counts: np.ndarray, options: NoOptions) -> dict[str, np.ndarray]:
    """`accuracies` of images that are drawn again, (R,) each, for how often each is taken (R, N)."""
    largest, every = (columns[f"{column}_vector"] for column in _COLUMNS)

    def best(ious: np.ndarray, overlap: float) -> np.ndarray:
        shares: np.ndarray = counts @ _hits(ious, overlap).astype(np.float64) / len(ious)
        highest_share: np.ndarray = shares.max(axis=1)
        return highest_share

    return {
        "max_box_acc_v1": best(largest, 0.5),
        "max_box_acc_v2": np.mean([best(every, overlap) for overlap in OVERLAPS], axis=0),
    }


def _accuracy(ious: np.ndarray, overlap: float) -> float:
    hits = _hits(ious, overlap)
    return float(hits.mean(axis=0).max()) if len(hits) else float("nan")


def _hits(ious: np.ndarray, overlap: float) -> np.ndarray:
    # IoUs are stored in float32, in which 7/10 is less than the .7 of float64.
    hits: np.ndarray = np.asarray(ious, dtype=np.float32) >= np.float32(overlap)
    return hits


def grey_levels(magnitude: np.ndarray) -> np.ndarray:
    """(H, W) uint8, from 0 at the minimum of |map| to 255 at its maximum, which differ."""
    lowest = magnitude.min()
    grey: np.ndarray = ((magnitude - lowest) / (magnitude.max() - lowest) * WHITE).astype(np.uint8)
    return grey


def box_ious(grey: np.ndarray, boxes: Sequence[Box]) -> np.ndarray:
    """(2, 255), IoU_1 and IoU_2 at the thresholds 0 ... 254.

    Args:
        grey: (H, W) uint8 with the value 255.
        boxes: of the object, edges in pixels; at least one.
    """
    found = contours(grey)
    every = _best_ious(found.every.boxes, boxes, grey.shape)
    return np.stack([_best_ious(found.largest, boxes, grey.shape), highest(every, found.every.low, found.every.high)])


def _best_ious(found: np.ndarray, boxes: Sequence[Box], shape: tuple[int, ...]) -> np.ndarray:
    """(n,) highest IoU of each contour's box (n, 4) with the object's boxes, in an image of shape (height, width)."""
    end = (shape[1] - 1, shape[0] - 1)
    truth = np.array(boxes).astype(np.intp)
    low, high = found[:, None, :2], np.minimum(found[:, None, 2:] + 1, end)
    truth_low, truth_high = truth[:, :2], np.minimum(truth[:, 2:], end)
    common = _area(np.maximum(low, truth_low), np.minimum(high, truth_high))
    ious: np.ndarray = (common / (_area(low, high) + _area(truth_low, truth_high) - common)).max(axis=1)
    return ious


def _area(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Pixels of the boxes from (x, y) `low` to `high`, both inside."""
    pixels: np.ndarray = np.maximum(high - low + 1, 0).prod(axis=-1)
    return pixels


def _object_boxes(evaluation: Evaluation, row: int) -> tuple[Box, ...] | str:
    """The object's boxes, else the box of its mask, or why there is neither."""
    boxes = evaluation.boxes[row] if evaluation.boxes else "no boxes"
    if not isinstance(boxes, str):
        return boxes
    mask = evaluation.masks[row]
    if isinstance(mask, str):
        return mask
    if reason := no_object(mask):
        return reason
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    return ((float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)),)


METRICS.add(
    MetricSpec(
        name="max_box_acc",
        compute=max_box_acc,
        options=NoOptions,
        columns=dict.fromkeys(_COLUMNS, "higher"),
        vectors=tuple(f"{column}_vector" for column in _COLUMNS),
        dataset_columns={"max_box_acc_v1": "higher", "max_box_acc_v2": "higher"},
        dataset=accuracies,
        resampled=redrawn,
        definition="share of images where a box around thresholded |map| overlaps the object's, at the best threshold",
        range="[0, 1]",
        reference="Choe et al., Evaluating weakly supervised object localization methods right, CVPR 2020",
        forwards=lambda options: 0,
        family="localization",
        descriptions={
            "max_box_iou_v1": "IoU of the largest contour's box with the object's, at the image's own best threshold",
            "max_box_iou_v2": "IoU of the best contour's box with the object's, at the image's own best threshold",
            "max_box_iou_v1_vector": "IoU of the largest contour's box with the object's at the thresholds 0 ... 254",
            "max_box_iou_v2_vector": "IoU of the best contour's box with the object's at the thresholds 0 ... 254",
            "max_box_acc_v1": "share of images with max_box_iou_v1 of at least .5, at the data set's best threshold",
            "max_box_acc_v2": "mean share of images with an IoU of .3, .5, .7, each at its best threshold",
        },
        needs=frozenset({"map", "mask"}),
    )
)
