"""MFABA: the definition step by step, where its paths end, and what their sums tend to."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from ssig import attribute


def by_definition(
    network: nn.Module, image: Tensor, target: int, steps: int, *, smooth: bool, step: float
) -> tuple[Tensor, Tensor, int]:
    """The attributions of one image (C, H, W), the end of its path, and the steps it takes, with radius .3."""
    point, total = image.clone(), torch.zeros_like(image)
    taken = 0
    while taken < steps:
        taken += 1
        variable = point[None].clone().requires_grad_()
        (gradient,) = torch.autograd.grad(network(variable)[0, target], variable)
        gradient = gradient[0]
        if smooth:
            moved = image + (point - step * gradient.sign() - image).clamp(-0.3, 0.3)
        else:
            moved = point - step * point.numel() ** 0.5 * gradient / gradient.norm()
        moved = moved.clamp(0, 1)
        total -= (moved - point) * gradient
        point = moved
        if int(network(point[None]).argmax()) != target:
            break
    return total, point, taken


@pytest.mark.parametrize(("descent", "step"), [("sharp", 0.06), ("smooth", 0.05)])
@pytest.mark.parametrize("micro_batch", [1, 64])
def test_it_is_its_definition(cnn: nn.Module, images: Tensor, descent: str, step: float, micro_batch: int) -> None:
    targets = cnn(images).argmax(dim=1)
    targets[0] = (targets[0] + 1) % 5  # one that is not predicted
    found = attribute(cnn, images, targets, "mfaba", steps=7, descent=descent, step=step, micro_batch=micro_batch)
    spent = []
    for row, (image, target) in enumerate(zip(images, targets.tolist(), strict=True)):
        expected, end, taken = by_definition(cnn, image, target, 7, smooth=descent == "smooth", step=step)
        assert torch.allclose(found.values[row], expected, rtol=1e-8, atol=1e-13)
        assert torch.isclose(found.baseline_score[row], cnn(end[None])[0, target])
        # The gradient at the end comes with the classes there, if the path could go on.
        spent.append(min(taken + 1, 7))
    assert found.gradient_evaluations.tolist() == spent


def test_a_path_ends_where_another_class_is_likeliest() -> None:
    # f_0 = x, f_1 = 1/2: from .8 down in steps of .1, three steps to .5 and one more.
    def network(points: Tensor) -> Tensor:
        logits = points.flatten(1)
        return torch.cat([logits, torch.full_like(logits, 0.55)], dim=1)

    one = torch.full((1, 1, 1, 1), 0.8, dtype=torch.float64)
    for descent in ("sharp", "smooth"):
        found = attribute(network, one, [0], "mfaba", step=0.1, descent=descent)
        assert found.values.item() == pytest.approx(0.3)
        assert found.baseline_score.item() == pytest.approx(0.5)
        assert found.gradient_evaluations.tolist() == [4]
    near = attribute(network, one, [0], "mfaba", step=0.1, descent="smooth", radius=0.12, steps=9)
    assert near.values.item() == pytest.approx(0.12)
    assert near.gradient_evaluations.tolist() == [9]
    # An image of another class takes one step.
    other = attribute(network, one, [1], "mfaba", step=0.1)
    assert other.gradient_evaluations.tolist() == [2]


@pytest.mark.parametrize("descent", ["sharp", "smooth"])
def test_a_linear_network_is_attributed_exactly(
    linear: nn.Module, images: Tensor, targets: Tensor, descent: str
) -> None:
    targets = targets % 3
    found = attribute(linear, images, targets, "mfaba", descent=descent, step=0.01)
    assert found.completeness_residual is not None
    assert found.completeness_residual.abs().max() < 1e-9
    # Every value goes down the gradient, or is at the border of [0, 1].
    assert (found.values >= 0).all()
    assert found.values.any()


def test_the_sum_tends_to_the_difference_of_scores(cnn: nn.Module, images: Tensor) -> None:
    def residual(steps: int) -> Tensor:
        found = attribute(cnn, images, "predicted", "mfaba", steps=steps, step=0.04 / steps)
        assert found.completeness_residual is not None
        return found.completeness_residual.abs().max()

    assert residual(80) < residual(5) / 8


def test_the_paper_preset_costs_what_the_authors_code_does(cnn: nn.Module, images: Tensor) -> None:
    spent = attribute(cnn, images, "predicted", "mfaba", preset="paper", step=1e-6).gradient_evaluations
    assert spent.tolist() == [50] * 5


def test_the_smooth_preset_is_the_authors(cnn: nn.Module, images: Tensor) -> None:
    targets = cnn(images).argmax(dim=1)
    probabilities = nn.Sequential(cnn, nn.Softmax(dim=1))
    found = attribute(cnn, images, targets, "mfaba", preset="paper-smooth", steps=5)
    for row, (image, target) in enumerate(zip(images, targets.tolist(), strict=True)):
        expected, _, _ = by_definition(probabilities, image, target, 5, smooth=True, step=0.001)
        assert torch.allclose(found.values[row], expected, rtol=1e-8, atol=1e-13)


def test_corners(cnn: nn.Module, linear: nn.Module, images: Tensor, targets: Tensor) -> None:
    blind = attribute(lambda points: cnn(points * 0), images, targets, "mfaba")
    assert not blind.values.any()
    broken = attribute(lambda points: linear(points) * torch.nan, images, targets % 3, "mfaba")
    assert broken.map.isnan().flatten(1).any(dim=1).all()
    assert attribute(cnn.float(), images.float(), targets, "mfaba").values.dtype == torch.float32
