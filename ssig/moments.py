"""Streaming sums: weighted means and Monte-Carlo standard errors, one sample at a time.

Welford's recurrence, for samples y_1 .. y_n:   mean_n = mean_(n-1) + (y_n - mean_(n-1)) / n
                                                M_n    = M_(n-1) + (y_n - mean_(n-1)) (y_n - mean_n)
    standard error of the mean = sqrt(M_n / (n (n - 1)))

Split halves, for samples that are not independent (strata) or readouts that are not linear: with the means a and b of
two interleaved halves, |a - b| / 2 estimates the error of their mean from one degree of freedom; its expectation is
c4(2) = sqrt(2 / pi) too small for normal errors, which is divided out.
"""

from __future__ import annotations

import math
from typing import Protocol

import torch
from torch import Tensor


class StandardError(Protocol):
    """Accumulates one image batch's samples and gives the standard error of their map, (B, H, W), or None."""

    def add(self, sample: int, values: Tensor, mapped: Tensor) -> None: ...

    def keep(self, rows: Tensor) -> None:
        """Goes on with some of the images, by their positions."""

    def result(self) -> Tensor | None: ...


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
    """Deterministic methods have no sampling error."""

    def add(self, sample: int, values: Tensor, mapped: Tensor) -> None:
        pass

    def keep(self, rows: Tensor) -> None:
        pass

    def result(self) -> None:
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


class SplitHalves:
    """Error from the difference of the even and the odd samples' maps; `mapping` reads values (B, C, H, W) out."""

    def __init__(self, mapping: Readout) -> None:
        self.mapping = mapping
        self.halves = (WeightedSum(), WeightedSum())
        self.counts = [0, 0]

    def add(self, sample: int, values: Tensor, mapped: Tensor) -> None:
        half = sample % 2
        self.halves[half].add(1.0, values)
        self.counts[half] += 1

    def keep(self, rows: Tensor) -> None:
        for half in self.halves:
            half.keep(rows)

    def mean(self) -> Tensor:
        """Mean of all samples, (B, C, H, W)."""
        return (self.halves[0].result() + self.halves[1].result()) / sum(self.counts)

    def maps(self) -> tuple[Tensor, Tensor]:
        """The maps of the even and of the odd samples."""
        even, odd = (self.mapping(half.result() / count) for half, count in zip(self.halves, self.counts, strict=True))
        return even, odd

    def result(self) -> Tensor | None:
        if min(self.counts) == 0:
            return None
        even, odd = self.maps()
        return (even - odd).abs() / 2 * math.sqrt(math.pi / 2)


class Readout(Protocol):
    def __call__(self, values: Tensor, /) -> Tensor: ...
