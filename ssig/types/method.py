"""The contract between a method and the engine.

A method is a coroutine: it takes a `Group` of images, yields `Request`s, receives one `Response` for each, in the
order of the request's points, and finally returns an `Attribution`. The engine does the rest: targets, micro-batches,
device, precision and memory.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Hashable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import torch
from PIL import Image
from torch import Tensor

from ssig.display import Figure, show
from ssig.randomness import Stream
from ssig.types import views
from ssig.types.memo import Memo

Shared = TypeVar("Shared")

SCORE_AND_GRADIENT = frozenset({"score", "gradient"})
SCORE = frozenset({"score"})
_TINY = torch.finfo(torch.float64).tiny


@dataclass(frozen=True)
class Request:
    """Points at which the engine evaluates the network for a method.

    Attributes:
        points: (n, C, H, W) in pixel space.
        owners: (n,) int64, index in the group of the image that each point belongs to.
        targets: (n,) int64 class of each point's score, or None for the target of its owner; or (n, classes) weights:
            then the score is the weighted sum of the logits.
        want: any of ``score``, ``gradient`` (of the score, with respect to the points or the layer) and ``logits``.
        layer: name of a submodule, or one of the names of `ssig.engine.layers`; then ``gradient`` is taken at its
            output, which is returned as `activations`, with or without gradients.
        key: name of the points, if another method on the same group may request the same points; else None.
        until: in a request without points, a future that the method waits for (`ssig.types.beside.waited`); it gets
            no response.
    """

    points: Tensor
    owners: Tensor
    targets: Tensor | None = None
    want: frozenset[str] = SCORE_AND_GRADIENT
    layer: str | None = None
    key: Hashable | None = None
    until: Future[Any] | None = None


@dataclass(frozen=True)
class Response:
    """The network's outputs at a request's points, in the same order; None for outputs that were not requested."""

    scores: Tensor | None = None
    gradients: Tensor | None = None
    logits: Tensor | None = None
    activations: Tensor | None = None


@dataclass(frozen=True)
class References:
    """Images of the data set that methods compare with, the same for every image of a run.

    Attributes:
        images: (R, C, H, W), in pixel space.
        logits: (R, classes) of the network.
    """

    images: Tensor
    logits: Tensor
    _shared: Memo = field(default_factory=Memo, repr=False)

    def __len__(self) -> int:
        return int(self.images.shape[0])

    def shared(self, key: Hashable, compute: Callable[[], Shared]) -> Shared:
        """`compute()`, once for all groups that use the same key."""
        return self._shared(key, compute)


@dataclass(frozen=True)
class Group:
    """The images that one run of a method's coroutine attributes.

    Attributes:
        images: (B, C, H, W), pixel space in [0, 1] unless the caller's network takes another range.
        baselines: (B, C, H, W), the reference `x'` of each image.
        streams: each image's own source of random numbers.
        budget: largest number of points per image in a request.
        scores, baseline_scores: (B,) target scores of images and baselines if already known.
        references: images of the data set, for methods with `MethodSpec.references`.
        targets: (B,) int64 on the CPU, if a method must know the classes.
        logits: (B, classes) of the images, if already known.
        score: name of the explained score (`ssig.models.scores.SCORES`).
        network: the plain network, points (n, C, H, W) in pixel space -> logits (n, classes), for methods with
            `MethodSpec.network`; frozen, and on the images' device. Only the method's thread may use it.
    """

    images: Tensor
    baselines: Tensor
    streams: tuple[Stream, ...]
    budget: int = 1
    scores: Tensor | None = None
    baseline_scores: Tensor | None = None
    references: References | None = None
    targets: Tensor | None = None
    logits: Tensor | None = None
    score: str = "logit"
    network: Callable[[Tensor], Tensor] | None = None

    def __len__(self) -> int:
        return int(self.images.shape[0])

    @cached_property
    def difference(self) -> Tensor:
        """`d = x - x'`, (B, C, H, W)."""
        return self.images - self.baselines

    @cached_property
    def spectrum(self) -> Tensor:
        """The real 2-D Fourier transform of `difference`, (B, C, H, W // 2 + 1) complex."""
        spectrum: Tensor = torch.fft.rfft2(self.difference)
        return spectrum

    @cached_property
    def spread(self) -> Tensor:
        """max x - min x of each image, (B, 1, 1, 1)."""
        return self.images.amax(dim=(1, 2, 3), keepdim=True) - self.images.amin(dim=(1, 2, 3), keepdim=True)

    @cached_property
    def moved(self) -> Tensor:
        """(B,) bool on the images' device, whether the image differs from its baseline."""
        return differs(self.images, self.baselines)

    def rows(self, index: Tensor) -> Group:
        """The group of some of the images, by their positions."""
        cut: dict[str, Any] = {
            name: None if (value := getattr(self, name)) is None else value[index.to(value.device)]
            for name in ("images", "baselines", "scores", "baseline_scores", "targets", "logits")
        }
        return replace(self, streams=tuple(self.streams[row] for row in index.tolist()), **cut)

    def owners(self, repeats: int = 1) -> Tensor:
        """(repeats * B,) owners of `repeats` points an image, image index fastest."""
        return torch.arange(len(self)).repeat(repeats)


def differs(points: Tensor, others: Tensor) -> Tensor:
    """(B,) bool, whether two points (B, C, H, W) differ in any value.

    For equal points, a network may still return scores that differ in their last digits, because the points have
    different positions in a batch. An attribution computed from such a difference has no meaning.
    """
    return (points != others).flatten(1).any(dim=1)


@dataclass(frozen=True)
class Explained:
    """What an attribution explains, to be shown beside it.

    Attributes:
        images: (B, C, H, W), those that the network was given.
        targets: (B,) int64 on the CPU.
        names: (B,), what each target is called.
        method: registry name.
        score: name of the score that is explained.
    """

    images: Tensor
    targets: Tensor
    names: tuple[str, ...]
    method: str
    score: str = "logit"

    def rows(self, span: slice) -> Explained:
        """The same of some of the images."""
        return replace(self, images=self.images[span], targets=self.targets[span], names=self.names[span])

    @staticmethod
    def joined(parts: Sequence[Explained | None]) -> Explained | None:
        """Of consecutive images; None unless all are there and of one method and score."""
        known = [part for part in parts if part is not None]
        if len(known) < len(parts) or len({(part.method, part.score) for part in known}) != 1:
            return None
        return replace(
            known[0],
            images=torch.cat([part.images for part in known]),
            targets=torch.cat([part.targets for part in known]),
            names=tuple(name for part in known for name in part.names),
        )


@dataclass(frozen=True, repr=False)
class Attribution:
    """A method's result for each image of a batch. A notebook shows it as pictures.

    Attributes:
        values: (B, C, H, W), attribution of each pixel and channel; float32, float64 for a float64 network.
        map: (B, H, W), the readout of `values` over the channels.
        score: (B,), target score of the image.
        baseline_score: (B,), target score of the baseline.
        completeness_residual: (B,), `sum(values) - (score - baseline_score)`, or None if it has no meaning.
        standard_error: (B, H, W), Monte-Carlo standard error of `map`, or None for deterministic methods.
        gradient_evaluations: (B,) int64, gradients of the network spent on each image.
        bias: (B, H, W), by how much noise enlarges the map, if its readout takes magnitudes of noisy values; else
            None.
        reliability: (B,) in [0, 1], the expected correlation over pixels with a map from equally many other samples
            (Lord, Novick, 1968), or None for deterministic methods. It does not include `bias`, which both maps share.
        explained: the images and their targets, as `ssig.attribute` attaches them; None for a method that was run by
            other means.
    """

    values: Tensor
    map: Tensor
    score: Tensor
    baseline_score: Tensor
    completeness_residual: Tensor | None
    standard_error: Tensor | None
    gradient_evaluations: Tensor
    bias: Tensor | None = None
    reliability: Tensor | None = None
    explained: Explained | None = None

    def __len__(self) -> int:
        return int(self.map.shape[0])

    def rows(self, span: slice) -> Attribution:
        """The attribution of some of the images."""
        cut: dict[str, Any] = {
            name: value.rows(span) if isinstance(value, Explained) else None if value is None else value[span]
            for name, value in vars(self).items()
        }
        return Attribution(**cut)

    @staticmethod
    def concatenate(parts: Sequence[Attribution]) -> Attribution:
        """One attribution from those of consecutive images."""
        joined: dict[str, Any] = {"explained": Explained.joined([part.explained for part in parts])}
        for name, first in vars(parts[0]).items():
            if name not in joined:
                joined[name] = None if first is None else torch.cat([getattr(part, name) for part in parts])
        return Attribution(**joined)

    def figure(self) -> Figure:
        """Image, map, standard error, score and reliability of the first 8 images; see `ssig.display`."""
        return views.figure(self)

    def _repr_html_(self) -> str:
        return self.figure().html()

    def __repr__(self) -> str:
        return views.line(self)

    def show(self) -> None:
        """Shows the figure: below the cell of a notebook, else in a viewer of pictures."""
        show(self)

    def overlay(self, index: int = 0) -> Image.Image:
        """The map of image number `index` over its photograph, or over white where the image is not at hand."""
        return views.map_overlay(self, index)

    def save(self, path: str | Path) -> Path:
        """Writes the figure, if the path ends in ``.png``, or all arrays, if it ends in ``.npz``.

        Raises:
            UsageError: another ending.
        """
        return views.save(self, path)

    def to_xarray(self) -> Any:
        """An `xarray.Dataset` of all fields, with the dimensions image, channel, y and x.

        Raises:
            ImportError: xarray is not installed.
        """
        return views.dataset(self)

    @property
    def standard_error_mean(self) -> Tensor | None:
        """(B,), mean pixel standard error over mean |map|; None for deterministic methods, 0 for an all-zero map.

        Noise makes |map| larger too, so this hardly exceeds 1.25 even for a very noisy map: see `reliability`.
        """
        if self.standard_error is None:
            return None
        scale = self.map.abs().mean(dim=(-2, -1))
        noise = self.standard_error.mean(dim=(-2, -1))
        return torch.where(scale > 0, noise / scale.clamp_min(torch.finfo(scale.dtype).tiny), torch.zeros_like(noise))

    @property
    def readout_bias(self) -> Tensor | None:
        """(B,), mean of `bias` over mean |map|: the share by which noise enlarges the map, rather over- than
        underestimated; None without `bias`."""
        if self.bias is None:
            return None
        scale = self.map.abs().double().mean(dim=(-2, -1))
        excess = self.bias.double().mean(dim=(-2, -1))
        return torch.where(scale > 0, excess / scale.clamp_min(_TINY), 0).to(self.map.dtype)


Steps = Generator[Request, Response, Attribution]
