"""Sample distributions `q(x̂ | x)`. Suppression samplers draw a mask `m` in [0, 1] and return `x̂ = x' + m * (x - x')`.
`SAMPLERS` and `SPECTRA` give the law of each; `rho_k = (k + 1/2) / K` for sample k of K.

Source: Luo, McDermott, O'Riordan, *Sampling Matters in Explanations* (2025) for suppression; the exact law is not
public, so it is a family of named choices.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from ssig.estimators.quadrature import quadrature
from ssig.estimators.transfer import to_device
from ssig.types import Group

Kind = Literal["independent", "stratified", "deterministic"]
RINGS = 16
GOLDEN = (math.sqrt(5) - 1) / 2
# Name -> the law of its samples. `N` is a number.
SAMPLERS = {
    "identity": "x̂ = x",
    "line": "m = a_k of the quadrature `rule`, with its weights w_k; no randomness",
    "uniform": "m ~ U(`low`, `high`) per pixel, shared by the channels",
    "uniform-channel": "m ~ U(`low`, `high`) per pixel and channel",
    "bernoulli": "m ~ Bernoulli(rho_k) per pixel",
    "patch-N": "m ~ Bernoulli(rho_k) on a grid of N x N cells, nearest upsampled",
    "smooth-N": "m ~ Bernoulli(rho_k) on a grid of N x N cells, bilinearly upsampled",
    "frequency": "Fourier coefficients of x - x' times a mask shared by the channels, as `spectrum` says; no clamp",
    "noise": "x̂ = x + `sigma` (max x - min x) eps, eps ~ N(0, 1), no clamp: the rival law, not suppression",
}
# Spectrum of the frequency sampler -> its mask.
SPECTRA = {
    "bins": "each coefficient kept with probability rho_k",
    "gains": "each coefficient times U(0, 1)",
    "rings": f"{RINGS} radial log-spaced bands, each kept with probability rho_k",
    "low-pass": "coefficients below a cutoff that rises with rho_k, log-spaced; no randomness",
}


class Sampler(Protocol):
    """Draws sample number `k` of `samples` for every image of a group.

    `kind` is how samples relate: independent and identically distributed, stratified over `k`, or deterministic. The
    standard error is estimated accordingly.
    """

    @property
    def kind(self) -> Kind: ...

    def point(self, group: Group, k: int, samples: int | None) -> Tensor:
        """Sample `k` of each image, (B, C, H, W), of `samples`, or of an open number if None."""

    def weight(self, k: int, samples: int) -> float:
        """Weight of sample `k`; the weights of all samples sum to 1."""


class _EqualWeights:
    def weight(self, k: int, samples: int) -> float:
        return 1 / samples


@dataclass(frozen=True)
class Identity(_EqualWeights):
    kind: Kind = "deterministic"

    def point(self, group: Group, k: int, samples: int | None) -> Tensor:
        return group.images


@dataclass(frozen=True)
class Line:
    """The straight path from baseline to image, at the nodes of a quadrature rule."""

    rule: str = "midpoint"
    kind: Kind = "deterministic"

    def point(self, group: Group, k: int, samples: int | None) -> Tensor:
        if samples is None:
            raise ValueError("a quadrature rule has a number of nodes")
        return group.baselines + self.alpha(k, samples) * group.difference

    def alpha(self, k: int, samples: int) -> float:
        """Where on the path node `k` is."""
        return float(quadrature(self.rule, samples)[0][k])

    def weight(self, k: int, samples: int) -> float:
        return float(quadrature(self.rule, samples)[1][k])


@dataclass(frozen=True)
class Uniform(_EqualWeights):
    low: float = 0.0
    high: float = 1.0
    per_channel: bool = False
    kind: Kind = "independent"

    def point(self, group: Group, k: int, samples: int | None) -> Tensor:
        channels, height, width = group.images.shape[1:]
        shape = (channels if self.per_channel else 1, height, width)
        draws = [s.generator(k).random(shape, dtype=np.float32) for s in group.streams]
        mask = to_device(draws, group.images)
        return _suppressed(group, self.low + (self.high - self.low) * mask)


@dataclass(frozen=True)
class Cells(_EqualWeights):
    """Bernoulli masks with stratified keep probability: of single pixels (`cells` 0) or on a grid of cells x cells."""

    cells: int = 0
    smooth: bool = False
    kind: Kind = "stratified"

    def point(self, group: Group, k: int, samples: int | None) -> Tensor:
        size = tuple(group.images.shape[-2:])
        shape = (1, self.cells, self.cells) if self.cells else (1, *size)
        draws = [s.generator(k).random(shape, dtype=np.float32) < stratum(k, samples) for s in group.streams]
        mask = to_device(draws, group.images)
        if self.cells and self.smooth:
            mask = interpolate(mask, size=size, mode="bilinear", align_corners=False)
        elif self.cells:
            mask = interpolate(mask, size=size, mode="nearest-exact")
        return _suppressed(group, mask)


@dataclass(frozen=True)
class Frequency(_EqualWeights):
    """Random spectra: real 2-D Fourier coefficients of `x - x'` times a mask that the channels share."""

    spectrum: str = "bins"

    @property
    def kind(self) -> Kind:
        kinds: dict[str, Kind] = {"gains": "independent", "low-pass": "deterministic"}
        return kinds.get(self.spectrum, "stratified")

    def point(self, group: Group, k: int, samples: int | None) -> Tensor:
        size = (int(group.images.shape[-2]), int(group.images.shape[-1]))
        masks = [self._mask(s.generator(k), stratum(k, samples), size) for s in group.streams]
        coefficients = torch.fft.rfft2(group.difference) * to_device(masks, group.images).unsqueeze(1)
        masked: Tensor = torch.fft.irfft2(coefficients, s=size)
        return group.baselines + masked

    def _mask(self, generator: np.random.Generator, rho: float, size: tuple[int, int]) -> np.ndarray:
        radii = frequency_radii(size)
        lowest, highest = radii[radii > 0].min(initial=np.inf), radii.max()
        if self.spectrum == "low-pass":
            cutoff = lowest * (highest / lowest) ** rho if highest > 0 else 0.0
            below: np.ndarray = (radii <= cutoff).astype(np.float32)
            return below
        if self.spectrum == "rings":
            chosen_rings = generator.random(RINGS, dtype=np.float32) < rho
            ringed: np.ndarray = chosen_rings[rings(radii)].astype(np.float32)
            return ringed
        draws = generator.random(radii.shape, dtype=np.float32)
        mask = draws if self.spectrum == "gains" else (draws < rho).astype(np.float32)
        return hermitian(mask, size)


@dataclass(frozen=True)
class Noise(_EqualWeights):
    """Gaussian noise of `sigma` times the range of each image."""

    sigma: float = 0.15
    kind: Kind = "independent"

    def point(self, group: Group, k: int, samples: int | None) -> Tensor:
        shape = tuple(group.images.shape[1:])
        draws = [s.generator(k).standard_normal(shape, dtype=np.float32) for s in group.streams]
        spread = group.images.amax(dim=(1, 2, 3), keepdim=True) - group.images.amin(dim=(1, 2, 3), keepdim=True)
        return group.images + self.sigma * spread * to_device(draws, group.images)


def stratum(k: int, samples: int | None) -> float:
    """`rho_k = (k + 1/2) / K`; if K is None, the golden-ratio sequence, which is evenly spread at any length."""
    return (k + 0.5) * GOLDEN % 1 if samples is None else (k + 0.5) / samples


def frequency_radii(size: tuple[int, int]) -> np.ndarray:
    """Radial frequency of each `rfft2` coefficient of an image of `size` (H, W): cycles per pixel, (H, W // 2 + 1)."""
    radii: np.ndarray = np.hypot(np.fft.fftfreq(size[0])[:, None], np.fft.rfftfreq(size[1])[None, :])
    return radii


def rings(radii: np.ndarray) -> np.ndarray:
    """Index in [0, RINGS) of each coefficient's log-spaced band; the mean belongs to the lowest."""
    if radii.max() == 0:
        return np.zeros(radii.shape, dtype=np.int64)
    edges = np.geomspace(radii[radii > 0].min(), radii.max(), RINGS + 1)
    return np.clip(np.searchsorted(edges, radii, side="right") - 1, 0, RINGS - 1)


def hermitian(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """`mask` with equal entries at opposite frequencies.

    In the columns of frequency 0 and 1/2 both of a conjugate pair are stored, and the inverse transform of a real
    image would average them: a coefficient would count half. The lower half decides for both.
    """
    height, width = size
    rows = np.arange(height // 2 + 1, height)
    for column in [0] if width % 2 else [0, width // 2]:
        mask[rows, column] = mask[height - rows, column]
    return mask


def sampler(
    name: str,
    *,
    low: float = 0.0,
    high: float = 1.0,
    spectrum: str = "bins",
    sigma: float = 0.15,
    rule: str = "midpoint",
) -> Sampler | None:
    """The sampler called `name` (`SAMPLERS`, with a number for N), or None if there is none."""
    if name == "identity":
        return Identity()
    if name == "line":
        return Line(rule)
    if name in ("uniform", "uniform-channel"):
        return Uniform(low, high, per_channel=name == "uniform-channel")
    if name == "bernoulli":
        return Cells()
    if name == "frequency":
        return Frequency(spectrum)
    if name == "noise":
        return Noise(sigma)
    if grid := re.fullmatch(r"(patch|smooth)-([1-9]\d{0,3})", name):
        return Cells(int(grid[2]), smooth=grid[1] == "smooth")
    return None


def _suppressed(group: Group, mask: Tensor) -> Tensor:
    return group.baselines + mask * group.difference
