"""Streaming sums: weighted means and Monte-Carlo standard errors, one sample at a time.

Welford's recurrence, for samples y_1 .. y_n:   mean_n = mean_(n-1) + (y_n - mean_(n-1)) / n
                                                M_n    = M_(n-1) + (y_n - mean_(n-1)) (y_n - mean_n)
    standard error of the mean = sqrt(M_n / (n (n - 1)))

Jackknife, for samples that are not independent (strata) or readouts that are not linear: sample k belongs to group
k mod 8, z_j is the map of all samples without group j, z that of all. With h_j = n / n_j and the pseudo-values
p_j = h_j z - (h_j - 1) z_j, the error is sqrt(mean_j (p_j - sum_i p_i / h_i)^2 / (h_j - 1)), of 7 degrees of freedom
(Tukey 1958; groups of unequal size: Busing, Meijer, van der Leeden 1999).

A readout of magnitudes is biased: noise never cancels in |.|, so the map of few samples is larger than that of many.
With the signs (and, for `max-abs`, the channel) of all *other* groups, noise cancels:

    bias = |mean| - mean_j sign(mean without j) mean_j

which is right for pure noise and for pure signal, and too large by at most .36 standard errors in between, where the
sign of the other groups is sometimes wrong.

Reliability, the correlation to expect with a map of as many other samples: for a mean of independent samples the share
of the map's variance over pixels that is not noise, else the correlation of the maps of two halves, stepped up to the
whole (Spearman 1910, Brown 1910).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

import torch
from torch import Tensor


class StandardError(Protocol):
    """Accumulates one image batch's samples and gives the standard error of their map, (B, H, W), or None."""

    def add(self, sample: int, values: Tensor, mapped: Tensor) -> None: ...

    def keep(self, rows: Tensor) -> None:
        """Keeps only some of the images, by their positions."""

    def result(self) -> Tensor | None: ...

    def bias(self) -> Tensor | None:
        """How much larger noise makes the map, (B, H, W); None for a readout that noise does not bias."""

    def reliability(self) -> Tensor | None:
        """(B,) in [0, 1], the correlation to expect with a map of as many other samples; None where there is none."""


GROUPS = 8
# Ways to halve the groups that are uncorrelated with each other.
SPLITS = (
    ((0, 2, 4, 6), (1, 3, 5, 7)),
    ((0, 1, 4, 5), (2, 3, 6, 7)),
    ((0, 3, 4, 7), (1, 2, 5, 6)),
)
_TINY = torch.finfo(torch.float64).tiny


class WeightedSum:
    """`sum_k w_k y_k` in the precision of the samples."""

    def __init__(self) -> None:
        self.value: Tensor | None = None

    def add(self, weight: float, sample: Tensor) -> None:
        if self.value is None:
            self.value = sample * weight
        else:
            self.value.add_(sample, alpha=weight)

    def keep(self, rows: Tensor) -> None:
        self.value = self.result()[rows]

    def result(self) -> Tensor:
        if self.value is None:
            raise ValueError("no samples")
        return self.value


class NoError:
    """For deterministic methods: no sampling error."""

    def add(self, sample: int, values: Tensor, mapped: Tensor) -> None:
        pass

    def keep(self, rows: Tensor) -> None:
        pass

    def result(self) -> None:
        return None

    def bias(self) -> None:
        return None

    def reliability(self) -> None:
        return None


class Welford:
    """Error of the mean of independent samples' maps."""

    def __init__(self) -> None:
        self.count = 0
        self.mean = torch.zeros(())
        self.squares = torch.zeros(())

    def add(self, sample: int, values: Tensor, mapped: Tensor) -> None:
        if self.count == 0:
            self.mean, self.squares = torch.zeros_like(mapped), torch.zeros_like(mapped)
        self.count += 1
        step = mapped - self.mean
        self.mean += step / self.count
        self.squares += step * (mapped - self.mean)

    def keep(self, rows: Tensor) -> None:
        self.mean, self.squares = self.mean[rows], self.squares[rows]

    def result(self) -> Tensor | None:
        if self.count < 2:
            return None
        return (self.squares / (self.count * (self.count - 1))).sqrt()

    def bias(self) -> None:
        return None

    def reliability(self) -> Tensor | None:
        if self.count < 2:
            return None
        noise = (self.squares.double() / (self.count * (self.count - 1))).mean(dim=(-2, -1))
        spread = self.mean.double().var(dim=(-2, -1), correction=0)
        share = torch.where(spread > 0, noise / spread.clamp_min(_TINY), (noise > 0).double())
        return (1 - share).clamp(0, 1).to(self.mean.dtype)


class Jackknife:
    """Error and bias of a map that is read out of a mean, from `GROUPS` interleaved groups of samples.

    Args:
        mapping: reads values (B, ...) out, (B, H, W).
        aligned: `(values, guide) -> (B, H, W)`, reads `values` out with the signs and channels of `guide`; None where
            the readout is no magnitude, or its bias is not wanted.
    """

    def __init__(self, mapping: Readout, aligned: Aligned | None = None) -> None:
        self.mapping = mapping
        self.aligned = aligned
        self.groups = [WeightedSum() for _ in range(GROUPS)]
        self.counts = [0] * GROUPS

    def add(self, sample: int, values: Tensor, mapped: Tensor) -> None:
        group = sample % GROUPS
        self.groups[group].add(1.0, values)
        self.counts[group] += 1

    def keep(self, rows: Tensor) -> None:
        for group, count in zip(self.groups, self.counts, strict=True):
            if count:
                group.keep(rows)

    def mean(self) -> Tensor:
        """Mean of all samples, (B, C, H, W)."""
        return self._sum(range(GROUPS)) / sum(self.counts)

    def reliability(self) -> Tensor | None:
        correlations = []
        for halves in SPLITS:
            sizes = [sum(self.counts[group] for group in half) for half in halves]
            if min(sizes) == 0:
                return None
            first, second = (self.mapping(self._sum(half) / size) for half, size in zip(halves, sizes, strict=True))
            correlations.append(correlation(first, second))
        return stepped_up(torch.stack(correlations).mean(dim=0)).to(self.mean().dtype)

    def maps(self) -> tuple[Tensor, Tensor]:
        """The maps of the even and of the odd samples."""
        even, odd = (self.mapping(self._sum(range(half, GROUPS, 2)) / sum(self.counts[half::2])) for half in range(2))
        return even, odd

    def result(self) -> Tensor | None:
        if len(self._filled) < 2:
            return None
        total, count = self._sum(range(GROUPS)), sum(self.counts)
        parts = [(self.groups[group].result(), self.counts[group]) for group in self._filled]
        without = [self.mapping((total - part) / (count - size)) for part, size in parts]
        return jackknife_error(self.mapping(total / count), without, [size for _, size in parts])

    def bias(self) -> Tensor | None:
        if self.aligned is None or len(self._filled) < 2:
            return None
        total, count = self._sum(range(GROUPS)), sum(self.counts)
        crossed = WeightedSum()
        for group in self._filled:
            group_sum = self.groups[group].result()
            crossed.add(1 / count, self.aligned(group_sum, total - group_sum))
        return self.mapping(total / count) - crossed.result()

    @property
    def _filled(self) -> list[int]:
        return [group for group, count in enumerate(self.counts) if count]

    def _sum(self, groups: Iterable[int]) -> Tensor:
        total = WeightedSum()
        for group in groups:
            if self.counts[group]:
                total.add(1.0, self.groups[group].result())
        return total.result()


def correlation(first: Tensor, second: Tensor) -> Tensor:
    """(B,) float64, Pearson's correlation of maps (B, H, W); 0 where one is constant, 1 where both are."""
    first, second = (
        maps.double().flatten(1) - maps.double().mean(dim=(-2, -1)).unsqueeze(1) for maps in (first, second)
    )
    scale = first.norm(dim=1) * second.norm(dim=1)
    both = (first.norm(dim=1) == 0) & (second.norm(dim=1) == 0)
    coefficient = (first * second).sum(dim=1) / scale.clamp_min(_TINY)
    return torch.where(scale > 0, coefficient, both.double())


def stepped_up(halves: Tensor) -> Tensor:
    """In [0, 1], the reliability of the whole from the correlation of its halves (Spearman 1910, Brown 1910)."""
    return (2 * halves / (1 + halves.clamp_min(0))).clamp(0, 1)


def jackknife_error(whole: Tensor, without: Sequence[Tensor], counts: Sequence[int]) -> Tensor:
    """Standard error of `whole`, made of all samples, from what is made without each group of `counts` samples."""
    ratios = [sum(counts) / count for count in counts]
    pseudo = [ratio * whole - (ratio - 1) * estimate for ratio, estimate in zip(ratios, without, strict=True)]
    centre = torch.stack([value / ratio for ratio, value in zip(ratios, pseudo, strict=True)]).sum(dim=0)
    squares = [(value - centre).square() / (ratio - 1) for ratio, value in zip(ratios, pseudo, strict=True)]
    return torch.stack(squares).mean(dim=0).sqrt()


class Readout(Protocol):
    def __call__(self, values: Tensor, /) -> Tensor: ...


class Aligned(Protocol):
    def __call__(self, values: Tensor, guide: Tensor, /) -> Tensor: ...
