"""Gradients in float16 are of multiples of the score, each point's its own: they neither vanish nor overflow."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from ssig.engine.replica import Replica
from ssig.engine.scaling import HIGHEST, directions, finite
from ssig.models.geometry import Geometry
from ssig.models.model import Model
from ssig.models.scores import SCORES, score

WANT = frozenset({"score", "gradient"})


class Scaled(nn.Module):
    """A small network whose gradients are `gain` times those of another gain, with logits far apart."""

    def __init__(self, gain: float, spread: float = 1.0) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.conv, self.middle, self.head = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3), nn.Linear(8, 5)
        self.gain, self.spread = gain, spread

    def forward(self, points: Tensor) -> Tensor:
        hidden = self.middle(self.conv(points).tanh()).tanh()
        if self.gain != 1:
            wide = hidden.float()
            hidden = (wide + (self.gain - 1) * (wide - wide.detach())).to(hidden.dtype)
        logits: Tensor = self.head(hidden.mean(dim=(2, 3))).float() * self.spread
        return logits + torch.tensor([0.0, 0.0, 0.0, 0.0, 12.0])


def model(network: nn.Module, precision: str) -> Model:
    return Model(
        network,
        name="scaled",
        mean=torch.full((3,), 0.5),
        std=torch.full((3,), 0.25),
        geometry=Geometry(resize=(12, 12), crop=(12, 12)),
        categories=tuple("abcde"),
        precision=precision,
    )


def points(count: int = 4) -> Tensor:
    return torch.rand(count, 3, 12, 12, generator=torch.Generator().manual_seed(0))


def gradients(network: nn.Module, precision: str, values: Tensor, name: str, layer: str | None = None) -> Tensor:
    replica = Replica(model(network, precision))
    found = replica.evaluate(values, torch.arange(len(values)) % 4, name, WANT, layer).gradients
    assert found is not None
    return found


def distance(found: Tensor, expected: Tensor) -> float:
    return float(((found - expected).flatten(1).norm(dim=1) / expected.flatten(1).norm(dim=1)).max())


@pytest.mark.parametrize("name", SCORES)
@pytest.mark.parametrize("highest", [HIGHEST, 0.25])
def test_directions_are_the_scores_gradient_times_a_power_of_two(name: str, highest: float) -> None:
    logits = torch.tensor([[1.0, 2.0, -3.0], [30.0, 0.0, -1.0], [0.0, 80.0, -90.0]])
    targets = torch.tensor([0, 1, 2])
    found, scales = directions(logits, targets, name, highest)
    assert torch.equal(scales.log2(), scales.log2().round())
    leaves = logits.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(score(leaves, targets, name).sum(), leaves)
    assert torch.equal(found / scales[:, None], gradient)
    largest = found.abs().amax(dim=1)
    within = (largest > highest / 2.01) & (largest <= highest)
    assert bool((within | (scales == 2.0**96) | (gradient.abs().amax(dim=1) == 0)).all())


@pytest.mark.parametrize("layer", [None, "network.conv"])
def test_a_class_of_tiny_probability_keeps_its_gradients(layer: str | None) -> None:
    network = Scaled(gain=1)
    assert float(Replica(model(network, "fp32")).forward(points()).softmax(dim=1)[:, :4].amax()) < 2e-5
    expected = gradients(network, "fp32", points(), "probability", layer)
    found = gradients(network, "fp16", points(), "probability", layer)
    assert float((found == 0).float().mean()) <= float((expected == 0).float().mean()) + 0.001
    assert distance(found, expected) < 0.02


def test_a_gradient_that_overflows_is_taken_again_with_a_lower_scale() -> None:
    network = Scaled(gain=3e4)
    expected = gradients(network, "fp32", points(), "logit")
    found = gradients(network, "fp16", points(), "logit")
    assert bool(finite(found).all())
    assert distance(found, expected) < 0.02


def test_one_that_overflows_at_any_scale_is_not_finite_and_the_others_are_as_they_were() -> None:
    class Wild(Scaled):
        def forward(self, values: Tensor) -> Tensor:
            bright = (values.mean(dim=(1, 2, 3), keepdim=True) > 1).to(values)
            for _ in range(2):
                values = values + bright * 1e38 * (values - values.detach())
            return super().forward(values)

    some = points()
    some[1] = 1.0
    found = gradients(Wild(1), "fp16", some, "logit")
    expected = gradients(Scaled(1), "fp16", some, "logit")
    others = torch.tensor([0, 2, 3])
    assert finite(found).tolist() == [True, False, True, True]
    assert distance(found[others], expected[others]) < 5e-3


def test_a_points_scale_is_its_own() -> None:
    network = Scaled(gain=1, spread=40)
    together = gradients(network, "fp16", points(), "probability")
    replica = Replica(model(network, "fp16"))
    alone = [
        replica.evaluate(points()[row : row + 1], torch.tensor([row % 4]), "probability", WANT).gradients
        for row in range(4)
    ]
    assert distance(together, torch.cat([one for one in alone if one is not None])) < 0.02
