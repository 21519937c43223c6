"""In which order a map changes pixels: by its signed value or by its magnitude, highest first.

Ties go by raster index (a stable sort), so a constant map changes pixels row by row.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ssig.metrics.evaluation import Evaluation
from ssig.options import option

# (rows (n,), ranks (B, H, W)) -> (n, ...): a quantity of the images `rows`, whose pixels change in order of rank.
Ranked = Callable[[Tensor, Tensor], np.ndarray]


@dataclass(frozen=True)
class OrderOptions:
    """Options of every metric that changes pixels in the order of a map."""

    orders: str = option(
        "both",
        "order of the pixels: the signed map's, |map|'s, or each in turn",
        choices=("both", "signed", "absolute"),
    )

    @property
    def order_count(self) -> int:
        """How many orders a signed map is evaluated in."""
        return 2 if self.orders == "both" else 1

    def missing(self, signed: tuple[str, ...], absolute: tuple[str, ...]) -> dict[str, str]:
        """Column -> reason, for the columns of the order that was not asked for."""
        columns = {"both": (), "signed": absolute, "absolute": signed}[self.orders]
        return dict.fromkeys(columns, f"order not computed (orders: {self.orders})")


class InOrder(NamedTuple):
    """A quantity (B, ...) in the order of the signed map and in that of its magnitude; NaN where not asked for."""

    signed: np.ndarray
    absolute: np.ndarray


def ranks(evaluation: Evaluation, magnitude: bool) -> Tensor:
    """(B, H, W) int32, 0 for the pixel that changes first; computed once per batch."""

    def compute() -> Tensor:
        maps = evaluation.maps.abs() if magnitude else evaluation.maps
        flat = maps.to(evaluation.images.device).flatten(1)
        order = flat.argsort(dim=1, descending=True, stable=True)
        positions = torch.arange(flat.shape[1], dtype=torch.int32, device=flat.device).expand_as(order)
        return torch.empty_like(order, dtype=torch.int32).scatter_(1, order, positions).view(maps.shape)

    return evaluation.shared(("ranks", magnitude), compute)


def in_orders(evaluation: Evaluation, options: OrderOptions, key: tuple[Hashable, ...], compute: Ranked) -> InOrder:
    """`compute` in the orders that the options ask for, shared between metrics that give the same key.

    A map without negative values has one order only: its second result is a copy.
    """
    everyone = torch.arange(len(evaluation))

    def by_sign() -> np.ndarray:
        return compute(everyone, ranks(evaluation, magnitude=False))

    def by_magnitude() -> np.ndarray:
        return compute(everyone, ranks(evaluation, magnitude=True))

    def again_by_magnitude() -> np.ndarray:
        result = signed.copy()
        rows = torch.nonzero((evaluation.maps < 0).flatten(1).any(dim=1)).flatten().cpu()
        if len(rows):
            result[rows.numpy()] = compute(rows, ranks(evaluation, magnitude=True))
        return result

    if options.orders == "absolute":
        absolute = evaluation.shared((*key, "absolute"), by_magnitude)
        return InOrder(np.full_like(absolute, np.nan), absolute)
    signed = evaluation.shared((*key, "signed"), by_sign)
    if options.orders == "signed":
        return InOrder(signed, np.full_like(signed, np.nan))
    return InOrder(signed, evaluation.shared((*key, "absolute"), again_by_magnitude))
