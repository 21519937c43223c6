"""A batch whose network answers sharply, and a count of the points at which it was asked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ssig.types import Evaluation

MEAN, STD = torch.tensor([0.45, 0.4, 0.5]).double(), torch.tensor([0.25, 0.2, 0.3]).double()


class CountingNetwork:
    """A network on pixel space that normalises inside and remembers the sizes of its batches."""

    def __init__(self, network: nn.Module) -> None:
        self.network = network
        self.calls: list[int] = []

    def normalised(self, points: Tensor) -> Tensor:
        """Logits of points in normalised space: equal for the mean colour, and far apart elsewhere."""
        return 50 * (self.network(points) - self.network(torch.zeros_like(points)))

    def __call__(self, points: Tensor) -> Tensor:
        self.calls.append(len(points))
        return self.normalised((points - MEAN.view(-1, 1, 1)) / STD.view(-1, 1, 1))


@pytest.fixture
def network(cnn: nn.Module) -> CountingNetwork:
    return CountingNetwork(cnn)


@pytest.fixture
def batch(network: CountingNetwork, images: Tensor) -> Callable[..., Evaluation]:
    """`batch(**changes)`: an Evaluation of five images of 10 x 12 pixels with signed maps and objects."""

    def make(**changes: Any) -> Evaluation:
        generator = np.random.default_rng(4)
        height, width = images.shape[-2:]
        masks = np.zeros((len(images), height, width), dtype=bool)
        masks[:, 2:6, 3:9] = True
        logits = network(images)
        usual = Evaluation(
            images=images,
            maps=torch.from_numpy(generator.standard_normal((len(images), height, width))).float(),
            targets=logits.argmax(dim=1),
            forward=network,
            mean=MEAN,
            std=STD,
            masks=tuple(masks),
            score=torch.tensor([3.0, 2.0, 1.0, 0.5, 4.0]),
            baseline_score=torch.tensor([1.0, 1.0, 0.0, 0.5, -1.0]),
            completeness_residual=torch.tensor([0.5, -0.1, 0.0, 0.2, -2.0]),
            logits=logits,
            values=torch.from_numpy(generator.standard_normal((*images.shape,))).float(),
        )
        network.calls.clear()
        if "forward" in changes:
            changes.setdefault("logits", changes["forward"](images))
        return usual.changed(**changes)

    return make


@pytest.fixture
def cropped(batch: Callable[..., Evaluation]) -> Callable[[], Evaluation]:
    """`cropped()`: the batch on 7 x 9 pixels, whose tenths end within a pixel."""

    def make() -> Evaluation:
        usual = batch()
        images = usual.images[..., :7, :9]
        logits = usual.forward(images)
        assert usual.values is not None
        return usual.changed(
            images=images,
            maps=usual.maps[:, :7, :9],
            values=usual.values[..., :7, :9],
            targets=logits.argmax(dim=1),
            logits=logits,
        )

    return make


@pytest.fixture
def at() -> Callable[[Evaluation, int], Evaluation]:
    """`at(evaluation, row)`: the batch of that one image."""

    def take(evaluation: Evaluation, row: int) -> Evaluation:
        def one(value: Any) -> Any:
            return None if value is None else value[row : row + 1]

        of_method = ("maps", "values", "score", "baseline_score", "completeness_residual")
        rowwise = ("images", "targets", "masks", "logits", *of_method)
        changes = {name: one(getattr(evaluation, name)) for name in rowwise}
        return evaluation.changed(**changes)

    return take


@pytest.fixture
def spared(images: Tensor) -> Callable[[str], int]:
    """`spared(metric)`: deletion's reference is one colour by default, so all images but one need not see it."""
    return lambda metric: len(images) - 1 if metric in ("deletion", "insertion_deletion_gap", "insertion_score") else 0
