"""The share of a map's magnitude that its brightest tenth of the pixels holds."""

from __future__ import annotations

from torch import Tensor

from ssig.extend import metric


@metric(better="higher", range="[0, 1]", family="complexity", reference="an example")
def my_metric(maps: Tensor, share: float = 0.1) -> Tensor:
    """The share of |map| that the brightest pixels hold.

    Args:
        maps: (B, H, W).
        share: of the pixels that count as the brightest
    """
    magnitudes = maps.abs().flatten(1)
    count = max(1, round(share * magnitudes.shape[1]))
    # A map of zeros gives 0 / 0, which is NaN: no number.
    return magnitudes.topk(count, dim=1).values.sum(dim=1) / magnitudes.sum(dim=1)
