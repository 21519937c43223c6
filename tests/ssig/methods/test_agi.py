"""AGI: the definition step by step, early arrival, the classes, and the corners."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from ssig import attribute
from ssig.methods.agi import spaced_classes
from ssig.registry import METHODS


def by_definition(
    network: nn.Module, image: Tensor, target: int, classes: list[int], steps: int, epsilon: float, *, compat: bool
) -> tuple[Tensor, int]:
    """AGI of one image (1, C, H, W), and the gradients it takes."""
    total, spent = torch.zeros_like(image), 0
    for adversary in classes:
        if adversary == target:
            continue
        point = image
        for _ in range(steps):
            variable = point.clone().requires_grad_()
            logits = network(variable)
            spent += 1
            if int(logits.argmax()) == adversary:
                break
            spent += 1
            (uphill,) = torch.autograd.grad(logits[0, adversary], variable, retain_graph=True)
            (own,) = torch.autograd.grad(logits[0, target], variable)
            origin = image if compat else point
            moved = (origin + epsilon * uphill.sign()).clamp(0, 1)
            total -= own * (moved - origin)
            point = moved
    return total, spent


@pytest.mark.parametrize("compat", [False, True])
@pytest.mark.parametrize("micro_batch", [1, 7, 64])
@pytest.mark.parametrize("kind", ["cnn", "linear"])
def test_it_is_its_definition(
    request: pytest.FixtureRequest, images: Tensor, targets: Tensor, kind: str, micro_batch: int, compat: bool
) -> None:
    network = request.getfixturevalue(kind)
    number = 5 if kind == "cnn" else 3
    targets = targets % number
    found = attribute(
        network,
        images,
        targets,
        "agi",
        classes=3,
        steps=4,
        epsilon=0.01,
        compat=compat,
        micro_batch=micro_batch,
    )
    classes = list(range(number - 1)) if compat else list(range(number - 1))[:3]
    spent = []
    for image, target, values in zip(images, targets.tolist(), found.values, strict=True):
        expected, count = by_definition(network, image[None], target, classes, 4, 0.01, compat=compat)
        spent.append(count)
        assert torch.allclose(values, expected[0], rtol=1e-9, atol=1e-15)
    assert found.gradient_evaluations.tolist() == spent
    assert found.completeness_residual is None


def test_ways_end_where_the_class_is_reached(linear: nn.Module, images: Tensor, targets: Tensor) -> None:
    targets = targets % 3
    found = attribute(linear, images, targets, "agi", classes=2, steps=50, epsilon=0.05)
    assert (found.gradient_evaluations < 2 * 2 * 50 / 4).all()


def test_an_image_that_is_taken_for_the_class_has_no_way_to_go(linear: nn.Module, images: Tensor) -> None:
    taken_for = int(linear(images[:1]).argmax())
    found = attribute(lambda points: linear(points).roll(-taken_for, dims=1), images[:1], [1], "agi", classes=1)
    assert not found.values.any()
    assert found.gradient_evaluations.tolist() == [1]


def test_a_way_adds_what_the_score_falls_by(linear: nn.Module, images: Tensor) -> None:
    # One step in the middle of [0, 1], where nothing is clipped: the sum is eps (w_y . sign w_c), negated.
    inner = images * 0.4 + 0.3
    found = attribute(linear, inner, [2] * 5, "agi", classes=1, steps=1, epsilon=0.05)
    weight = linear.weight.detach()
    expected = -weight[2] * 0.05 * weight[0].sign()
    arrived = linear(inner).argmax(dim=1) == 0
    assert not arrived.all()
    assert torch.allclose(found.values[~arrived], expected.expand_as(inner)[~arrived], rtol=1e-10)


def test_points_stay_in_the_unit_cube(cnn: nn.Module, images: Tensor, targets: Tensor) -> None:
    class Watch(nn.Module):
        def forward(self, points: Tensor) -> Tensor:
            assert points.min() >= 0
            assert points.max() <= 1
            return cnn(points)

    attribute(Watch().eval(), images, targets, "agi", steps=5, epsilon=0.4)


def test_classes() -> None:
    assert spaced_classes(1000, 20) == list(range(0, 1000, 50))
    assert spaced_classes(1000, 15) == list(range(0, 990, 66))
    assert spaced_classes(1000, 15, whole=True) == list(range(0, 999, 66))
    assert len(spaced_classes(1000, 15, whole=True)) == 16
    assert spaced_classes(1000, 1) == [0]
    assert spaced_classes(1000, 2000) == list(range(999))
    assert spaced_classes(5, 4) == [0, 1, 2, 3]
    assert spaced_classes(2, 4) == [0]
    assert spaced_classes(1, 4) == []


@pytest.mark.parametrize(
    ("given", "most"),
    [({}, 30), ({"preset": "paper"}, 800), ({"classes": 15, "steps": 15, "compat": True}, 480)],
)
def test_the_listed_cost_is_the_most_it_takes(given: dict[str, object], most: int) -> None:
    spec = METHODS["agi"]
    assert spec.evaluations(spec.parse(given)) == most


def test_flat_broken_and_lonely_classes(cnn: nn.Module, linear: nn.Module, images: Tensor, targets: Tensor) -> None:
    assert not attribute(lambda points: cnn(points * 0), images, targets, "agi").values.any()
    broken = attribute(lambda points: linear(points) * torch.nan, images, targets % 3, "agi")
    assert broken.map.isnan().flatten(1).any(dim=1).all()
    assert broken.gradient_evaluations.max() <= 30
    lonely = attribute(lambda points: linear(points)[:, :1], images, [0] * 5, "agi")
    assert not lonely.values.any()
    assert lonely.gradient_evaluations.tolist() == [0] * 5
