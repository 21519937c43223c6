"""In which order a map changes pixels: by its signed value or by its magnitude, highest first or lowest first.

    highest first: by (-a, u),   lowest first: by (a, u),   u ~ U(0, 1), one number for each pixel of an image

Pixels of one value have no order of their own. An order by place would favour a side of the image, and change the
number of a map with few values, such as segments or a mask, by more than methods differ. u comes from the image's own
random numbers for `ties`: it is the same for all maps, metrics, batches and devices. So lowest first is not the
reverse of highest first: of equal pixels the same ones come first in both, and a constant map has one order.

`ties: raster` is the order by place, for comparison with references: highest first row by row, and lowest first the
reverse of it.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ssig.options import option
from ssig.types import Evaluation

TIES = ("random", "raster")


class Order(NamedTuple):
    """What pixels are ordered by: |map| or the signed map, and what tells equal ones apart."""

    magnitude: bool
    ties: str


# (rows (n,), order) -> (n, ...): a quantity of the images `rows`, whose pixels change in that order.
Ordered = Callable[[Tensor, Order], np.ndarray]


@dataclass(frozen=True)
class OrderOptions:
    """Options of every metric that changes pixels in the order of a map."""

    orders: str = option(
        "both",
        "order of the pixels: the signed map's, |map|'s, or each in turn",
        choices=("both", "signed", "absolute"),
    )
    ties: str = option(
        "random", "pixels of equal value: in a random order, one for all maps of an image, or by place", choices=TIES
    )

    @property
    def order_count(self) -> int:
        """How many orders a signed map is evaluated in."""
        return 2 if self.orders == "both" else 1

    def missing(self, signed: tuple[str, ...], absolute: tuple[str, ...]) -> dict[str, str]:
        """Column -> reason, for the columns of the order that is not computed."""
        columns = {"both": (), "signed": absolute, "absolute": signed}[self.orders]
        return dict.fromkeys(columns, f"order not computed (orders: {self.orders})")


class InOrder(NamedTuple):
    """A quantity (B, ...) in the order of the signed map and in that of its magnitude; NaN where not computed."""

    signed: np.ndarray
    absolute: np.ndarray


def tie_keys(evaluation: Evaluation) -> np.ndarray:
    """(B, N) float64, u of each pixel in raster order: of equal pixels, those of lower u come first."""
    pixels = evaluation.maps.shape[-2:].numel()
    return np.array([stream.generator(0).random(pixels) for stream in evaluation.streams("ties")]).reshape(-1, pixels)


def ranks(evaluation: Evaluation, order: Order, lowest: bool = False) -> Tensor:
    """(B, H, W) int32, 0 for the pixel that comes first, highest or lowest; on the images' device, once per batch."""

    def compute() -> Tensor:
        if order.ties == "raster" and lowest:
            return evaluation.maps.shape[-2:].numel() - 1 - ranks(evaluation, order)
        maps = evaluation.device_maps().abs() if order.magnitude else evaluation.device_maps()
        # -0 + 0 is 0: two zeros are one value for every sort.
        flat = maps.flatten(1) + 0.0
        if order.ties == "raster":
            sequence = flat.argsort(dim=1, descending=True, stable=True)
        else:
            by_key = _by_key(evaluation)
            sequence = by_key.gather(1, flat.gather(1, by_key).argsort(dim=1, descending=not lowest, stable=True))
        positions = torch.arange(flat.shape[1], dtype=torch.int32, device=flat.device).expand_as(sequence)
        return torch.empty_like(sequence, dtype=torch.int32).scatter_(1, sequence, positions).view(maps.shape)

    return evaluation.shared(("ranks", order, lowest), compute)


def _by_key(evaluation: Evaluation) -> Tensor:
    """(B, N) int64, the pixels of each image by rising u; made once for all maps of these images."""

    def compute() -> Tensor:
        return torch.from_numpy(tie_keys(evaluation).argsort(axis=1, kind="stable")).to(evaluation.images.device)

    return evaluation.of_images(("ties",), compute)


def top(values: np.ndarray, count: int) -> np.ndarray:
    """For each of the values its share in the `count` highest: 1 or 0, and equal ones in the last places alike.

    The mean over all orders of equal values, for measures that need no order.
    """
    lowest = np.partition(values, -count, axis=None)[-count]
    higher, tied = values > lowest, values == lowest
    shares: np.ndarray = higher + tied * ((count - higher.sum()) / tied.sum())
    return shares


def in_orders(evaluation: Evaluation, options: OrderOptions, key: tuple[Hashable, ...], compute: Ordered) -> InOrder:
    """`compute` in the orders of the options, shared between metrics that give the same key.

    A map without negative values has one order only: its second result is a copy.
    """
    everyone, key = torch.arange(len(evaluation)), (*key, options.ties)
    by_value, by_size = (Order(magnitude, options.ties) for magnitude in (False, True))

    def by_sign() -> np.ndarray:
        return compute(everyone, by_value)

    def by_magnitude() -> np.ndarray:
        return compute(everyone, by_size)

    def again_by_magnitude() -> np.ndarray:
        result = signed.copy()
        rows = torch.nonzero((evaluation.maps < 0).flatten(1).any(dim=1)).flatten().cpu()
        if len(rows):
            result[rows.numpy()] = compute(rows, by_size)
        return result

    if options.orders == "absolute":
        absolute = evaluation.shared((*key, "absolute"), by_magnitude)
        return InOrder(np.full_like(absolute, np.nan), absolute)
    signed = evaluation.shared((*key, "signed"), by_sign)
    if options.orders == "signed":
        return InOrder(signed, np.full_like(signed, np.nan))
    return InOrder(signed, evaluation.shared((*key, "absolute"), again_by_magnitude))
