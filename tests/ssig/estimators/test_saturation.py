"""Saturation curves: networks whose dead units and gradients are known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ssig.estimators.samplers import Line
from ssig.estimators.saturation import LAWS, DeadUnits, saturation
from ssig.randomness import stream
from ssig.types import Group


def group_of(images: Tensor) -> Group:
    streams = tuple(stream(0, "", str(row), "saturation") for row in range(len(images)))
    return Group(images, torch.full_like(images, 0.5), streams)


class Gate(nn.Module):
    """Two logits of ReLU6 (h, w) units: `sum relu6(10 x) / 10`, and 0."""

    def forward(self, points: Tensor) -> Tensor:
        passed = F.relu6(10 * points).flatten(1).sum(dim=1, keepdim=True) / 10
        return torch.cat([passed, torch.zeros_like(passed)], dim=1)


def test_dead_units_are_those_beyond_the_kinks() -> None:
    images = torch.tensor([[-0.1, 0.2, 0.7, 0.3], [0.1, 0.2, 0.3, 0.4]], dtype=torch.float64).view(2, 1, 2, 2)
    found = saturation(Gate(), group_of(images), torch.tensor([0, 0]), "noise", [0.0], samples=1)
    np.testing.assert_allclose(found.dead[:, 0], [0.5, 0.0])
    np.testing.assert_allclose(found.gradient[:, 0], [0.5, 1.0])
    np.testing.assert_allclose(found.change, 0)
    logit = torch.tensor([0.2 + 0.3 + 0.6, 1.0], dtype=torch.float64)
    np.testing.assert_allclose(found.probability[:, 0], logit.sigmoid())


@pytest.mark.parametrize(
    ("layer", "share"),
    [
        (nn.ReLU(), 0.25),
        (nn.ReLU(inplace=True), 0.25),
        (nn.ReLU6(inplace=True), 0.5),
        (nn.Hardtanh(-1.0, 1.0), 0.75),
        (nn.Softplus(), np.nan),
        (nn.LeakyReLU(), np.nan),
    ],
)
def test_modules_are_seen_whether_or_not_they_work_in_place(layer: nn.Module, share: float) -> None:
    with DeadUnits(1) as units, torch.no_grad():
        layer(torch.tensor([[-2.0, 0.5, 3.0, 7.0]]))
    np.testing.assert_allclose(units.share(), [share])


def test_strengths_are_of_the_laws_they_name(images: Tensor) -> None:
    group = group_of(images)
    difference = group.difference
    torch.testing.assert_close(LAWS["fade"](0.25).point(group, 0, 1), group.baselines + 0.75 * difference)
    torch.testing.assert_close(LAWS["fade"](0.5).point(group, 0, 1), Line().point(group, 0, 1))
    for law in ("uniform", "uniform-channel"):
        torch.testing.assert_close(LAWS[law](0.0).point(group, 0, 1), images)
        kept = (LAWS[law](0.5).point(group, 3, 8) - group.baselines) / difference
        assert 0.5 - 1e-6 <= float(kept.min()) < 0.55
        assert 0.95 < float(kept.max()) <= 1 + 1e-6
    spread = images.amax(dim=(1, 2, 3)) - images.amin(dim=(1, 2, 3))
    noise = (LAWS["noise"](0.3).point(group, 0, 1) - images).std(dim=(1, 2, 3)) / spread
    assert float((noise - 0.3).abs().max()) < 0.05


@pytest.mark.parametrize("law", list(LAWS))
def test_an_image_does_not_depend_on_its_batch(cnn: nn.Module, images: Tensor, targets: Tensor, law: str) -> None:
    group, strengths = group_of(images), [0.0, 0.4, 1.0]
    together = saturation(cnn, group, targets, law, strengths, samples=2, micro_batch=2)
    alone = saturation(cnn, group.rows(torch.tensor([3])), targets[3:4], law, strengths, samples=2)
    for name in ("change", "probability", "gradient"):
        assert getattr(together, name).shape == (5, 3)
        np.testing.assert_allclose(getattr(alone, name)[0], getattr(together, name)[3], rtol=1e-12, atol=1e-12)
    assert np.isnan(together.dead).all()
    assert (np.diff(together.change, axis=1) > 0).all()
