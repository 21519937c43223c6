"""SAMP and SAMP++: the authors' loop written again, closed forms, what the bound does, and the corners."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import convolve1d
from torch import Tensor, nn

from ssig import attribute
from ssig.methods.samp import advance, blurred, shares

GREY = 0.5


def softened(image: Tensor, baseline: float = GREY) -> Tensor:
    """The blurred image (C, H, W), from SciPy."""
    weights = np.exp(-0.5 * (np.arange(-15, 16) / 5) ** 2)
    values = image.numpy() - baseline
    for axis in (1, 2):
        values = convolve1d(values, weights / weights.sum(), axis=axis, mode="constant")
    return torch.from_numpy(values) + baseline


def authors(
    network: nn.Module,
    target: int,
    start: Tensor,
    stop: Tensor,
    *,
    away: bool,
    count: int,
    fragments: float = math.inf,
    momentum: float | None = None,
) -> tuple[Tensor, int]:
    """One direction of the authors' loop on one image: its map (H, W), and the gradients that it takes.

    With `fragments` infinite there is no bound on a step.
    """
    point, gradient = start.clone(), None
    total = torch.zeros(start.shape[1:], dtype=start.dtype)
    bound = math.inf if fragments == math.inf else float((stop - start).abs().sum()) / fragments
    pixels, spent = total.numel(), 0
    while not torch.isclose(point, stop).all():
        variable = point[None].clone().requires_grad_()
        (newest,) = torch.autograd.grad(network(variable)[0, target], variable)
        spent += 1
        mixed = gradient is not None and momentum is not None
        gradient = momentum * newest[0] + (1 - momentum) * gradient if mixed else newest[0]
        arrived = torch.isclose(point, stop).all(dim=0)
        way = stop - point
        projection = (gradient * way).sum(dim=0)
        if away:
            projection[arrived] = math.inf
            quantile = torch.quantile(projection.flatten(), count / pixels, interpolation="lower")
            chosen = projection < quantile + 1e-12
        else:
            projection[arrived] = -math.inf
            quantile = torch.quantile(projection.flatten(), 1 - count / pixels, interpolation="higher")
            chosen = projection > quantile - 1e-12
        move = way * chosen
        if move.abs().sum() > bound:
            move = move * (bound / move.abs().sum())
        point = point + move
        total += (move * gradient).sum(dim=0)
    return (-total if away else total), spent


# Of 120 pixels.
COUNT, STEPS = 12, 10


@pytest.mark.parametrize("micro_batch", [1, 64])
def test_samp_is_the_authors_loop(cnn: nn.Module, images: Tensor, targets: Tensor, micro_batch: int) -> None:
    found = attribute(cnn, images, targets, "samp", steps=STEPS, micro_batch=micro_batch)
    assert found.gradient_evaluations.tolist() == [2 * STEPS] * 5
    for image, target, mapped in zip(images, targets.tolist(), found.map, strict=True):
        grey = torch.full_like(image, GREY)
        away, spent = authors(cnn, target, image, grey, away=True, count=COUNT)
        towards, others = authors(cnn, target, softened(image), image, away=False, count=COUNT)
        assert spent == others == STEPS
        assert torch.allclose(mapped, (away + towards) / 2, rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize("momentum", [0.5, 1.0])
def test_samp_plus_is_the_authors_loop(cnn: nn.Module, images: Tensor, targets: Tensor, momentum: float) -> None:
    path = {"steps": STEPS, "fragments": 7, "momentum": momentum}
    found = attribute(cnn, images, targets, "samp++", **path)
    alone = [attribute(cnn, images, targets, "samp++", direction=name, **path) for name in ("deletion", "insertion")]
    assert found.gradient_evaluations.tolist() == sum(part.gradient_evaluations for part in alone).tolist()
    settings = {"count": COUNT, "fragments": 7, "momentum": momentum}
    for row, (image, target) in enumerate(zip(images, targets.tolist(), strict=True)):
        grey = torch.full_like(image, GREY)
        expected = [
            authors(cnn, target, image, grey, away=True, **settings),
            authors(cnn, target, softened(image), image, away=False, **settings),
        ]
        for part, (mapped, spent) in zip(alone, expected, strict=True):
            assert torch.allclose(part.map[row], mapped, rtol=1e-6, atol=1e-9)
            assert part.gradient_evaluations[row] == spent
            assert 7 <= spent <= 7 + STEPS
        assert torch.allclose(found.map[row], (expected[0][0] + expected[1][0]) / 2, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("method", ["samp", "samp++"])
@pytest.mark.parametrize("direction", ["both", "insertion", "deletion"])
def test_a_linear_network_is_attributed_exactly(
    linear: nn.Module, images: Tensor, targets: Tensor, method: str, direction: str
) -> None:
    targets = targets % 3
    found = attribute(linear, images, targets, method, direction=direction)
    soft = torch.stack([softened(image) for image in images])
    other_ends = {"both": (soft + GREY) / 2, "insertion": soft, "deletion": torch.full_like(images, GREY)}[direction]
    weight = linear.weight.detach()[targets]
    assert torch.allclose(found.values, weight * (images - other_ends), rtol=1e-9, atol=1e-12)
    assert torch.allclose(found.baseline_score, linear(other_ends).gather(1, targets[:, None])[:, 0])
    assert found.completeness_residual is not None
    assert found.completeness_residual.abs().max() < 1e-9


def test_one_pixel_is_differentiated_where_it_starts() -> None:
    # f = x^3 from .5 to 1, in one step: 3/4 * 1/2; away from 1, 3 * 1/2. Bounded by a half: the mean of two gradients.
    def network(points: Tensor) -> Tensor:
        return points.pow(3).flatten(1)

    one = torch.ones(1, 1, 1, 1, dtype=torch.float64)
    whole = attribute(network, one, [0], "samp", steps=1, direction="deletion")
    assert whole.values.item() == pytest.approx(1.5)
    halves = attribute(network, one, [0], "samp++", steps=1, fragments=2, momentum=1, direction="deletion")
    assert halves.values.item() == pytest.approx((3 + 3 * 0.75**2) / 4)
    assert halves.gradient_evaluations.item() == 2


def test_the_sum_of_samp_plus_tends_to_the_difference_of_scores(
    cnn: nn.Module, images: Tensor, targets: Tensor
) -> None:
    # In the mean of both directions the errors of the two nearly cancel.
    def residual(fragments: int, direction: str) -> float:
        found = attribute(cnn, images, targets, "samp++", fragments=fragments, direction=direction)
        assert found.completeness_residual is not None
        return float(found.completeness_residual.abs().mean())

    for direction in ("insertion", "deletion"):
        assert residual(160, direction) < residual(10, direction) / 5


def test_samp_plus_without_bound_and_momentum_is_samp(cnn: nn.Module, images: Tensor, targets: Tensor) -> None:
    plain = attribute(cnn, images, targets, "samp", steps=STEPS)
    plus = attribute(cnn, images, targets, "samp++", steps=STEPS, fragments=1, momentum=1)
    assert torch.allclose(plain.values, plus.values, rtol=1e-9, atol=1e-14)
    assert plus.gradient_evaluations.tolist() == [2 * STEPS] * 5


def test_the_paper_presets(cnn: nn.Module, images: Tensor, targets: Tensor) -> None:
    assert attribute(cnn, images, targets, "samp", preset="paper").gradient_evaluations.tolist() == [28] * 5
    spent = attribute(cnn, images, targets, "samp++", preset="paper").gradient_evaluations
    assert spent.min() >= 100
    assert spent.max() <= 128


@pytest.mark.parametrize(("pixels", "steps"), [(120, 16), (120, 7), (50176, 14), (50176, 16), (3, 5), (1, 1)])
def test_shares_move_all_pixels(pixels: int, steps: int) -> None:
    counts = shares(pixels, steps)
    assert len(counts) == steps
    assert sum(counts) == max(pixels, sum(counts)) >= pixels
    assert max(counts) - min(counts) <= 1


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(1, 24),
    fragments=st.integers(1, 9),
    levels=st.integers(1, 30),
)
def test_every_path_ends_in_time(seed: int, count: int, fragments: int, levels: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.rand(3, 24, generator=generator, dtype=torch.float64)
    lengths[:, ::5] = 0
    rest = (lengths > 0).double()
    bound = lengths.sum(dim=1, keepdim=True) / fragments
    # Few levels make many ties.
    for _ in range(fragments + -(-24 // count)):
        gains = torch.randint(-levels, levels + 1, (3, 24), generator=generator).double() * rest
        before, rest = rest, advance(rest, gains, lengths, bound, count)
        assert (rest <= before).all()
        assert (((before - rest) * lengths).sum(dim=1) <= bound[:, 0] * (1 + 2e-5)).all()
        moved = rest < before
        still = ~moved & (before > 0)
        for row in range(3):
            if moved[row].any() and still[row].any():
                assert gains[row][moved[row]].min() > gains[row][still[row]].max()
    assert not rest.any()


def test_equal_gains_move_together_and_what_is_no_number_moves_last() -> None:
    rest = torch.ones(1, 6)
    gains = torch.tensor([[2.0, 1, 1, math.nan, -1, math.inf]])
    lengths, bound = torch.ones(1, 6), torch.full((1, 1), 6.0)
    rest = advance(rest, gains, lengths, bound, 3)
    assert rest.tolist() == [[0, 0, 0, 1, 1, 0]]
    rest = advance(rest, gains, lengths, bound, 1)
    assert rest.tolist() == [[0, 0, 0, 1, 0, 0]]
    assert not advance(rest, gains, lengths, bound, 1).any()


def test_the_blur_fades_to_zero_at_the_border(images: Tensor) -> None:
    expected = torch.stack([softened(image, 0.0) for image in images])
    assert torch.allclose(blurred(images, 5.0, 15), expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("method", ["samp", "samp++"])
def test_corners(cnn: nn.Module, linear: nn.Module, images: Tensor, targets: Tensor, method: str) -> None:
    assert not attribute(cnn, images, targets, method, baseline=images).values.any()
    assert not attribute(lambda points: cnn(points * 0), images, targets, method).values.any()
    # Some pixels equal the baseline's.
    baseline = torch.full_like(images, GREY)
    baseline[..., :2] = images[..., :2]
    partly = attribute(cnn, images, targets, method, baseline=baseline, direction="deletion").values
    assert partly.isfinite().all()
    assert not partly[..., :2].any()
    broken = attribute(lambda points: linear(points) * torch.nan, images, targets % 3, method)
    assert broken.map.isnan().flatten(1).any(dim=1).all()
    assert attribute(cnn.float(), images.float(), targets, method).values.dtype == torch.float32
