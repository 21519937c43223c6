"""The inputs of a metric for a batch, and its results."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from ssig.randomness import Stream, content_key, stream
from ssig.types.memo import Memo

Shared = TypeVar("Shared")

# Edges (x0, y0, x1, y1) in pixels of the network's input.
Box = tuple[float, float, float, float]

# Why an image has no object.
NO_OBJECT = "no boxes or mask"
OUTSIDE = "object is outside the input"
TOO_SMALL = "object is smaller than a pixel of the input"


class Explainer(Protocol):
    """The method whose maps are evaluated, for metrics that explain other images, targets or networks."""

    def maps(
        self, images: Tensor, targets: Tensor, rows: Tensor, network: nn.Module | None = None, draw: int = 0
    ) -> Tensor:
        """(n, H, W) readout maps, on the CPU; float32, float64 for a float64 network.

        Args:
            images: (n, C, H, W) in pixel space.
            targets: (n,) int64.
            rows: (n,) int64; image i draws the random numbers of image ``rows[i]`` of the batch.
            network: explained instead of the run's network, such as a randomised one.
            draw: 0 for the run's random numbers; any other number for independent ones.
        """

    def fresh_network(self) -> nn.Module | None:
        """A plain copy of the network, as it was loaded, which the caller may change; None if it is not available."""

    def prepared(self, network: nn.Module) -> nn.Module | None:
        """A copy of another network that explains faster and shares no tensor with it; None where there is none."""

    def cache(self, key: Hashable, make: Callable[[], Shared]) -> Shared:
        """`make()`, cached for other batches and methods of the same network while it is among the last used."""

    def samples(self, row: int, count: int) -> Tensor | None:
        """(n, C, H, W), n at most `count`: points at which the method takes gradients for image `row`.

        They are evenly spread over all such points, in order. None for a method that takes no gradients.
        """


@dataclass(frozen=True)
class Evaluation:
    """One batch of images with one method's maps, as they are stored.

    Attributes:
        images: (B, C, H, W) in pixel space; in a run on the network's device, where changed images are built.
        maps: (B, H, W) float32, finite; on the CPU.
        targets: (B,) int64, the explained class; on the CPU.
        forward: (n, C, H, W) pixel-space points -> (n, classes) float logits, on the network's device; in
            micro-batches, without gradient.
        mean, std: (C,) of the network's normalisation, for protocols that are defined in normalised space.
        masks: for each image the (H, W) bool area of its object, or a string with the reason if it has none.
        score, baseline_score, completeness_residual: (B,) of the method's `Attribution`; None if not available.
        logits: (B, classes) of the images, if known; `image_logits` computes them if needed.
        batch: number of points for which `forward` is the fastest; larger batches have no advantage.
        boxes: for each image the boxes of its object, clipped to the input, or a string with the reason if it has
            none.
        keys: for each image its shard's basename and its key; without them, random numbers depend on the pixels.
        seed: of the run.
        explainer: the method, if available.
        activations: (n, C, H, W) points, layer (`ssig.engine.layers`) -> its output; None if not available.
        values: (B, C, H, W) float32, finite, what the method gives each channel of a pixel, of which `maps` are the
            readout; on the CPU. None if not available.
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
    boxes: tuple[tuple[Box, ...] | str, ...] = ()
    keys: tuple[tuple[str, str], ...] = ()
    seed: int = 0
    explainer: Explainer | None = None
    activations: Callable[[Tensor, str], Tensor] | None = None
    values: Tensor | None = None
    _shared: Memo = field(default_factory=Memo, repr=False)
    _of_images: Memo = field(default_factory=Memo, repr=False)

    def __len__(self) -> int:
        return int(self.maps.shape[0])

    def device_maps(self) -> Tensor:
        """(B, H, W), the maps on the device of the images; moved once per batch."""
        return self.shared(("maps on the device",), lambda: self.maps.to(self.images.device))

    def image_logits(self) -> Tensor:
        """(B, classes), the network's logits of the images, on the CPU."""
        if self.logits is not None:
            return self.logits.cpu()
        return self.of_images(("logits",), lambda: self.forward(self.images).cpu())

    def streams(self, name: str) -> tuple[Stream, ...]:
        """Each image's random numbers for the metric `name`: the same in any batch, on any worker, for any map."""
        keys = self.keys or tuple(("", content_key(image.cpu().numpy())) for image in self.images)
        return tuple(stream(self.seed, shard, key, name) for shard, key in keys)

    def shared(self, key: Hashable, compute: Callable[[], Shared]) -> Shared:
        """`compute()`, once for all metrics of this batch that use the same key."""
        return self._shared(key, compute)

    def of_images(self, key: Hashable, compute: Callable[[], Shared]) -> Shared:
        """As `shared` for results that do not depend on the maps: once for all methods that explain these images."""
        return self._of_images(key, compute)

    def changed(self, **changes: Any) -> Evaluation:
        """The batch with other fields, which shares no results with this one."""
        return replace(self, **changes, _shared=Memo(), _of_images=Memo())


class Normalised(Protocol):
    """A network with the normalisation of its inputs."""

    @property
    def mean(self) -> Tensor: ...

    @property
    def std(self) -> Tensor: ...


class Scored(Protocol):
    """The numbers of an `Attribution` that metrics use, (B,) each; None if not available."""

    @property
    def score(self) -> Tensor | None: ...

    @property
    def baseline_score(self) -> Tensor | None: ...

    @property
    def completeness_residual(self) -> Tensor | None: ...


@dataclass(frozen=True)
class Scores:
    """The numbers of `Scored`, as they are stored."""

    score: Tensor | None = None
    baseline_score: Tensor | None = None
    completeness_residual: Tensor | None = None

    def rows(self, span: slice) -> Scores:
        """The numbers of some of the images."""
        columns = (self.score, self.baseline_score, self.completeness_residual)
        return Scores(*(None if column is None else column[span] for column in columns))


def evaluation_of(
    images: Tensor,
    maps: Tensor,
    targets: Tensor,
    forward: Callable[[Tensor], Tensor],
    model: Normalised | None = None,
    scored: Scored | None = None,
    **further: Any,
) -> Evaluation:
    """A batch of images with one method's maps.

    Args:
        images: (B, C, H, W) in pixel space.
        maps: (B, H, W), stored as float32.
        targets: (B,) int64, the explained class.
        forward: (n, C, H, W) pixel-space points -> (n, classes) logits.
        model: the network, for its normalisation; None for one that takes pixels as they are.
        scored: the method's `Attribution`, or its numbers.
        **further: further attributes of `Evaluation`; without `masks` no image has an object.
    """
    channels = images.shape[1]
    return Evaluation(
        images=images,
        maps=maps.float(),
        targets=targets,
        forward=forward,
        mean=torch.zeros(channels) if model is None else model.mean.cpu(),
        std=torch.ones(channels) if model is None else model.std.cpu(),
        masks=further.pop("masks", (NO_OBJECT,) * len(images)),
        score=None if scored is None else scored.score,
        baseline_score=None if scored is None else scored.baseline_score,
        completeness_residual=None if scored is None else scored.completeness_residual,
        **further,
    )


@dataclass(frozen=True)
class MetricResult:
    """A metric's numbers for a batch.

    Attributes:
        columns: column -> (B,) float; NaN exactly where `excluded` gives that column's reason.
        curves: curve column -> (B, n) float.
        vectors: vector column -> (B, n) float, input of a measure of the whole data set.
        excluded: for each image, column -> why it has no number.
    """

    columns: Mapping[str, np.ndarray]
    curves: Mapping[str, np.ndarray] = field(default_factory=dict)
    vectors: Mapping[str, np.ndarray] = field(default_factory=dict)
    excluded: tuple[Mapping[str, str], ...] = ()
