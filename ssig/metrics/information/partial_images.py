"""Images that show a map's highest pixels and some random ones, with their scores and their information.

All of them are 8-bit, the image itself too: the encoder and the network get the same values. The random pixels are an
image's own, the same for every map and metric of it.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image, ImageFilter
from torch import Tensor

from ssig.metrics.information.image_information import MS_SSIM_SIDE, ms_ssim, webp_bytes
from ssig.metrics.information.processes import in_order
from ssig.metrics.information.triangulation import interpolate
from ssig.metrics.shared.ranking import TIES, Order, OrderOptions, ranks
from ssig.options import option
from ssig.types import Evaluation

THRESHOLDS = (0.005, 0.01, 0.02, 0.03, 0.04, 0.05, 0.07, 0.10, 0.13, 0.21, 0.34, 0.5, 0.75)

TOO_SMALL = f"MS-SSIM needs an input of more than {MS_SSIM_SIDE} pixels a side"
NOT_ENCODABLE = "WebP needs an input of 1 or 3 channels"

# The stages that show all pixels, and none but the random ones.
WHATEVER_THE_MAP = ("all", "none")


def _fractions(thresholds: tuple[float, ...]) -> str | None:
    rising = all(a < b for a, b in zip((0.0, *thresholds), (*thresholds, 1.0), strict=True))
    return None if rising else "fractions between 0 and 1, ascending"


@dataclass(frozen=True)
class PartialOptions(OrderOptions):
    """Which images are made from a map, and how their information is measured."""

    thresholds: tuple[float, ...] = option(THRESHOLDS, "fractions of the pixels that are shown", check=_fractions)
    random_fraction: float = option(0.01, "random pixels that are always shown", at_least=0, at_most=1)
    ties: str = option(
        "random",
        "pixels of equal value: in a random order, one for all maps of an image, by place, or all that reach the "
        "quantile together",
        choices=(*TIES, "quantile"),
    )
    hidden: str = option(
        "interpolated",
        "hidden pixels: interpolated between the others, or those of the blurred image",
        choices=("interpolated", "blurred"),
    )
    blur_radius: float = option(20.0, "radius of Pillow's Gaussian blur, for `hidden: blurred`", above=0)
    information: str = option(
        "webp", "bytes as lossless WebP, rescaled, or MS-SSIM with the image", choices=("webp", "ms-ssim")
    )

    @property
    def forwards(self) -> int:
        """Forward evaluations for a signed map: the image in 8 bits, without its pixels, and at each threshold."""
        return 2 + len(self.thresholds) * self.order_count

    @property
    def key(self) -> tuple[Hashable, ...]:
        """What the partial images depend on, and what is measured of them."""
        return (self.thresholds, self.random_fraction, self.ties, self.hidden, self.blur_radius, self.information)


class Partial(NamedTuple):
    """Of partial images (n, k): information, probability of the target, and 1 where the target is predicted."""

    information: np.ndarray
    probability: np.ndarray
    predicted: np.ndarray


def unfit(evaluation: Evaluation, options: PartialOptions) -> str | None:
    """Why no image of the batch can be measured."""
    if options.information == "ms-ssim":
        return TOO_SMALL if min(evaluation.images.shape[-2:]) <= MS_SSIM_SIDE else None
    return None if evaluation.images.shape[1] in (1, 3) else NOT_ENCODABLE


def whole_images(evaluation: Evaluation, options: PartialOptions, rows: Sequence[int]) -> Partial:
    """The images `rows` with all of their pixels, (n, 1)."""
    everything = np.ones((1, *evaluation.maps.shape[-2:]), dtype=bool)
    return _remembered(evaluation, options, WHATEVER_THE_MAP[0], rows, lambda row: everything, 1)


def least_images(evaluation: Evaluation, options: PartialOptions, rows: Sequence[int]) -> Partial:
    """The images `rows` with none of their pixels but the random ones, (n, 1)."""
    return _remembered(
        evaluation, options, WHATEVER_THE_MAP[1], rows, lambda row: _random(evaluation, options)[row, None], 1
    )


def partial_images(evaluation: Evaluation, options: PartialOptions, rows: Sequence[int], order: Order) -> Partial:
    """The images `rows` at each threshold, (n, T).

    Args:
        evaluation: the batch.
        options: the protocol.
        rows: which of its images.
        order: in which pixels are shown.
    """
    ranked = ranks(evaluation, order).cpu().numpy()

    def masks(row: int) -> np.ndarray:
        saliency = evaluation.maps[row].abs() if order.magnitude else evaluation.maps[row]
        top = np.array(counts(saliency.double().cpu().numpy(), options)).reshape(-1, 1, 1)
        shown: np.ndarray = (ranked[row] < top) | _random(evaluation, options)[row]
        return shown

    stage = "absolute" if order.magnitude else "signed"
    return _remembered(evaluation, options, stage, rows, masks, len(options.thresholds))


def eight_bit(evaluation: Evaluation) -> np.ndarray:
    """(B, H, W, C) uint8, the images as they are encoded and shown to the network."""

    def compute() -> np.ndarray:
        levels = (evaluation.images * 255).round().clamp(0, 255).to(torch.uint8)
        result: np.ndarray = levels.movedim(1, -1).contiguous().cpu().numpy()
        return result

    return evaluation.of_images(("eight bit",), compute)


def random_pixels(evaluation: Evaluation, fraction: float) -> np.ndarray:
    """(B, H, W) bool, floor(fraction N) random pixels of each image."""
    height, width = evaluation.maps.shape[-2:]
    masks = np.zeros((len(evaluation), height * width), dtype=bool)
    for mask, stream in zip(masks, evaluation.streams("pic"), strict=True):
        mask[stream.generator(0).choice(mask.size, int(mask.size * fraction), replace=False)] = True
    return masks.reshape(-1, height, width)


def counts(saliency: np.ndarray, options: PartialOptions) -> list[int]:
    """How many pixels each threshold shows of a map (H, W) float64, highest first.

    The reference shows a >= quantile(a, 1 - t). Where no two values are equal, that is the same.
    """
    if options.ties == "quantile":
        return [int((saliency >= np.quantile(saliency, 1 - t)).sum()) for t in options.thresholds]
    last = saliency.size - 1
    return [saliency.size - int(np.ceil(last * (1 - t) - 1e-9)) for t in options.thresholds]


def reveal(image: np.ndarray, shown: np.ndarray, blurred: np.ndarray | None, encode: bool) -> tuple[np.ndarray, int]:
    """A partial image, (H, W, C) uint8, and its size as WebP, or 0.

    Args:
        image: (H, W, C) uint8.
        shown: (H, W) bool.
        blurred: (H, W, C) uint8, for the other pixels; None to interpolate them.
        encode: whether to compute the size.
    """
    partial = interpolate(image, shown) if blurred is None else np.where(shown[..., None], image, blurred)
    return partial, webp_bytes(partial) if encode else 0


def _random(evaluation: Evaluation, options: PartialOptions) -> np.ndarray:
    key = ("random pixels", options.random_fraction)
    return evaluation.of_images(key, lambda: random_pixels(evaluation, options.random_fraction))


def _remembered(
    evaluation: Evaluation,
    options: PartialOptions,
    stage: str,
    rows: Sequence[int],
    masks: Callable[[int], np.ndarray],
    count: int,
) -> Partial:
    """The images `rows` under the masks (count, H, W) of each, (n, count).

    Metrics that include different images, as `aic` and `sic` do, share evaluations.
    """
    once = evaluation.of_images if stage in WHATEVER_THE_MAP else evaluation.shared
    values_by_row: dict[int, np.ndarray] = once(("partial images", stage, options.key), dict)
    missing = [row for row in rows if row not in values_by_row]
    every_mask = (mask for row in missing for mask in masks(row))
    evaluated = _evaluated(evaluation, options, np.repeat(missing, count).astype(np.int64), every_mask)
    values_by_row.update(zip(missing, evaluated.reshape(-1, count, len(Partial._fields)), strict=True))
    values = np.array([values_by_row[row] for row in rows]).reshape(-1, count, len(Partial._fields))
    return Partial(*np.moveaxis(values, -1, 0))


def _evaluated(
    evaluation: Evaluation, options: PartialOptions, rows: np.ndarray, masks: Iterable[np.ndarray]
) -> np.ndarray:
    """(n, 3) float64, the fields of `Partial` of images `rows` (n,) under a mask each; a batch of them at a time."""
    images, encode = eight_bit(evaluation), options.information == "webp"

    def tasks() -> Iterator[tuple[Any, ...]]:
        for row, mask in zip(rows.tolist(), masks, strict=True):
            yield images[row], mask, _blurred(evaluation, options, row), encode

    results, parts = in_order(reveal, tasks()), [np.empty((0, len(Partial._fields)))]
    for start in range(0, len(rows), evaluation.batch):
        batch_rows = rows[start : start + evaluation.batch]
        partial, sizes = zip(*islice(results, len(batch_rows)), strict=True)
        parts.append(_evaluated_batch(evaluation, options, batch_rows, np.stack(partial), sizes))
    return np.concatenate(parts)


def _evaluated_batch(
    evaluation: Evaluation, options: PartialOptions, rows: np.ndarray, partial: np.ndarray, sizes: tuple[int, ...]
) -> np.ndarray:
    """(n, 3) float64, the fields of `Partial` of partial images (n, H, W, C) of the images `rows`."""
    points = _points(evaluation, partial)
    logits = evaluation.forward(points).cpu().double()
    targets = evaluation.targets.cpu()[torch.from_numpy(rows)]
    probability = logits.softmax(dim=1).gather(1, targets[:, None])[:, 0]
    information = torch.tensor(sizes, dtype=torch.float64)
    if options.information == "ms-ssim":
        information = ms_ssim(points, _points(evaluation, eight_bit(evaluation)[rows])).cpu().double()
    fields = Partial(information.numpy(), probability.numpy(), (logits.argmax(dim=1) == targets).double().numpy())
    return np.stack(fields, axis=1)


def _points(evaluation: Evaluation, levels: np.ndarray) -> Tensor:
    """(n, C, H, W) in pixel space, of 8-bit images (n, H, W, C)."""
    images = evaluation.images
    # Moved as bytes, a quarter of what their values take.
    return torch.from_numpy(levels).to(images.device).movedim(-1, 1).to(images.dtype).contiguous() / 255


def _blurred(evaluation: Evaluation, options: PartialOptions, row: int) -> np.ndarray | None:
    """(H, W, C) uint8, what stands in for hidden pixels; None where they are interpolated."""
    if options.hidden == "interpolated":
        return None

    def compute() -> np.ndarray:
        blur = ImageFilter.GaussianBlur(options.blur_radius)
        channels = np.moveaxis(eight_bit(evaluation)[row], -1, 0)
        return np.stack([np.asarray(Image.fromarray(channel).filter(blur)) for channel in channels], axis=-1)

    return evaluation.of_images(("pic blurred", row, options.blur_radius), compute)
