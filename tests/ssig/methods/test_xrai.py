"""XRAI: the greedy growth against its definition and PAIR's code, segments, bases, and options that are refused."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from scipy.sparse import csr_array
from skimage.morphology import dilation, disk
from torch import Tensor, nn

import ssig
import ssig.methods
from ssig import attribute
from ssig.images.regions import felzenszwalb, pictures
from ssig.methods.xrai import FEWEST, SCALES, grown, masks, xrai
from ssig.options import as_dict
from ssig.randomness import stream
from ssig.registry import METHODS
from ssig.registry.entries import Cost
from ssig.types import Group


@pytest.fixture
def large() -> Tensor:
    """(2, 3, 48, 56) in [0, 1] with even areas of several sizes."""
    cells = torch.rand(2, 3, 6, 7, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    noise = torch.rand(2, 3, 48, 56, generator=torch.Generator().manual_seed(6), dtype=torch.float64)
    return 0.9 * cells.repeat_interleave(8, dim=2).repeat_interleave(8, dim=3) + 0.1 * noise


def rows(shapes: Sequence[np.ndarray]) -> csr_array:
    return csr_array(np.stack([shape.ravel() for shape in shapes]).astype(float))


def plainly_grown(values: np.ndarray, shapes: Sequence[np.ndarray]) -> np.ndarray:
    """The definition, one full image at a time."""
    result, covered = np.full(values.shape, np.nan), np.zeros(values.shape, dtype=bool)
    while True:
        new = [shape & ~covered for shape in shapes]
        means = [values[fresh].mean() if fresh.sum() >= FEWEST else -np.inf for fresh in new]
        best = int(np.argmax(means))
        if means[best] == -np.inf:
            break
        result[new[best]] = means[best]
        covered |= shapes[best]
    if not covered.all():
        result[~covered] = values[~covered].mean()
    return result


@pytest.mark.parametrize("seed", range(8))
def test_growth_is_its_definition(seed: int) -> None:
    generator = np.random.default_rng(seed)
    values = generator.normal(size=(30, 40))
    shapes = []
    for _ in range(25):
        top, left = generator.integers(0, 25), generator.integers(0, 35)
        shape = np.zeros((30, 40), dtype=bool)
        shape[top : top + generator.integers(3, 15), left : left + generator.integers(3, 15)] = True
        shapes.append(shape)
    found = grown(values, rows(shapes))
    assert found == pytest.approx(plainly_grown(values, shapes))
    assert found.sum() == pytest.approx(values.sum())


def test_growth_by_hand() -> None:
    values = np.zeros((10, 30))
    values[:, :10], values[:, 10:20], values[:, 20:] = 3.0, 1.0, 2.0
    left, middle, small = (np.zeros((10, 30), dtype=bool) for _ in range(3))
    left[:, :10] = True
    middle[:, :15] = True
    small[:7, 20:27] = True  # 49 pixels: too few, whatever they hold
    found = grown(values, rows([middle, left, small]))
    # First the left third; then five columns of ones, new in the middle; and what is left has its own mean.
    assert found[:, :10] == pytest.approx(3.0)
    assert found[:, 10:15] == pytest.approx(1.0)
    assert found[:, 15:] == pytest.approx((5 * 1.0 + 10 * 2.0) / 15)


@pytest.mark.parametrize("value", [0.0, 0.1, -2.0])
def test_an_even_attribution_stays_even(value: float, large: Tensor) -> None:
    labels = felzenszwalb(pictures(large)[0], SCALES)
    assert grown(np.full(labels.shape[1:], value), masks(labels)) == pytest.approx(value)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_growth_ends_and_what_is_not_finite_stays(value: float, large: Tensor) -> None:
    labels = felzenszwalb(pictures(large)[0], SCALES)
    values = np.random.default_rng(0).normal(size=labels.shape[1:])
    values[20, 30] = value
    found = grown(values, masks(labels))
    assert not np.isfinite(found[20, 30])
    assert np.isfinite(found).any()
    assert np.isnan(grown(np.full(labels.shape[1:], np.nan), masks(labels))).all()


def test_masks_are_dilated_segments(large: Tensor) -> None:
    labels = felzenszwalb(pictures(large)[0], SCALES)
    expected = [
        dilation(at_scale == label, footprint=disk(5)).ravel() for at_scale in labels for label in np.unique(at_scale)
    ]
    assert np.array_equal(masks(labels).toarray(), np.stack(expected))


def test_pair_grows_the_same_regions(large: Tensor) -> None:
    pair = pytest.importorskip("saliency.core")
    for picture in pictures(large):
        values = np.random.default_rng(0).normal(size=picture.shape)
        expected = pair.XRAI().GetMask(picture, None, base_attribution=values)
        assert np.array_equal(grown(values.max(axis=-1), masks(felzenszwalb(picture, SCALES))), expected)


def test_the_paper_preset_is_pairs(cnn: nn.Module, large: Tensor) -> None:
    pair = pytest.importorskip("saliency.core")
    targets = torch.tensor([1, 4])
    found = attribute(cnn, large, targets, "xrai", preset="paper", samples=14)
    for picture, target, ours in zip(pictures(large), targets, found.map, strict=True):

        def call(points: np.ndarray, call_model_args: Any, expected_keys: Any, target: Tensor = target) -> Any:
            batch = torch.from_numpy(np.asarray(points)).movedim(-1, 1).requires_grad_()
            score = cnn(batch).softmax(dim=1)[:, target].sum()
            return {expected_keys[0]: torch.autograd.grad(score, batch)[0].movedim(1, -1).numpy()}

        theirs = pair.XRAI().GetMask(picture, call, extra_parameters=pair.XRAIParameters(steps=7), batch_size=7)
        assert ours.numpy() == pytest.approx(theirs, rel=1e-9)


def test_a_linear_network_from_black_and_white(linear: nn.Module, images: Tensor, targets: Tensor) -> None:
    # w x from black and w (x - 1) from white, of which the mean is w (x - 1/2).
    targets = targets % 3
    base = (linear.weight.detach()[targets] * (images - 0.5)).amax(dim=1)
    result = attribute(linear, images, targets, "xrai")
    for found, values, picture in zip(result.map, base, pictures(images), strict=True):
        assert found.numpy() == pytest.approx(grown(values.numpy(), masks(felzenszwalb(picture, SCALES))))
    assert torch.allclose(result.map.sum(dim=(1, 2)), base.sum(dim=(1, 2)))
    assert torch.allclose(result.values, result.map[:, None] / 3)
    grey = torch.full_like(images, 0.5)
    assert torch.allclose(result.baseline_score, linear(grey).gather(1, targets[:, None])[:, 0])
    assert result.completeness_residual is None
    assert result.standard_error is None


@pytest.mark.parametrize("base", ["ig", "ssig", "gradient", "ssig-path", "smoothgrad"])
@pytest.mark.parametrize("baselines", ["one", "black-white", "extremes"])
def test_any_method_may_be_the_base(
    cnn: nn.Module, images: Tensor, targets: Tensor, base: str, baselines: str
) -> None:
    given = {"base": base, "baselines": baselines, "samples": 8}
    spec = METHODS["xrai"]
    result = attribute(cnn, images, targets, "xrai", keys=list("abcde"), **given)
    evaluations = spec.evaluations(spec.parse(given))
    assert evaluations == (1 if base == "gradient" else 8)
    assert result.gradient_evaluations.tolist() == [evaluations] * 5
    alone = attribute(cnn, images[2:3], targets[2:3], "xrai", keys=["c"], micro_batch=2, **given)
    assert torch.allclose(alone.map[0], result.map[2], rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("baselines", ["one", "black-white", "extremes"])
def test_a_map_that_is_the_same_from_any_baseline_is_computed_once(
    cnn: nn.Module, images: Tensor, targets: Tensor, baselines: str
) -> None:
    given = {"base": "smoothgrad", "base_readout": "sum-abs", "baselines": baselines, "samples": 7}
    base = attribute(cnn, images, targets, "smoothgrad", samples=7, keys=list("abcde"))
    assert METHODS["xrai"].parse(given).runs == 1
    assert METHODS["xrai"].parse({**given, "base": "ig", "samples": 8}).runs == (1 if baselines == "one" else 2)
    result = attribute(cnn, images, targets, "xrai", keys=list("abcde"), **given)
    assert result.gradient_evaluations.tolist() == [7] * 5
    assert result.map.shape == base.map.shape


def test_one_baseline_and_a_readout_of_the_base(cnn: nn.Module, images: Tensor, targets: Tensor) -> None:
    base = attribute(cnn, images, targets, "ig", steps=8, baseline="white")
    result = attribute(cnn, images, targets, "xrai", baselines="one", baseline="white", samples=8, base_readout="sum")
    assert torch.allclose(result.baseline_score, base.baseline_score)
    for found, values, picture in zip(result.map, base.map, pictures(images), strict=True):
        assert found.numpy() == pytest.approx(grown(values.numpy(), masks(felzenszwalb(picture, SCALES))))


@pytest.mark.parametrize(("baselines", "shared"), [("one", True), ("black-white", False), ("extremes", False)])
def test_points_from_other_baselines_are_not_shared(images: Tensor, baselines: str, shared: bool) -> None:
    streams = tuple(stream(0, "", str(index), "xrai") for index in range(5))
    known = torch.zeros(5, dtype=torch.float64)
    group = Group(images, torch.zeros_like(images), streams, scores=known, baseline_scores=known)
    steps = xrai(group, METHODS["xrai"].parse({"baselines": baselines}))
    request = next(steps)
    while "gradient" not in request.want:
        request = steps.send(ssig.types.Response(scores=torch.zeros(len(request.points))))
    assert (request.key is not None) == shared


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"base": "xrai"}, "methods.xrai.base"),
        ({"base": "igg"}, "methods.xrai.base"),
        ({"samples": 5}, "samples"),
        ({"baselines": "three"}, "methods.xrai.baselines"),
        ({"base_preset": "papers"}, "methods.ig.preset"),
        ({"base": "ssig-path", "samples": 4}, "paths"),
    ],
)
def test_wrong_options_are_named(options: dict[str, Any], field: str) -> None:
    with pytest.raises(ssig.UsageError) as caught:
        METHODS["xrai"].parse(options)
    assert caught.value.field == field


def test_the_default_costs_32_gradients_and_the_papers_200() -> None:
    spec = METHODS["xrai"]
    assert spec.evaluations(spec.parse({})) == 32
    assert spec.evaluations(spec.parse({"preset": "paper"})) == 200
    assert spec.references(spec.parse({})) == 0


def test_the_base_takes_options_of_its_own(cnn: nn.Module, images: Tensor, targets: Tensor) -> None:
    given = {"base": "guided-ig", "base_options": "fraction=0.5; steps=8", "baselines": "one", "base_readout": "sum"}
    base = attribute(cnn, images, targets, "guided-ig", fraction=0.5, steps=8, keys=list("abcde"))
    result = attribute(cnn, images, targets, "xrai", keys=list("abcde"), **given)
    assert result.gradient_evaluations.tolist() == base.gradient_evaluations.tolist()
    for found, values, picture in zip(result.map, base.map, pictures(images), strict=True):
        assert found.numpy() == pytest.approx(grown(values.numpy(), masks(felzenszwalb(picture, SCALES))))
    assert "base_options" not in as_dict(METHODS["xrai"].parse({}))


def test_the_base_is_averaged_over_noise(cnn: nn.Module, images: Tensor, targets: Tensor) -> None:
    given = {"base": "ig", "base_options": "over=noise; over_samples=3", "samples": 8}
    spec = METHODS["xrai"]
    assert spec.evaluations(spec.parse(given)) == 24
    result = attribute(cnn, images, targets, "xrai", keys=list("abcde"), **given)
    assert result.gradient_evaluations.tolist() == [24] * 5
    alone = attribute(cnn, images[2:3], targets[2:3], "xrai", keys=["c"], micro_batch=2, **given)
    assert torch.allclose(alone.map[0], result.map[2], rtol=1e-9, atol=1e-14)


def test_a_class_of_captum_is_the_base(cnn: nn.Module, images: Tensor, targets: Tensor) -> None:
    given = {"base": "captum:IntegratedGradients", "base_options": "n_steps=4", "baselines": "one"}
    spec = METHODS["xrai"]
    options = spec.parse(given)
    assert spec.needs_network(options)
    assert not spec.needs_network(spec.parse({}))
    assert spec.cost(options) == Cost(4, 0)
    assert spec.cost(spec.parse({"base": "captum:Lime", "base_options": "n_samples=7"})) == Cost(0, 14)
    assert spec.cost(spec.parse({"base": "captum:FeatureAblation"})) == Cost(0, None)  # of segments
    result = attribute(cnn, images, targets, "xrai", **given)
    assert result.gradient_evaluations.tolist() == [4] * 5


@pytest.mark.parametrize("text", ["steps", "=4", "steps=4; steps=5", "steps="])
def test_wrong_base_options_are_named(text: str) -> None:
    with pytest.raises(ssig.UsageError) as caught:
        METHODS["xrai"].parse({"base_options": text})
    assert caught.value.field == "methods.xrai.base_options"
