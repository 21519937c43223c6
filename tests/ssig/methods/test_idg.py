"""IDG and Left-IG: where samples are put, what they are worth, and what the authors' code does instead."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from ssig import attribute
from ssig.methods.idg import Floats, placement
from ssig.methods.left_ig import cutoffs
from ssig.registry import METHODS
from ssig.registry.entries import Cost


def rising(*slopes: float) -> Floats:
    return np.concatenate([[0.0], np.cumsum(slopes)])


def test_samples_lie_where_the_score_rises_and_not_where_the_authors_code_puts_them() -> None:
    # Ten points: f rises a little in the first interval and much in the fifth, from .444 on.
    scores = rising(1, 0, 0, 0, 9, 0, 0, 0, 0)
    alphas, widths = placement(scores, 10)
    assert np.allclose(alphas, [0, *(4 / 9 + np.arange(9) / 81)])
    assert np.allclose(widths, [1 / 9, *[1 / 81] * 9])
    compat, widths = placement(scores, 10, compat=True)
    assert np.allclose(compat, [0, *(1 / 9 + np.arange(9) / 81)])
    assert np.allclose(widths, [1 / 9, *[1 / 81] * 9])


def test_left_over_samples_go_to_the_empty_intervals_first() -> None:
    # Of 6 samples expected 4.5, 0.9, 0.6, 0: one is left for the second interval, one for the third.
    alphas, widths = placement(rising(15, 3, 2, 0), 6)
    assert np.allclose(alphas, [0, 1 / 16, 2 / 16, 3 / 16, 1 / 4, 2 / 4])
    assert np.allclose(widths, [1 / 16] * 4 + [1 / 4] * 2)


def test_where_none_is_empty_the_filled_ones_share_what_is_left() -> None:
    alphas, widths = placement(rising(1, 1, 1), 11)
    assert len(np.unique(alphas)) == 11
    assert np.isclose(widths.sum(), 1)
    # The authors' code takes samples away instead, and puts those that are missing at 0.
    compat, widths = placement(rising(1, 1, 1), 11, compat=True)
    assert (widths == 0).sum() == 3
    assert (compat[widths == 0] == 0).all()


@pytest.mark.parametrize("scores", [[2.0] * 6, [5.0, 4.0, 3.0, 2.0, 1.0, 0.0], [0.0, torch.nan, 1.0, 2.0, 3.0, 4.0]])
@pytest.mark.parametrize("compat", [False, True])
def test_flat_falling_and_broken_scores_spread_the_samples(scores: list[float], compat: bool) -> None:
    alphas, widths = placement(np.array(scores), 12, compat=compat)
    assert np.isfinite(alphas).all()
    assert np.isfinite(widths).all()
    if not compat:
        assert np.allclose(np.floor(alphas * 5 + 1e-9), np.repeat(range(5), [2, 2, 2, 3, 3]))


def test_a_linear_score_spreads_the_samples_whatever_is_rounded_off() -> None:
    for slope in (-7.3, 7.3):
        scores = (np.linspace(0, 1, 33, dtype=np.float32) * np.float32(slope) + np.float32(11)).astype(np.float64)
        alphas, widths = placement(scores, 32)
        assert np.allclose(alphas, np.arange(32) / 32)
        assert np.allclose(widths, 1 / 32)


@given(
    st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=40),
    st.integers(2, 64),
)
def test_placements_are_ordered_and_whole(scores: list[float], steps: int) -> None:
    alphas, widths = placement(np.array(scores), steps)
    intervals = len(scores) - 1
    assert len(alphas) == len(widths) == steps
    assert (np.diff(alphas) > 0).all()
    assert alphas[0] >= 0
    assert alphas[-1] < 1
    # The samples of an interval cover it.
    inside = np.floor(alphas * intervals + 1e-9).astype(int)
    covered = np.bincount(inside, widths)
    assert np.allclose(covered[np.unique(inside)], 1 / intervals)


def by_definition(
    network: nn.Module, image: Tensor, target: int, forwards: int, steps: int, *, compat: bool
) -> Tensor:
    """IDG of one image (C, H, W) from black."""
    intervals = forwards - 1
    scores = [float(network((k / intervals * image)[None])[0, target]) for k in range(forwards)]
    alphas, widths = placement(np.array(scores), steps, compat=compat)
    total = torch.zeros_like(image)
    before: tuple[float, float] | None = None
    for alpha, width in zip(alphas, widths, strict=True):
        point = (alpha * image)[None].requires_grad_()
        score = network(point)[0, target]
        (gradient,) = torch.autograd.grad(score, point)
        if before is not None and alpha != before[0]:
            total += gradient[0] * (score.item() - before[1]) / (alpha - before[0]) * width
        before = (alpha, score.item())
    return total * image / (steps if compat else 1)


@pytest.mark.parametrize("compat", [False, True])
@pytest.mark.parametrize(("forwards", "steps"), [(8, 8), (5, 14), (20, 6)])
def test_idg_is_its_definition(
    cnn: nn.Module, images: Tensor, targets: Tensor, forwards: int, steps: int, compat: bool
) -> None:
    found = attribute(cnn, images, targets, "idg", baseline="black", forwards=forwards, steps=steps, compat=compat)
    assert found.gradient_evaluations.tolist() == [steps] * 5
    for image, target, values in zip(images, targets.tolist(), found.values, strict=True):
        expected = by_definition(cnn, image, target, forwards, steps, compat=compat)
        assert torch.allclose(values, expected, rtol=1e-9, atol=1e-14)


def test_a_linear_network_loses_the_first_sample_alone(linear: nn.Module, images: Tensor, targets: Tensor) -> None:
    targets = targets % 3
    weight = linear.weight.detach()[targets]
    slope = (weight * images).sum(dim=(1, 2, 3), keepdim=True)
    found = attribute(linear, images, targets, "idg", baseline="black", forwards=17, steps=16)
    assert torch.allclose(found.values, weight * images * slope * 15 / 16, rtol=1e-9, atol=1e-12)


def test_it_tends_to_the_integral(images: Tensor) -> None:
    # f = sum w x^3 with w > 0: grad f(a x) = 3 a^2 w x^2, f'(a) = 3 a^2 f(x), and their integral has 9 / 5.
    weight = torch.rand(3, 10, 12, generator=torch.Generator().manual_seed(7), dtype=torch.float64)

    def network(points: Tensor) -> Tensor:
        return (points**3 * weight).flatten(1).sum(dim=1, keepdim=True)

    targets = torch.zeros(5, dtype=torch.int64)
    found = attribute(network, images, targets, "idg", baseline="black", forwards=33, steps=4096)
    expected = 9 / 5 * weight * images**3 * network(images)[:, :, None, None]
    assert torch.allclose(found.values, expected, rtol=5e-3)


def test_the_first_pass_needs_no_gradients(cnn: nn.Module, images: Tensor, targets: Tensor) -> None:
    counts = {True: 0, False: 0}

    class Counter(nn.Module):
        def forward(self, points: Tensor) -> Tensor:
            counts[points.requires_grad] += len(points)
            return cnn(points)

    network = Counter().eval()
    attribute(network, images, targets, "gradient")  # a network is looked at once: whether it mixes images
    counts.update({True: 0, False: 0})
    attribute(network, images, targets, "idg", forwards=9, steps=4)
    # Points 0 .. 7 of 8, and the scores of image and baseline.
    assert counts == {True: 5 * 4, False: 5 * (8 + 2)}
    spec = METHODS["idg"]
    assert spec.cost(spec.parse({"forwards": 9, "steps": 4})) == Cost(4, 8)


def test_left_ig_leaves_out_what_is_saturated(linear: nn.Module, images: Tensor) -> None:
    # f = min(w . x, half of it): the gradient is w before the middle of the path, and 0 after it.
    weight = linear.weight.detach().abs()

    def network(points: Tensor) -> Tensor:
        inner = points.flatten(1) @ weight.flatten(1).T
        return torch.minimum(inner, torch.full_like(inner, 0.5) * (images.flatten(1) @ weight.flatten(1).T)[:1])

    found = attribute(network, images[:1], [1], "left-ig", baseline="black", steps=20)
    assert torch.allclose(found.values, (weight[1] * images[0])[None], rtol=1e-10)
    whole = attribute(network, images[:1], [1], "ig", rule="midpoint", baseline="black", steps=20)
    assert torch.allclose(whole.values, (weight[1] * images[0])[None] / 2, rtol=1e-10)


def test_cutoffs() -> None:
    on_path = torch.tensor(
        [
            [0.0, 2.0, -3.0, 0.0, 0.0, 9.5],
            [8.0, 1.0, -2.0, 0.0, 5.0, 9.6],
            [9.5, 0.0, -1.0, 0.0, 6.0, 9.7],
            [10.0, 0.0, -2.0, 0.0, 7.0, 9.8],
        ]
    )
    ends = torch.tensor([9.0, 0.0, -1.5, 0.0, 100.0, 10.0])
    # Third step; none but the first, which counts all the same; none above a negative maximum; a flat score; a score
    # that rises in the last step, to which all steps lead; all above.
    assert cutoffs(on_path, ends, 0.9).tolist() == [2, 1, 1, 1, 4, 1]
    assert cutoffs(on_path, ends, 1.0).tolist() == [4] * 6


def test_a_score_that_rises_at_the_image_alone_keeps_the_whole_path() -> None:
    # f = x^8 from 0 to 1: at a = 31/32 it is .78, so only the image is above .9, and all 32 gradients count.
    def network(points: Tensor) -> Tensor:
        return points.flatten(1).pow(8).sum(dim=1, keepdim=True)

    one = torch.ones(1, 1, 1, 1, dtype=torch.float64)
    found = attribute(network, one, [0], "left-ig", baseline="black", steps=32, share=0.9)
    left = sum(8 * (k / 32) ** 7 for k in range(32)) / 32
    assert 0.85 < left < 1
    assert found.values.item() == pytest.approx(left)


@pytest.mark.parametrize("share", [0.5, 0.9, 1.0])
def test_the_paper_preset_is_the_authors_loop(cnn: nn.Module, images: Tensor, targets: Tensor, share: float) -> None:
    def shifted(points: Tensor) -> Tensor:
        return cnn(points) - cnn(torch.full_like(points, 0.5))

    found = attribute(shifted, images, targets, "left-ig", preset="paper", share=share)
    for image, target, values in zip(images, targets.tolist(), found.values, strict=True):
        change = image - 0.5
        gradients, logits = [], []
        for alpha in np.linspace(0, 1, 50):
            point = (0.5 + alpha * change)[None].requires_grad_()
            logit = shifted(point)[0, target]
            gradients.append(torch.autograd.grad(logit, point)[0][0])
            logits.append(logit.item())
        if share == 1:
            count = 50
        else:
            above = [k for k, logit in enumerate(logits) if logit > share * max(logits)]
            count = max(above[0] if above else 1, 1)
        expected = torch.stack(gradients[:count]).mean(dim=0) * change
        assert torch.allclose(values, expected, rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("rule", ["left", "endpoints"])
def test_left_ig_is_the_mean_before_the_cutoff(cnn: nn.Module, images: Tensor, targets: Tensor, rule: str) -> None:
    alphas = np.arange(12) / (12 if rule == "left" else 11)

    def shifted(points: Tensor) -> Tensor:
        # Scores that rise from 0 make the share bite at different steps.
        return (cnn(points) - cnn(torch.zeros_like(points))) * torch.tensor([1.0, -1.0, 1.0, 1.0, -1.0])

    found = attribute(shifted, images, targets, "left-ig", baseline="black", steps=12, rule=rule, share=0.5)
    counts = set()
    for image, target, values in zip(images, targets.tolist(), found.values, strict=True):
        points = torch.stack([alpha * image for alpha in alphas]).requires_grad_()
        scores = shifted(points)[:, target]
        (gradients,) = torch.autograd.grad(scores.sum(), points)
        most = max(scores.max().item(), float(shifted(image[None])[0, target]))
        above = [k for k, score in enumerate([*scores, shifted(image[None])[0, target]]) if score > 0.5 * most]
        count = max(above[0] if above else 1, 1)
        counts.add(count)
        assert torch.allclose(values, gradients[:count].mean(dim=0) * image, rtol=1e-9, atol=1e-14)
    assert len(counts) > 1


@pytest.mark.parametrize("method", ["idg", "left-ig"])
def test_corners(cnn: nn.Module, linear: nn.Module, images: Tensor, targets: Tensor, method: str) -> None:
    assert not attribute(cnn, images, targets, method, baseline=images).values.any()
    assert not attribute(lambda points: cnn(points * 0), images, targets, method).values.any()
    broken = attribute(lambda points: linear(points) * torch.nan, images, targets % 3, method)
    assert broken.map.isnan().flatten(1).any(dim=1).all()
