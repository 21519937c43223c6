"""Guided IG: parity with PAIR's implementation, closed forms, and the corners in which its loop could hang."""

from __future__ import annotations

import math
import sys
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import ssig
import ssig.methods.guided_ig
from ssig import attribute
from ssig.methods.guided_ig import Order, advance

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "support"))
import pair


@pytest.fixture
def baselines(images: Tensor) -> Tensor:
    """Between black and white, and equal to the image in two columns."""
    drawn = torch.rand(images.shape, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    drawn[..., :2] = images[..., :2]
    return drawn


def reference(
    network: nn.Module, images: Tensor, baselines: Tensor, targets: Tensor, score: str = "logit", **settings: float
) -> Tensor:
    """PAIR's attribution of each image."""
    masks = [
        pair.guided_ig(pair.call_model_function(network, int(target), score), image, baseline, **settings)
        for image, baseline, target in zip(images, baselines, targets, strict=True)
    ]
    return torch.stack(masks)


@pytest.mark.parametrize("fraction", [0.1, 0.25, 0.5])
@pytest.mark.parametrize("max_dist", [0.0, 0.02, 0.1, 1.0])
def test_agrees_with_pair(
    cnn: nn.Module, images: Tensor, targets: Tensor, baselines: Tensor, fraction: float, max_dist: float
) -> None:
    path = {"fraction": fraction, "max_dist": max_dist}
    found = attribute(cnn, images, targets, "guided-ig", baseline=baselines, steps=16, **path)
    expected = reference(cnn, images, baselines, targets, x_steps=16, **path)
    assert (found.values - expected).abs().max() < 1e-14
    assert (found.values[..., :2] == 0).all()
    assert found.gradient_evaluations.tolist() == [16] * 5


def test_the_paper_preset_is_pairs_default(cnn: nn.Module, images: Tensor, targets: Tensor) -> None:
    found = attribute(cnn, images[:2], targets[:2], "guided-ig", preset="paper").values
    expected = reference(cnn, images[:2], torch.zeros_like(images[:2]), targets[:2], score="probability")
    assert (found - expected).abs().max() < 1e-14


@pytest.mark.parametrize("anchors", [2, 4])
@pytest.mark.parametrize("max_dist", [0.1, 1.0])
def test_anchored_paths_are_paths_between_anchors(
    cnn: nn.Module, images: Tensor, targets: Tensor, baselines: Tensor, anchors: int, max_dist: float
) -> None:
    found = attribute(
        cnn, images, targets, "guided-ig", baseline=baselines, steps=16, max_dist=max_dist, anchors=anchors
    )
    on_line = [baselines + k / anchors * (images - baselines) for k in range(anchors + 1)]
    expected = torch.zeros_like(images)
    for start, stop in pairwise(on_line):
        expected += reference(cnn, stop, start, targets, x_steps=16 // anchors, max_dist=max_dist)
    assert (found.values - expected).abs().max() < 1e-13


def test_one_anchor_is_none(cnn: nn.Module, images: Tensor, targets: Tensor) -> None:
    for max_dist in (0.02, 1.0):
        one, none = (
            attribute(cnn, images, targets, "guided-ig", steps=8, max_dist=max_dist, anchors=n).values for n in (1, 0)
        )
        assert torch.equal(one, none)
    with pytest.raises(ssig.UsageError, match="anchors"):
        attribute(cnn, images, targets, "guided-ig", steps=32, anchors=5)


@pytest.mark.parametrize("fraction", [0.0, 0.25, 1.0])
def test_without_leave_to_stray_it_is_ig_by_the_left_rule(
    cnn: nn.Module, images: Tensor, targets: Tensor, baselines: Tensor, fraction: float
) -> None:
    found = attribute(
        cnn, images, targets, "guided-ig", baseline=baselines, steps=9, max_dist=0.0, fraction=fraction
    ).values
    expected = attribute(cnn, images, targets, "ig", baseline=baselines, steps=9, rule="left").values
    assert (found - expected).abs().max() < 1e-12 * expected.abs().max()


@pytest.mark.parametrize("options", [{}, {"max_dist": 1.0, "fraction": 0.1}, {"anchors": 4, "max_dist": 1.0}])
def test_a_linear_network_is_attributed_exactly(
    linear: nn.Module, images: Tensor, targets: Tensor, baselines: Tensor, options: dict[str, float]
) -> None:
    targets = targets % 3
    result = attribute(linear, images, targets, "guided-ig", baseline=baselines, **options)
    expected = linear.weight.detach()[targets] * (images - baselines)
    assert torch.allclose(result.values, expected, rtol=1e-9, atol=1e-12)
    assert result.completeness_residual is not None
    assert result.completeness_residual.abs().max() < 1e-9
    assert torch.equal(result.map, result.values.sum(dim=1))
    assert result.standard_error is None


def test_completeness_falls_at_first_order(cnn: nn.Module, images: Tensor, targets: Tensor) -> None:
    def residual(steps: int) -> float:
        result = attribute(cnn, images, targets, "guided-ig", steps=steps)
        assert result.completeness_residual is not None
        return float(result.completeness_residual.abs().mean())

    assert residual(64) < residual(4) / 8


@pytest.mark.parametrize("options", [{}, {"max_dist": 1.0, "fraction": 0.1}, {"anchors": 4, "max_dist": 1.0}])
def test_batch_equals_loop(
    cnn: nn.Module, images: Tensor, targets: Tensor, baselines: Tensor, options: dict[str, float]
) -> None:
    whole = attribute(cnn, images, targets, "guided-ig", baseline=baselines, micro_batch=5, **options)
    for index in range(5):
        span = slice(index, index + 1)
        alone = attribute(cnn, images[span], targets[span], "guided-ig", baseline=baselines[span], **options)
        assert torch.allclose(alone.values[0], whole.values[index], rtol=1e-9, atol=1e-15)


def test_images_that_need_more_passes_do_not_disturb_those_that_need_fewer() -> None:
    # Eight features in two per pass; two of four units of distance are to be covered. The first image's distance
    # lies with the smallest gradients, the second's with the greatest, the third's has been covered before.
    gradient = torch.arange(1.0, 9).expand(3, 8).double()
    lengths = torch.tensor([[2.0, 2, 0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0.5, 0.5, 1, 2], [4, 0, 0, 0, 0, 0, 0, 0]])
    rest = torch.ones(3, 8, dtype=torch.float64)
    rest[2] = 0.5
    step = {"time": 0.5, "fraction": 0.25, "max_dist": 1.0}
    whole = advance(rest, gradient, lengths.double(), **step)
    assert (lengths * whole).sum(dim=1).tolist() == pytest.approx([2, 2, 2])
    assert whole[0, :2].tolist() == [0.5, 0.5]
    assert whole[1, 4:].tolist() == pytest.approx([0, 0, 2 / 3, 2 / 3])
    assert (whole[1, 4:6] == 0).all()
    assert torch.equal(whole[2], rest[2])
    for row in range(3):
        span = slice(row, row + 1)
        assert torch.equal(advance(rest[span], gradient[span], lengths[span].double(), **step)[0], whole[row])


def test_equal_gradients_move_together() -> None:
    # Where the network is blind every feature is a tie, and the path is the straight line.
    generator = torch.Generator().manual_seed(0)
    lengths = torch.rand(2, 50, generator=generator, dtype=torch.float64)
    rest = torch.ones_like(lengths)
    for step in range(1, 9):
        rest = advance(rest, torch.zeros(2, 50), lengths, time=step / 8, fraction=0.1, max_dist=0.2)
        assert torch.allclose(rest, torch.full_like(rest, 1 - step / 8), rtol=0, atol=1e-12)


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 2**32 - 1),
    steps=st.integers(1, 12),
    fraction=st.floats(0, 1),
    max_dist=st.floats(0, 1),
    levels=st.integers(1, 40),
)
def test_each_step_covers_its_share_within_the_corridor(
    seed: int, steps: int, fraction: float, max_dist: float, levels: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.rand(3, 24, generator=generator, dtype=torch.float64) * 2
    lengths[:, ::5] = 0
    rest = torch.ones_like(lengths)
    for step in range(1, steps + 1):
        time = step / steps
        # Few levels make many ties.
        gradient = torch.randint(-levels, levels + 1, (3, 24), generator=generator).double()
        before, rest = rest, advance(rest, gradient, lengths, time=time, fraction=fraction, max_dist=max_dist)
        moving = lengths > 0
        assert (rest <= before)[moving].all()
        assert (rest[moving] >= 1 - min(time + max_dist, 1) - 1e-12).all()
        assert (rest[moving] <= 1 - max(time - max_dist, 0) + 1e-12).all()
        assert torch.allclose((lengths * rest).sum(1), lengths.sum(1) * (1 - time), rtol=0, atol=1e-7)


def test_an_image_equal_to_its_baseline_gets_zeros(
    cnn: nn.Module, images: Tensor, targets: Tensor, baselines: Tensor
) -> None:
    baselines[1] = images[1]
    result = attribute(cnn, images, targets, "guided-ig", baseline=baselines, micro_batch=5)
    assert (result.values[1] == 0).all()
    assert result.completeness_residual is not None
    assert result.completeness_residual[1] == 0
    expected = reference(cnn, images, baselines, targets, x_steps=32)
    assert (result.values - expected).abs().max() < 1e-14


def test_a_blind_network_gets_zeros(images: Tensor, targets: Tensor) -> None:
    result = attribute(lambda points: 0 * points.flatten(1), images, targets, "guided-ig")
    assert (result.values == 0).all()


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("max_dist", [0.02, 1.0])
def test_gradients_that_are_no_numbers_end_and_show(
    linear: nn.Module, images: Tensor, targets: Tensor, bad: float, max_dist: float
) -> None:
    options = {"baseline": "black", "steps": 8, "max_dist": max_dist, "micro_batch": 5}
    clean = attribute(linear, images, targets % 3, "guided-ig", **options).values

    class Broken(torch.autograd.Function):
        """The identity, with a bad gradient of one feature of the second image and of all features of the third."""

        @staticmethod
        def forward(ctx: torch.autograd.function.FunctionCtx, points: Tensor) -> Tensor:
            return points.clone()

        @staticmethod
        def backward(ctx: torch.autograd.function.FunctionCtx, gradient: Tensor) -> Tensor:
            gradient = gradient.clone()
            gradient[1, 2, 3, 4] = bad
            gradient[2] = bad
            return gradient

    def broken(points: Tensor) -> Tensor:
        return linear(Broken.apply(points) if points.requires_grad else points)

    found = attribute(broken, images, targets % 3, "guided-ig", **options)
    assert torch.allclose(found.values[[0, 3, 4]], clean[[0, 3, 4]], rtol=1e-9, atol=1e-12)
    assert not torch.isfinite(found.values[1, 2, 3, 4])
    assert torch.isfinite(found.values[1]).sum() == found.values[1].numel() - 1
    assert not torch.isfinite(found.values[2]).any()
    assert not torch.isfinite(found.map[[1, 2]].flatten(1)).all(dim=1).any()


def test_float32_images_walk_in_float64(cnn: nn.Module, images: Tensor, targets: Tensor) -> None:
    exact = attribute(cnn, images, targets, "guided-ig").values
    seen = set()

    class Watched(nn.Module):
        def forward(self, points: Tensor) -> Tensor:
            seen.add(points.dtype)
            return cnn(points)

    cnn.float()
    found = attribute(Watched().eval(), images.float(), targets, "guided-ig").values
    assert seen == {torch.float32}
    assert found.dtype == torch.float32
    pairs = torch.stack([found.flatten().double(), exact.flatten()])
    assert torch.corrcoef(pairs)[0, 1] > 0.99


@settings(deadline=None, max_examples=40)
@given(
    rows=st.lists(
        st.lists(
            st.one_of(st.floats(0, width=32), st.sampled_from([0.0, 1.0, math.inf, math.nan])),
            min_size=7,
            max_size=7,
        ),
        min_size=1,
        max_size=4,
    ),
    rank=st.floats(0, 1),
    copies=st.sampled_from([1, 600]),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_order_statistics_are_those_of_a_sort(
    rows: list[list[float]], rank: float, copies: int, dtype: torch.dtype
) -> None:
    # Many keys are counted by longer digits than few.
    keys = torch.tensor(rows, dtype=dtype).repeat(1, copies)
    last = keys.shape[1] - 1
    low = round(rank * last)
    ranks = torch.tensor([[low, last - low][row % 2] for row in range(len(rows))]).unsqueeze(1)
    expected = keys.sort(dim=1).values.gather(1, ranks)
    assert torch.equal(Order(keys).statistic(ranks.double()).nan_to_num(nan=-1), expected.nan_to_num(nan=-1))
