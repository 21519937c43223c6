"""IG2: the definitions step by step, what their sums tend to, and the corners."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from ssig import attribute
from ssig.errors import UsageError
from ssig.methods.ig2 import counterparts, unit
from ssig.randomness import stream
from ssig.types import Group, References


@pytest.fixture
def pool() -> Tensor:
    return torch.rand(9, 3, 10, 12, generator=torch.Generator().manual_seed(8), dtype=torch.float64)


def gradient_of(network: nn.Module, point: Tensor, target: int) -> Tensor:
    variable = point.clone().requires_grad_()
    return torch.autograd.grad(network(variable[None])[0, target], variable)[0]


def ig2_by_definition(
    network: nn.Module, image: Tensor, target: int, goal: Tensor, steps: int, step: float
) -> tuple[Tensor, Tensor]:
    """The sum over one path of an image (C, H, W), and its end."""
    total, point = torch.zeros_like(image), image
    for _ in range(steps):
        variable = point.clone().requires_grad_()
        distance = (network(variable[None]) - goal).square().sum()
        (gradient,) = torch.autograd.grad(distance, variable)
        moved = (point - step * math.sqrt(image.numel()) * gradient / gradient.norm()).clamp(0, 1)
        total += (point - moved) * gradient_of(network, point, target)
        point = moved
    return total, point


@pytest.mark.parametrize("micro_batch", [1, 3, 64])
@pytest.mark.parametrize("paths", [1, 3])
def test_ig2_is_its_definition(
    cnn: nn.Module, images: Tensor, targets: Tensor, pool: Tensor, paths: int, micro_batch: int
) -> None:
    keys = [str(row) for row in range(5)]
    found = attribute(
        cnn,
        images,
        targets,
        "ig2",
        paths=paths,
        steps=6,
        step=0.05,
        references=pool,
        keys=keys,
        micro_batch=micro_batch,
    )
    streams = tuple(stream(0, "", key, "ig2") for key in keys)
    logits = cnn(pool)
    drawn = counterparts(Group(images, images, streams, targets=targets), References(pool, logits), paths)
    for row in range(5):
        target = int(targets[row])
        pairs = [ig2_by_definition(cnn, images[row], target, logits[one], 6, 0.05) for one in drawn[row]]
        expected = torch.stack([values for values, _ in pairs]).mean(dim=0)
        assert torch.allclose(found.values[row], expected, rtol=1e-9, atol=1e-14)
        ends = cnn(torch.stack([end for _, end in pairs]))[:, target].mean()
        assert torch.allclose(found.baseline_score[row], ends, rtol=1e-12)
    assert found.gradient_evaluations.tolist() == [2 * 6 * paths] * 5
    assert (found.standard_error is None) == (paths == 1)


def test_ig2_is_complete_for_a_linear_network(
    linear: nn.Module, images: Tensor, targets: Tensor, pool: Tensor
) -> None:
    found = attribute(linear, images, targets % 3, "ig2", references=pool, step=0.1)
    assert found.completeness_residual is not None
    assert found.completeness_residual.abs().max() < 1e-11
    assert (found.score - found.baseline_score).abs().min() > 1e-3


def test_ig2_sums_to_the_difference_of_scores_for_short_steps(
    cnn: nn.Module, images: Tensor, targets: Tensor, pool: Tensor
) -> None:
    def residual(steps: int) -> float:
        found = attribute(cnn, images, targets, "ig2", references=pool, steps=steps, step=0.02 / steps)
        assert found.completeness_residual is not None
        return float(found.completeness_residual.abs().max())

    assert residual(64) < residual(4) / 8


def test_ig2_explains_other_scores_by_the_same_paths(
    cnn: nn.Module, images: Tensor, targets: Tensor, pool: Tensor
) -> None:
    ends = [
        attribute(cnn, images, targets, "ig2", references=pool, score=score).baseline_score
        for score in ("logit", "log-probability")
    ]
    assert not torch.allclose(*ends)
    # Logits of the same ends: their differences are those of log-probabilities up to a number per path.
    assert torch.isfinite(ends[1]).all()
    assert (ends[1] < 0).all()


def test_counterparts_are_of_other_classes_while_there_are_any() -> None:
    logits = torch.eye(3)[[0, 0, 1, 2, 0, 1]]
    images = torch.zeros(2, 1, 1, 1)
    streams = tuple(stream(0, "s", str(row), "ig2") for row in range(2))
    group = Group(images, images, streams, targets=torch.tensor([0, 1]))
    references = References(torch.arange(1.0, 7.0).view(6, 1, 1, 1), logits)
    drawn = counterparts(group, references, 6)
    assert sorted(drawn[0, :3].tolist()) == [2, 3, 5]
    assert sorted(drawn[0].tolist()) == list(range(6))
    assert sorted(drawn[1, :4].tolist()) == [0, 1, 3, 4]
    assert counterparts(group, references, 2).tolist() == drawn[:, :2].tolist()
    assert counterparts(group, references, 9).shape == (2, 6)


@pytest.mark.parametrize("paths", [1, 2, 4, 5])
def test_an_image_is_not_its_own_counterpart(paths: int) -> None:
    # Image 0 is misclassified and among the references, twice; image 1 is another one with the same draws.
    pixels = torch.arange(5.0).view(5, 1, 1, 1)
    references = References(torch.cat([pixels[:4], pixels[:1]]), torch.eye(3)[[1, 1, 2, 0, 1]])
    images = torch.stack([pixels[0], pixels[4]])
    streams = tuple(stream(0, "s", "same", "ig2") for _ in range(2))
    group = Group(images, images, streams, targets=torch.tensor([0, 0]))
    drawn = counterparts(group, references, paths)
    assert drawn.shape == (2, paths)
    assert not set(drawn[0].tolist()) & {0, 4}
    # Those of other classes first, and all of them again when they run out.
    order = [one for one in counterparts(group, references, 5)[1].tolist() if one in (1, 2)] + [3]
    assert drawn[0].tolist() == (2 * order)[:paths]
    alone = counterparts(group.rows(torch.tensor([0])), references, paths)
    assert alone.tolist() == drawn[:1].tolist()


@pytest.mark.parametrize("paths", [1, 3])
def test_an_image_among_the_references_is_explained_as_if_it_were_not(
    cnn: nn.Module, images: Tensor, targets: Tensor, pool: Tensor, paths: int
) -> None:
    # Targets that the network does not see, so that the images are of other classes than their own.
    answers = cnn(images).argmax(dim=1)
    wrong = (answers + 1) % 5
    for references in (torch.cat([pool[:4], images]), torch.cat([images[2:3], pool[:4]])):
        whole = attribute(cnn, images, wrong, "ig2", references=references, paths=paths, keys=list("abcde"))
        assert whole.values.flatten(1).norm(dim=1).min() > 0
        alone = attribute(
            cnn, images[2:3], wrong[2:3], "ig2", references=references, paths=paths, keys=["c"], micro_batch=2
        )
        assert torch.allclose(alone.values[0], whole.values[2], rtol=1e-9, atol=1e-14)
    one_other = torch.cat([images[2:3], pool[:1]])
    with_itself, without = (
        attribute(cnn, images[2:3], wrong[2:3], "ig2", references=references, paths=1, keys=["c"]).values
        for references in (one_other, pool[:1])
    )
    assert torch.allclose(with_itself, without, rtol=1e-9, atol=1e-14)


def test_unit_gradients() -> None:
    gradient = torch.zeros(3, 1, 1, 2)
    gradient[0] = torch.tensor([3e-30, 4e-30])
    gradient[1, 0, 0, 0] = torch.nan
    found = unit(gradient)
    assert torch.allclose(found[0, 0, 0], torch.tensor([0.6, 0.8]))
    assert found[1].isnan().any()
    assert not found[2].any()


def test_ig2_corners(cnn: nn.Module, linear: nn.Module, images: Tensor, targets: Tensor, pool: Tensor) -> None:
    assert not attribute(lambda points: cnn(points * 0), images, targets, "ig2", references=pool).values.any()
    broken = attribute(lambda points: linear(points) * torch.nan, images, targets % 3, "ig2", references=pool)
    assert broken.map.isnan().flatten(1).any(dim=1).all()
    # A reference with the image's own answer: there is no way to go.
    own = attribute(cnn, images[:1], targets[:1], "ig2", references=images[:1])
    assert not own.values.any()
    with pytest.raises(UsageError, match="references"):
        attribute(cnn, images, targets, "ig2")
    with pytest.raises(UsageError, match="pool"):
        attribute(cnn, images, targets, "ig2", references=pool, paths=5, pool=4)
