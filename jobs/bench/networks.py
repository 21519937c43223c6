"""Input for both sides of a comparison: a network, images, the classes to explain, and baselines.

    lite0      EfficientNet-Lite0 with its ImageNet weights
    resnet50   timm's resnet50, random weights
    vit-b16    timm's vit_base_patch16_224, random weights

Random weights are the same in every process; they settle speed and agreement, but say nothing about explanations.
Images come from shards (given, or in the folder that SSIG_DEV_SHARDS names), else they are the bundled photographs.
"""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn

from pipeline.shards import manifest
from pipeline.shards.patterns import expand
from pipeline.shards.photographs import PHOTOGRAPHS
from pipeline.shards.reading import read_unit
from ssig.acceleration.ready_replica import ready_replica
from ssig.engine.replica import Replica
from ssig.errors import UsageError
from ssig.models import Model, load_model

NETWORKS: dict[str, tuple[str, str | None]] = {
    "lite0": ("efficientnet-lite0", None),
    "resnet50": ("timm:resnet50", "random"),
    "vit-b16": ("timm:vit_base_patch16_224", "random"),
}
UNIT_SIZE = 64
DEVELOPMENT_SHARDS = "SSIG_DEV_SHARDS"


@dataclass(frozen=True)
class Case:
    """A network and what is to be explained with it.

    Attributes:
        model: the plain network: as loaded, eager, contiguous, in pixel space.
        images: (B, C, H, W) in [0, 1].
        targets: (B,) int64, the classes that the network predicts.
        baselines: (B, C, H, W).
        source: where the images come from.
    """

    model: nn.Module
    images: Tensor
    targets: Tensor
    baselines: Tensor
    source: str

    def part(self, start: int, stop: int) -> Case:
        """The same network on some of the images."""
        span = slice(start, stop)
        return Case(self.model, self.images[span], self.targets[span], self.baselines[span], self.source)


@dataclass(frozen=True)
class ReadyCase:
    """An optimised replica, images (B, C, H, W) in [0, 1], the classes (B,) that it predicts, where they come from."""

    replica: Replica
    images: Tensor
    targets: Tensor
    source: str


@dataclass(frozen=True)
class Pictures:
    """Images as stored, and where they come from."""

    images: tuple[Image.Image, ...]
    source: str


def pictures(count: int, shards: Sequence[str] = ()) -> Pictures:
    """Images from the shards, else from the folder of development shards, else photographs.

    Raises:
        UsageError: there are fewer than `count`.
    """
    shards = expand(shards, Path.cwd()) if shards else development_shards()
    chosen = _from_shards(shards, count) if shards else photographs(count)
    if len(chosen.images) < count:
        raise UsageError("--images", count, f"at most {len(chosen.images)}, the number of {chosen.source}")
    return chosen


def development_shards() -> list[str]:
    """The shards in the folder that SSIG_DEV_SHARDS names, in order of name; none if it names none."""
    folder = os.environ.get(DEVELOPMENT_SHARDS)
    return expand([f"{folder}/*.tar"], Path.cwd()) if folder else []


def needed_shards(shards: Sequence[str] | None) -> list[str]:
    """The shards that patterns match; without a pattern, those in the folder that SSIG_DEV_SHARDS names.

    Raises:
        UsageError: there is none.
    """
    found = expand(shards, Path.cwd()) if shards else development_shards()
    if not found:
        raise UsageError("--shards", None, f"shards, or their folder in {DEVELOPMENT_SHARDS}")
    return found


def photographs(count: int) -> Pictures:
    """The first bundled photographs."""
    images = tuple(Image.open(io.BytesIO(each.file.read_bytes())) for each in PHOTOGRAPHS[:count])
    return Pictures(images, "photographs of scikit-image and scikit-learn")


def load(network: str, precision: str = "fp32") -> Model:
    """A network of `NETWORKS`.

    Raises:
        UsageError: there is no such network or precision.
    """
    if network not in NETWORKS:
        raise UsageError("--network", network, NETWORKS)
    name, weights = NETWORKS[network]
    return load_model(name, weights, precision=precision)


def plain(network: str) -> Model:
    """The network in float32 with contiguous weights, as a user of other libraries has it."""
    return load(network).to(memory_format=torch.contiguous_format)


def network_case(network: str, pictures: Pictures, dtype: torch.dtype = torch.float32) -> Case:
    """The plain network on images, from its mean as the baseline.

    Raises:
        UsageError: there is no such network.
    """
    model = plain(network).to(dtype)
    images = torch.stack([model.preprocess(image) for image in pictures.images]).to(dtype)
    return case_of(model, images, model.mean.view(1, -1, 1, 1), pictures.source)


def ready_case(network: str, count: int, shards: Sequence[str]) -> ReadyCase:
    """A ready network and images for it.

    Raises:
        UsageError: there is no such network, or there are too few images.
    """
    chosen = pictures(count, shards)
    model = load(network)
    replica = ready_replica(model)
    images = torch.stack([model.preprocess(image) for image in chosen.images])
    return ReadyCase(replica, images, replica.forward(images).argmax(dim=1), chosen.source)


def case_of(model: nn.Module, images: Tensor, baselines: Tensor, source: str) -> Case:
    """The classes that a network predicts for images (B, C, H, W), from baselines that broadcast."""
    with torch.no_grad():
        targets = torch.cat([model(image.unsqueeze(0)) for image in images]).argmax(dim=1)
    return Case(model, images, targets, baselines.expand_as(images).contiguous(), source)


def _from_shards(shards: Sequence[str], count: int) -> Pictures:
    listing = manifest.build(shards, UNIT_SIZE, count)
    urls = {shard.name: shard.url for shard in listing.shards}
    samples = (s for unit in listing.units() for s in read_unit(urls[unit.shard], listing.rows(unit.id)))
    images = tuple(sample.image for sample in samples if sample.image is not None)
    return Pictures(images, f"images from {Path(shards[0]).name} on")
