"""What a metric sees of a batch, and what it gives back."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
from torch import Tensor

Shared = TypeVar("Shared")


@dataclass(frozen=True)
class Evaluation:
    """One batch of images with one method's maps, as they are stored.

    Attributes:
        images: (B, C, H, W) in pixel space.
        maps: (B, H, W) float32, finite.
        targets: (B,) int64, the explained class.
        forward: (n, C, H, W) pixel-space points -> (n, classes) float logits; micro-batched, without gradient.
        mean, std: (C,) of the network's normalisation, for protocols that are defined in normalised space.
        masks: for each image the (H, W) bool area of its object, or a string that says why there is none.
        score, baseline_score, completeness_residual: (B,) of the method's `Attribution`; None where not at hand.
        logits: (B, classes) of the images, where they are known; `image_logits` gives them in any case.
        batch: points that `forward` takes at its best; metrics need not make more at a time.
    """

    images: Tensor
    maps: Tensor
    targets: Tensor
    forward: Callable[[Tensor], Tensor]
    mean: Tensor
    std: Tensor
    masks: tuple[np.ndarray | str, ...]
    score: Tensor | None = None
    baseline_score: Tensor | None = None
    completeness_residual: Tensor | None = None
    logits: Tensor | None = None
    batch: int = 64
    _shared: dict[Hashable, Any] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return int(self.maps.shape[0])

    def image_logits(self) -> Tensor:
        """(B, classes), the network's logits of the images, on the CPU."""
        known = self.logits
        return known.cpu() if known is not None else self.shared(("logits",), lambda: self.forward(self.images).cpu())

    def shared(self, key: Hashable, compute: Callable[[], Shared]) -> Shared:
        """`compute()`, once for all metrics of this batch that ask with the same key."""
        if key not in self._shared:
            self._shared[key] = compute()
        result: Shared = self._shared[key]
        return result


@dataclass(frozen=True)
class MetricResult:
    """A metric's numbers for a batch.

    Attributes:
        columns: column -> (B,) float; NaN exactly where `excluded` gives that column's reason.
        curves: curve column -> (B, n) float.
        excluded: for each image, column -> why there is no number.
    """

    columns: Mapping[str, np.ndarray]
    curves: Mapping[str, np.ndarray] = field(default_factory=dict)
    excluded: tuple[Mapping[str, str], ...] = ()
