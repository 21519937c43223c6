"""Sample distributions `q(x̂ | x)`. Suppression samplers draw a mask `m` in [0, 1] and return `x̂ = x' + m * (x - x')`.
`SAMPLERS` and `SPECTRA` give the law of each; `rho_k = (k + 1/2) / K` for sample k of K.

Source: Luo, McDermott, O'Riordan, *Sampling Matters in Explanations* (2025) for suppression; the exact law is not
public, so it is a family of named choices.
"""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from ssig.estimators.draws import Normals, uniforms
from ssig.estimators.quadrature import quadrature
from ssig.estimators.transfer import to_device
from ssig.randomness import Stream
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
    """Draws samples for every image of a group.

    `kind` is how samples relate: independent and identically distributed, stratified over `k`, or deterministic. The
    standard error is estimated accordingly.
    """

    @property
    def kind(self) -> Kind: ...

    def begun(self, group: Group, drawn: Sequence[int]) -> Normals | None:
        """Begins to draw what `points` will need, if that takes long and the device computes meanwhile."""

    def points(self, group: Group, drawn: Sequence[int], samples: int | None, begun: Normals | None = None) -> Tensor:
        """Samples `drawn` of each image, (S * B, C, H, W), image index fastest.

        Args:
            group: the images, baselines and streams.
            drawn: numbers k of samples.
            samples: of how many; None if their number is open.
            begun: of the same samples, for this group or for one that had its images too.
        """

    def point(self, group: Group, k: int, samples: int | None) -> Tensor:
        """Sample `k` of each image, (B, C, H, W)."""

    def weight(self, k: int, samples: int) -> float:
        """Weight of sample `k`; the weights of all samples sum to 1."""


class _Law(ABC):
    """What most samplers share: equal weights, and nothing that takes long to draw."""

    def begun(self, group: Group, drawn: Sequence[int]) -> Normals | None:
        return None

    @abstractmethod
    def points(
        self, group: Group, drawn: Sequence[int], samples: int | None, begun: Normals | None = None
    ) -> Tensor: ...

    def point(self, group: Group, k: int, samples: int | None) -> Tensor:
        return self.points(group, range(k, k + 1), samples)

    def weight(self, k: int, samples: int) -> float:
        return 1 / samples


@dataclass(frozen=True)
class Identity(_Law):
    kind: Kind = "deterministic"

    def points(self, group: Group, drawn: Sequence[int], samples: int | None, begun: Normals | None = None) -> Tensor:
        return torch.cat([group.images] * len(drawn))


@dataclass(frozen=True)
class Line(_Law):
    """The straight path from baseline to image, at the nodes of a quadrature rule."""

    rule: str = "midpoint"
    kind: Kind = "deterministic"

    def points(self, group: Group, drawn: Sequence[int], samples: int | None, begun: Normals | None = None) -> Tensor:
        if samples is None:
            raise ValueError("a quadrature rule has a number of nodes")
        return torch.cat([group.baselines + self.alpha(k, samples) * group.difference for k in drawn])

    def alpha(self, k: int, samples: int) -> float:
        """Where on the path node `k` is."""
        return float(quadrature(self.rule, samples)[0][k])

    def weight(self, k: int, samples: int) -> float:
        return float(quadrature(self.rule, samples)[1][k])


@dataclass(frozen=True)
class Uniform(_Law):
    low: float = 0.0
    high: float = 1.0
    per_channel: bool = False
    kind: Kind = "independent"

    def points(self, group: Group, drawn: Sequence[int], samples: int | None, begun: Normals | None = None) -> Tensor:
        channels, height, width = group.images.shape[1:]
        shape = (channels if self.per_channel else 1, height, width)
        masks = uniforms(group.streams, drawn, shape, group.images).to(group.images.dtype)
        return _suppressed(group, self.low + (self.high - self.low) * masks)


@dataclass(frozen=True)
class Cells(_Law):
    """Bernoulli masks with stratified keep probability: of single pixels (`cells` 0) or on a grid of cells x cells."""

    cells: int = 0
    smooth: bool = False
    kind: Kind = "stratified"

    def points(self, group: Group, drawn: Sequence[int], samples: int | None, begun: Normals | None = None) -> Tensor:
        size = tuple(group.images.shape[-2:])
        shape = (1, self.cells, self.cells) if self.cells else (1, *size)
        masks = kept(uniforms(group.streams, drawn, shape, group.images), drawn, samples).to(group.images.dtype)
        if self.cells:
            how: dict[str, Any] = (
                {"mode": "bilinear", "align_corners": False} if self.smooth else {"mode": "nearest-exact"}
            )
            masks = interpolate(masks.flatten(0, 1), size=size, **how).view(len(drawn), len(group), 1, *size)
        return _suppressed(group, masks)


@dataclass(frozen=True)
class Frequency(_Law):
    """Random spectra: real 2-D Fourier coefficients of `x - x'` times a mask that the channels share."""

    spectrum: str = "bins"

    @property
    def kind(self) -> Kind:
        kinds: dict[str, Kind] = {"gains": "independent", "low-pass": "deterministic"}
        return kinds.get(self.spectrum, "stratified")

    def points(self, group: Group, drawn: Sequence[int], samples: int | None, begun: Normals | None = None) -> Tensor:
        size = (int(group.images.shape[-2]), int(group.images.shape[-1]))
        masks = self.masks(group, drawn, samples, size).to(group.images.dtype)
        suppressed: Tensor = torch.fft.irfft2(group.spectrum * masks.unsqueeze(2), s=size)
        return suppressed.add_(group.baselines).flatten(0, 1)

    def masks(self, group: Group, drawn: Sequence[int], samples: int | None, size: tuple[int, int]) -> Tensor:
        """Of the coefficients of images of `size`, (S, B, H, W // 2 + 1); (S, 1, H, W // 2 + 1) without randomness."""
        images = group.images
        if self.spectrum == "low-pass":
            cutoffs = torch.tensor([cutoff(size, stratum(k, samples)) for k in drawn], dtype=torch.float64)
            below = torch.from_numpy(np.array(frequency_radii(size))) <= cutoffs.view(-1, 1, 1)
            return to_device(below, images.device).unsqueeze(1)
        if self.spectrum == "rings":
            bands = kept(uniforms(group.streams, drawn, (RINGS,), images), drawn, samples)
            return bands[..., bands_on(size, images.device)]
        draws = uniforms(group.streams, drawn, frequency_radii(size).shape, images)
        return hermitian(draws if self.spectrum == "gains" else kept(draws, drawn, samples), size)


@dataclass(frozen=True)
class Noise(_Law):
    """Gaussian noise of `sigma` times the range of each image."""

    sigma: float = 0.15
    kind: Kind = "independent"

    def begun(self, group: Group, drawn: Sequence[int]) -> Normals | None:
        return None if group.images.device.type == "cpu" else self._normals(group, drawn)

    def points(self, group: Group, drawn: Sequence[int], samples: int | None, begun: Normals | None = None) -> Tensor:
        normals = (begun or self._normals(group, drawn)).take(group.streams).to(group.images.dtype)
        return normals.mul_(self.sigma * group.spread).add_(group.images).flatten(0, 1)

    def _normals(self, group: Group, drawn: Sequence[int]) -> Normals:
        return Normals(group.streams, drawn, tuple(group.images.shape[1:]), group.images)


def name_of_points(law: Sampler, samples: int | str, method: str) -> Hashable | None:
    """The points of a law for `MethodSpec.path`: draws depend on the method's name, fixed laws do not.

    None where the number of samples is found out as they are drawn.
    """
    if isinstance(samples, str):
        return None
    if isinstance(law, Line):
        return "line", law.rule, samples
    return law, samples, "" if law.kind == "deterministic" else method


def key_of_points(law: Sampler, samples: int, drawn: Sequence[int], streams: Sequence[Stream]) -> Hashable:
    """Some of these points for `Request.key`; all methods that walk the straight path name its nodes alike."""
    if isinstance(law, Line):
        return "line", tuple(law.alpha(k, samples) for k in drawn)
    return law, samples, tuple(drawn), () if law.kind == "deterministic" else tuple(streams)


def requests(group: Group, sampler: Sampler, samples: int) -> Iterator[tuple[range, Tensor]]:
    """The samples and the points of each request; those of the next request are drawn while the device computes."""
    spans = [range(first, min(first + group.budget, samples)) for first in range(0, samples, group.budget)]
    begun = None
    for number, drawn in enumerate(spans):
        points = sampler.points(group, drawn, samples, begun)
        begun = sampler.begun(group, spans[number + 1]) if number + 1 < len(spans) else None
        yield drawn, points


def kept(draws: Tensor, drawn: Sequence[int], samples: int | None) -> Tensor:
    """Which of the numbers (S, ...) are below the stratum of their sample, bool."""
    # As float32, to which NumPy and torch round a number that they compare with float32.
    strata = torch.tensor([stratum(k, samples) for k in drawn], dtype=torch.float32)
    return draws < to_device(strata, draws.device).view(-1, *[1] * (draws.ndim - 1))


def stratum(k: int, samples: int | None) -> float:
    """`rho_k = (k + 1/2) / K`; if K is None, the golden-ratio sequence, which is evenly spread at any length."""
    return (k + 0.5) * GOLDEN % 1 if samples is None else (k + 0.5) / samples


@lru_cache(8)
def frequency_radii(size: tuple[int, int]) -> np.ndarray:
    """Radial frequency of each `rfft2` coefficient of an image of `size` (H, W): cycles per pixel, (H, W // 2 + 1).

    Computed once and read-only.
    """
    radii: np.ndarray = np.hypot(np.fft.fftfreq(size[0])[:, None], np.fft.rfftfreq(size[1])[None, :])
    radii.flags.writeable = False
    return radii


def cutoff(size: tuple[int, int], rho: float) -> float:
    """The radial frequency up to which `low-pass` keeps coefficients."""
    lowest, highest = _ends(size)
    return lowest * (highest / lowest) ** rho if highest > 0 else 0.0


@lru_cache(8)
def _ends(size: tuple[int, int]) -> tuple[float, float]:
    """The least radial frequency above 0, and the greatest."""
    radii = frequency_radii(size)
    return float(radii[radii > 0].min(initial=np.inf)), float(radii.max())


def rings(radii: np.ndarray) -> np.ndarray:
    """Index in [0, RINGS) of each coefficient's log-spaced band; the mean belongs to the lowest."""
    if radii.max() == 0:
        return np.zeros(radii.shape, dtype=np.int64)
    edges = np.geomspace(radii[radii > 0].min(), radii.max(), RINGS + 1)
    return np.clip(np.searchsorted(edges, radii, side="right") - 1, 0, RINGS - 1)


@lru_cache(8)
def bands_on(size: tuple[int, int], device: torch.device) -> Tensor:
    """`rings` of an image of `size`, (H, W // 2 + 1) int64 on a device; computed once."""
    return torch.from_numpy(rings(frequency_radii(size))).to(device)


def hermitian(masks: Tensor, size: tuple[int, int]) -> Tensor:
    """Masks (..., H, W // 2 + 1) with equal entries at opposite frequencies; changed in place.

    In the columns of frequency 0 and 1/2 both of a conjugate pair are stored, and the inverse transform of a real
    image would average them: a coefficient would count half. The lower half decides for both.
    """
    height, width = size
    for column in [0] if width % 2 else [0, width // 2]:
        masks[..., height // 2 + 1 :, column] = masks[..., 1 : height - height // 2, column].flip(-1)
    return masks


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


def _suppressed(group: Group, masks: Tensor) -> Tensor:
    """`x' + m (x - x')` of masks (S, B, 1 or C, H, W), as (S * B, C, H, W)."""
    return (masks * group.difference).add_(group.baselines).flatten(0, 1)
