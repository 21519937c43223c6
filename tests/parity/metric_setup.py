"""What metrics and their references are given: a network with maps of some images.

    small    three images of a smooth network that answers sharply, in float64
    lite0    a photograph on EfficientNet-Lite0, in float64

Maps are stored in float32, as in a run. The object is a rectangle, another in each image.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import torch
from small_case import small_case
from torch import Tensor, nn

from jobs.bench.networks import network_case, photographs
from ssig.api import attribute
from ssig.types import Attribution, Box, Evaluation, Memo, evaluation_of

Made = TypeVar("Made")

# The integrated gradients that are evaluated: from black, and of few steps, so that they leave a completeness gap.
METHOD: dict[str, Any] = {"method": "ig", "baseline": "black", "steps": 4, "rule": "endpoints"}
SHAPE = (15, 12)  # a tenth of the pixels is a whole number of them
SHARPNESS = 50.0  # of the small network's answers, which would hardly move otherwise


@dataclass(frozen=True)
class Setup:
    """A network with maps of some images, as metrics see them and as references do."""

    network: nn.Module
    attribution: Attribution
    evaluation: Evaluation

    @property
    def images(self) -> np.ndarray:
        """(B, C, H, W), in pixel space."""
        images: np.ndarray = self.evaluation.images.numpy()
        return images

    @property
    def normalised(self) -> np.ndarray:
        """(B, C, H, W), in the network's normalised space."""
        points: np.ndarray = (self.images - channels(self.evaluation.mean)) / channels(self.evaluation.std)
        return points

    @property
    def maps(self) -> np.ndarray:
        """(B, H, W) float64."""
        maps: np.ndarray = self.evaluation.maps.double().numpy()
        return maps

    @property
    def targets(self) -> np.ndarray:
        """(B,) int64."""
        targets: np.ndarray = self.evaluation.targets.numpy()
        return targets

    @property
    def masks(self) -> np.ndarray:
        """(B, H, W) bool."""
        return np.stack([np.asarray(mask) for mask in self.evaluation.masks])

    def logits(self, points: np.ndarray) -> np.ndarray:
        """(n, classes), of points in pixel space."""
        found: np.ndarray = self.evaluation.forward(torch.from_numpy(points)).numpy()
        return found

    def from_normalised(self, points: np.ndarray) -> np.ndarray:
        """(n, classes), of points in normalised space."""
        return self.logits(points * channels(self.evaluation.std) + channels(self.evaluation.mean))


class Method:
    """Integrated gradients as an `Explainer`, which draw nothing at random."""

    def __init__(self, network: nn.Module) -> None:
        self.network = network
        self._memo = Memo()

    def maps(
        self, images: Tensor, targets: Tensor, rows: Tensor, network: nn.Module | None = None, draw: int = 0
    ) -> Tensor:
        return explain(self.network if network is None else network, images, targets)

    def prepared(self, network: nn.Module) -> nn.Module | None:
        return None

    def fresh_network(self) -> nn.Module | None:
        return copy.deepcopy(self.network)

    def cache(self, key: Hashable, make: Callable[[], Made]) -> Made:
        return self._memo(key, make)

    def samples(self, row: int, count: int) -> Tensor | None:
        return None


def explain(network: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
    """(n, H, W), maps of integrated gradients."""
    return attribute(network, images, targets, **METHOD).map


@functools.cache
def small() -> Setup:
    """Three images of the small network, whose answers are far apart and equal for the mean colour."""
    network = copy.deepcopy(small_case().model)
    generator = torch.Generator().manual_seed(1)
    # Values that float32 holds, which is what Quantus makes of them.
    images = torch.rand(3, 3, *SHAPE, generator=generator).double()
    mean, std = torch.tensor([0.45, 0.4, 0.5]).double(), torch.tensor([0.25, 0.2, 0.3]).double()
    last = network.get_submodule("6")
    with torch.no_grad():
        last.get_parameter("weight").mul_(SHARPNESS)
        last.get_parameter("bias").sub_(network(mean.view(1, 3, 1, 1).expand_as(images[:1]))[0])
        targets = network(images).argmax(dim=1)
    return _setup(network, images, targets, mean, std)


@functools.cache
def lite0() -> Setup:
    """A photograph on EfficientNet-Lite0."""
    case = network_case("lite0", photographs(1), torch.float64)
    mean, std = case.model.get_buffer("mean"), case.model.get_buffer("std")
    return _setup(case.model, case.images, case.targets, mean, std)


SETUPS: dict[str, Callable[[], Setup]] = {"small": small, "lite0": lite0}


def _setup(network: nn.Module, images: Tensor, targets: Tensor, mean: Tensor, std: Tensor) -> Setup:
    def forward(points: Tensor) -> Tensor:
        with torch.no_grad():
            logits: Tensor = network(points)
        return logits

    attribution = attribute(network, images, targets, **METHOD)
    boxes = tuple((_box(row, *images.shape[-2:]),) for row in range(len(images)))
    masks = tuple(_inside(box, *images.shape[-2:]) for (box,) in boxes)
    known: dict[str, Any] = {"mean": mean, "std": std, "masks": masks, "boxes": boxes, "explainer": Method(network)}
    known["values"] = attribution.values.float()
    evaluation = replace(evaluation_of(images, attribution.map, targets, forward, scored=attribution), **known)
    return Setup(network, attribution, evaluation)


def _box(row: int, height: int, width: int) -> Box:
    """The object of image number `row`: a quarter of the image, further down and right in each."""
    left, top = row * width // 6, row * height // 6
    return float(left), float(top), float(left + width // 2), float(top + height // 2)


def _inside(box: Box, height: int, width: int) -> np.ndarray:
    """(H, W) bool."""
    left, top, right, bottom = map(int, box)
    mask = np.zeros((height, width), dtype=bool)
    mask[top:bottom, left:right] = True
    return mask


def channels(values: Tensor) -> np.ndarray:
    """(C,) as (C, 1, 1)."""
    channels: np.ndarray = values.double().view(-1, 1, 1).numpy()
    return channels
