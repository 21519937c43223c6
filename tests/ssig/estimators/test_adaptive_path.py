"""The adaptive rule: exact where theory says so, never worse than its tolerance says, the same in any batch."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from ssig import attribute
from ssig.errors import UsageError


class OneKink(nn.Module):
    """`w . x + v . x [ u . x > t ]`-like: relu(u . x - t) plus a linear part, one kink on any straight path."""

    def __init__(self, threshold: float) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.plain = torch.rand(3 * 6 * 5, generator=generator, dtype=torch.float64)
        self.bent = torch.rand(3 * 6 * 5, generator=generator, dtype=torch.float64)
        self.threshold = threshold

    def forward(self, points: Tensor) -> Tensor:
        flat = points.flatten(1)
        return (flat @ self.plain + 5 * torch.relu(flat @ self.bent - self.threshold)).unsqueeze(1)


@pytest.fixture
def pictures() -> Tensor:
    return torch.rand(4, 3, 6, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def adaptive(network: nn.Module, images: Tensor, **options: object):  # type: ignore[no-untyped-def]
    targets = torch.zeros(len(images), dtype=torch.int64)
    return attribute(network.eval(), images, targets, "ig", rule="adaptive", baseline="black", **options)


@pytest.mark.parametrize("threshold", [0.3, 5.0, 17.3])
def test_one_kink_is_found_exactly_with_the_first_nodes(pictures: Tensor, threshold: float) -> None:
    network = OneKink(threshold)
    found = adaptive(network, pictures)
    inner = pictures.flatten(1) @ network.bent
    share = (1 - threshold / inner).clamp_min(0)  # part of the path beyond the kink
    expected = pictures * (network.plain + 5 * share[:, None] * network.bent).view(4, 3, 6, 5)
    assert torch.allclose(found.values, expected, rtol=1e-10, atol=1e-12)
    assert found.gradient_evaluations.tolist() == [9] * 4
    assert found.completeness_residual is not None
    assert found.completeness_residual.abs().max() < 1e-10


def test_a_tolerance_is_met_or_the_evaluations_are_spent(cnn: nn.Module, images: Tensor) -> None:
    for tolerance in (0.1, 0.01, 1e-4):
        found = adaptive(cnn, images, steps=200, tolerance=tolerance)
        gain = (found.score - found.baseline_score).abs()
        assert found.completeness_residual is not None
        assert (found.completeness_residual.abs() <= tolerance * gain).all()
    few = adaptive(cnn, images, steps=12, tolerance=1e-9)
    assert (few.gradient_evaluations <= 12).all()


def test_it_tends_to_the_integral(cnn: nn.Module, images: Tensor, targets: Tensor) -> None:
    fine = attribute(cnn, images, targets, "ig", rule="midpoint", steps=4096, baseline="black").map
    found = attribute(cnn, images, targets, "ig", rule="adaptive", steps=400, tolerance=1e-6, baseline="black").map
    assert ((found - fine).flatten(1).norm(dim=1) / fine.flatten(1).norm(dim=1)).max() < 1e-3


class Turning(nn.Module):
    """Scores that rise evenly along the path while the gradient moves from one half of the pixels to the other."""

    def forward(self, points: Tensor) -> Tensor:
        level = points.flatten(1).mean(dim=1)
        first, second = points.flatten(1).chunk(2, dim=1)
        return (level + 0.2 * (torch.sin(20 * first.mean(dim=1)) - torch.sin(20 * second.mean(dim=1)))).unsqueeze(1)


def test_a_small_residual_is_no_small_error_unless_the_map_is_watched() -> None:
    image = torch.ones(1, 3, 6, 5, dtype=torch.float64)
    exact = attribute(Turning().eval(), image, [0], "ig", rule="midpoint", steps=2000, baseline="black").values

    def error(**options: object) -> float:
        return float((adaptive(Turning(), image, steps=500, **options).values - exact).norm() / exact.norm())

    assert error(tolerance=0.01) > 0.1
    assert error(tolerance=0.01, map_tolerance=0.02) < 0.02


@pytest.mark.parametrize("micro_batch", [1, 3, 64])
def test_an_image_takes_the_same_nodes_in_any_batch(cnn: nn.Module, images: Tensor, micro_batch: int) -> None:
    together = adaptive(cnn, images, steps=40, tolerance=1e-4, micro_batch=micro_batch)
    for row in range(len(images)):
        alone = adaptive(cnn, images[row : row + 1], steps=40, tolerance=1e-4)
        assert torch.allclose(alone.map[0], together.map[row], rtol=1e-9, atol=1e-13)
        assert alone.gradient_evaluations[0] == together.gradient_evaluations[row]


def test_flat_scores_and_broken_networks_end(pictures: Tensor) -> None:
    class Broken(nn.Module):
        def forward(self, points: Tensor) -> Tensor:
            return (points.flatten(1).sum(dim=1) * torch.nan).unsqueeze(1)

    assert not adaptive(OneKink(3.0), torch.zeros(1, 3, 6, 5).double()).map.any()
    assert adaptive(Broken(), pictures).map.isnan().all()


def test_too_few_steps_are_refused(pictures: Tensor) -> None:
    with pytest.raises(UsageError, match="at least 9"):
        adaptive(OneKink(3.0), pictures, steps=8)
