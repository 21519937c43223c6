"""Performance information curves: PAIR's numbers from the same random pixels, exclusions, ties, workers, MS-SSIM."""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity
from torch import Tensor
from torch.nn.functional import avg_pool2d

from jobs.bench.peers import package, pair_pic
from ssig.errors import UsageError
from ssig.metrics.information import partial_images, pic, processes
from ssig.metrics.information.image_information import MS_SSIM_SIDE, ms_ssim, ssim, webp_bytes
from ssig.metrics.information.partial_images import THRESHOLDS, counts, eight_bit, random_pixels
from ssig.metrics.information.pic import End, PicOptions, curve
from ssig.metrics.information.processes import METRIC_PROCESSES
from ssig.metrics.information.triangulation import interpolate
from ssig.metrics.shared.ranking import Order
from ssig.registry import METRICS
from ssig.types import Evaluation, MetricResult

SIDE, COUNT = 32, 3
FEW = (0.05, 0.2, 0.5)

package("pair")
from saliency.metrics import pic as reference  # noqa: E402


def compute(metric: str, evaluation: Evaluation, **given: Any) -> MetricResult:
    return METRICS[metric].compute(evaluation, METRICS[metric].parse({"thresholds": FEW, **given}))


def smooth(height: int, width: int, seed: int, channels: int = 3) -> np.ndarray:
    """(H, W, C) uint8, an image with some structure."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, channels, 6, 6, generator=generator, dtype=torch.float64)
    fine = torch.rand(1, channels, height, width, generator=generator, dtype=torch.float64)
    large = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic").clamp(0, 1)
    levels: np.ndarray = ((0.8 * large + 0.2 * fine) * 255).byte()[0].movedim(0, -1).numpy()
    return levels


class Detail:
    """A network that knows images by their detail: class k + 1 for image k, 0 for none; counts its points."""

    def __init__(self, images: Tensor) -> None:
        details = (images - avg_pool2d(images, 5, stride=1, padding=2, count_include_pad=False)).flatten(1)
        self.weight = details / (details * images.flatten(1)).sum(dim=1, keepdim=True)
        self.calls: list[int] = []

    def __call__(self, points: Tensor) -> Tensor:
        self.calls.append(len(points))
        seen = 12 * (points.flatten(1) @ self.weight.T - 0.5)
        return torch.cat([torch.zeros(len(points), 1).to(seen), seen], dim=1)


@pytest.fixture
def detail() -> Detail:
    return Detail(pictures())


def pictures() -> Tensor:
    levels = np.stack([smooth(SIDE, SIDE, seed) for seed in range(COUNT)])
    return torch.from_numpy(levels).movedim(-1, 1).double() / 255


@pytest.fixture
def given(detail: Detail) -> Callable[..., Evaluation]:
    """`given(**changes)`: three images with random maps, of the classes that the network says."""

    def make(**changes: Any) -> Evaluation:
        images = pictures()
        maps = torch.randn(COUNT, SIDE, SIDE, generator=torch.Generator().manual_seed(2))
        usual = Evaluation(
            images=images,
            maps=maps,
            targets=detail(images).argmax(dim=1),
            forward=detail,
            mean=torch.zeros(3),
            std=torch.ones(3),
            masks=("no boxes",) * COUNT,
            batch=16,
        )
        detail.calls.clear()
        return usual.changed(**changes)

    return make


def test_a_blurred_image_is_pairs() -> None:
    for seed, (height, width, share) in enumerate([(40, 31, 0.02), (31, 40, 0.2), (40, 40, 0.6), (25, 25, 0.97)]):
        image = smooth(height, width, seed)
        generator = np.random.default_rng(seed)
        known = generator.random((height, width)) < share
        known[5:12, :9] = True
        given = known.copy()
        ours, theirs = interpolate(image, known), reference.create_blurred_image(image, known)
        assert np.array_equal(known, given)
        assert np.array_equal(ours, theirs)
        assert webp_bytes(ours) == reference.estimate_image_entropy(theirs)
        grey = image[..., :1]
        assert np.array_equal(interpolate(grey, known)[..., 0], reference.create_blurred_image(grey[..., 0], known))
        assert webp_bytes(grey) == reference.estimate_image_entropy(grey[..., 0])


def test_interpolation_is_exact_for_planes_and_keeps_what_is_known() -> None:
    row, column = np.mgrid[:20, :30]
    plane = np.stack([2 * row + 3 * column, 5 * row, 4 * column + 1], axis=-1).astype(np.uint8)
    known = np.random.default_rng(0).random((20, 30)) < 0.05
    assert np.array_equal(interpolate(plane, known), plane)
    image = smooth(20, 30, 0)
    assert np.array_equal(interpolate(image, known)[known], image[known])
    assert np.array_equal(interpolate(image, np.ones_like(known)), image)


@pytest.mark.parametrize("mask", ["corners", "border", "row", "block", "diagonal", "lattice", "ring"])
def test_masks_with_flat_triangles_are_covered(mask: str) -> None:
    size = 60
    known = np.zeros((size, size), dtype=bool)
    row, column = np.mgrid[:size, :size]
    known[
        {
            "corners": row < 0,
            "border": (row == 0) | (column == 0),
            "row": row == 0,
            "block": (row < 20) & (column < 30),
            "diagonal": row == column,
            "lattice": (row % 7 == 0) & (column % 7 == 0),
            "ring": abs((row - 30) ** 2 + (column - 30) ** 2 - 400) < 30,
        }[mask]
    ] = True
    plane = np.stack([row + column, 2 * row, 3 * column], axis=-1).astype(np.uint8)
    assert np.array_equal(interpolate(plane, known), plane)


@pytest.mark.parametrize("shape", [(1, 9), (9, 1), (1, 1)])
def test_an_image_of_one_row_takes_its_mean_colour(shape: tuple[int, int]) -> None:
    image = smooth(9, 9, 0)[: shape[0], : shape[1]]
    filled = interpolate(image, np.zeros(shape, dtype=bool))
    hidden = np.ones(shape, dtype=bool)
    hidden[[0, 0, -1, -1], [0, -1, 0, -1]] = False
    mean = np.round(image.mean(axis=(0, 1)).astype(np.float32)).astype(np.uint8)
    assert np.array_equal(filled, np.where(hidden[..., None], mean, image))


def pairs_result(evaluation: Evaluation, row: int, metric: str, magnitude: bool) -> Any:
    """PAIR's curve of one map from our random pixels."""
    target = evaluation.targets[row]

    def predict(images: np.ndarray) -> np.ndarray:
        logits = evaluation.forward(torch.from_numpy(images).movedim(-1, 1).double() / 255)
        if metric == "aic":
            return (logits.argmax(dim=1) == target).double().numpy()
        probability: np.ndarray = logits.softmax(dim=1)[:, target].numpy()
        return probability

    saliency = evaluation.maps[row].double().numpy()
    shown = random_pixels(evaluation, 0.01)[row]
    return pair_pic(eight_bit(evaluation)[row], abs(saliency) if magnitude else saliency, shown, predict, THRESHOLDS)


@pytest.mark.parametrize(("metric", "ties"), [("aic", "quantile"), ("sic", "raster")])
def test_curves_are_pairs(metric: str, ties: str, given: Callable[..., Evaluation]) -> None:
    evaluation = given()
    result = compute(metric, evaluation, ties=ties, thresholds=THRESHOLDS)
    kept = 0
    for row in range(COUNT):
        for column in (metric, f"{metric}_abs"):
            theirs = pairs_result(evaluation, row, metric, column.endswith("_abs"))
            if theirs is None:
                assert column in result.excluded[row]
                continue
            kept += 1
            assert result.columns[column][row] == pytest.approx(theirs.auc, abs=1e-12)
            np.testing.assert_allclose(result.curves[f"{column}_curve"][row], theirs.curve_y, rtol=0, atol=1e-12)
    assert kept == 2 * COUNT
    assert np.std(result.columns[metric]) > 0.001  # else the comparison would say little


def test_quantile_and_raster_show_the_same_pixels_where_no_two_are_equal() -> None:
    saliency = np.random.default_rng(0).permutation(np.linspace(-1, 1, 50 * 40)).reshape(50, 40)
    raster, quantile = (counts(saliency, PicOptions(ties=ties)) for ties in ("raster", "quantile"))
    assert raster == quantile
    assert raster == [int((saliency >= np.quantile(saliency, 1 - t)).sum()) for t in THRESHOLDS]


def test_ties_at_the_quantile_reveal_a_sparse_map_whole(given: Callable[..., Evaluation], detail: Detail) -> None:
    sparse = torch.zeros(COUNT, SIDE, SIDE)
    sparse[:, 4:12, 5:20] = torch.rand(8, 15, generator=torch.Generator().manual_seed(0)) + 1  # 12 % of the pixels
    first_empty = THRESHOLDS.index(0.13)
    saliency = sparse[0].double().numpy()
    assert counts(saliency, PicOptions(ties="quantile"))[first_empty:] == [SIDE * SIDE] * 5
    assert counts(saliency, PicOptions())[first_empty] == pytest.approx(0.13 * SIDE * SIDE, abs=1)
    results = [compute("sic", given(maps=sparse), ties=ties).columns["sic"] for ties in ("quantile", "raster")]
    assert (results[0] != results[1]).all()


@pytest.mark.parametrize("value", [0.0, -2.0])
def test_constant_maps_by_place_show_rows_from_the_top(value: float, given: Callable[..., Evaluation]) -> None:
    falling = torch.arange(SIDE * SIDE, 0, -1).float().view(1, SIDE, SIDE).expand(COUNT, -1, -1)
    constant_maps = torch.full((COUNT, SIDE, SIDE), value)
    constant = compute("sic", given(maps=constant_maps), orders="signed", ties="raster")
    expected = compute("sic", given(maps=falling), orders="signed")
    assert np.array_equal(constant.curves["sic_curve"], expected.curves["sic_curve"])
    at_once = compute("sic", given(maps=constant_maps), ties="quantile", orders="signed")
    # Everything appears at the first threshold: the curve is the straight line between the ends.
    assert at_once.columns["sic"].tolist() == pytest.approx([0.5] * COUNT)


def test_the_protocol_excludes_and_says_why(given: Callable[..., Evaluation]) -> None:
    usual = given()
    wrong = usual.targets.clone()
    wrong[1] = 0
    images = usual.images.clone()
    images[2] = 0.25  # nothing to encode, nothing to see
    evaluation = given(images=images, targets=wrong)
    below = "probability of the target is below 0.8"
    for metric, unpredicted in (("aic", pic.WRONG), ("sic", below)):
        result = compute(metric, evaluation)
        columns = (metric, f"{metric}_abs")
        assert result.excluded == ({}, *[dict.fromkeys(columns, reason) for reason in (unpredicted, unpredicted)])
        for column in columns:
            assert np.isnan(result.columns[column]).tolist() == [False, True, True]
            assert np.isnan(result.curves[f"{column}_curve"]).all(axis=1).tolist() == [False, True, True]
    # The flat image is predicted as class 0; then it has no less information without its pixels.
    wrong[2] = 0
    for metric in ("aic", "sic"):
        assert compute(metric, given(images=images, targets=wrong)).excluded[2][metric] == pic.NO_INFORMATION_LOSS
    # A network that answers alike loses no score.
    flat = given(forward=lambda points: torch.tensor([[9.0, 0.0]]).expand(len(points), -1), targets=0 * wrong)
    assert {reasons["sic"] for reasons in compute("sic", flat).excluded} == {pic.NO_LOSS}


def test_filters_on_one_set_of_images_or_on_each_score(given: Callable[..., Evaluation], detail: Detail) -> None:
    def unsure(points: Tensor) -> Tensor:
        return detail(points) / 8  # predicted, at less than .8

    evaluation = given(forward=unsure)
    assert compute("aic", evaluation).excluded == ({},) * COUNT
    assert all("below 0.8" in reasons["sic"] for reasons in compute("sic", evaluation).excluded)
    assert all("below 0.8" in reasons["aic"] for reasons in compute("aic", evaluation, filter="confident").excluded)
    assert compute("sic", evaluation, min_probability=0.1).excluded == ({},) * COUNT


def test_both_curves_come_from_one_pass(given: Callable[..., Evaluation], detail: Detail) -> None:
    evaluation, options = given(), PicOptions(thresholds=FEW)
    compute("sic", evaluation)
    assert sum(detail.calls) == COUNT * options.forwards == COUNT * (2 + 2 * len(FEW))
    assert max(detail.calls) <= evaluation.batch
    compute("aic", evaluation)
    assert sum(detail.calls) == COUNT * options.forwards


def test_what_is_excluded_is_not_made(given: Callable[..., Evaluation], detail: Detail) -> None:
    compute("sic", given(targets=torch.zeros(COUNT, dtype=torch.int64)))
    assert detail.calls == [COUNT]


def test_one_of_the_metrics_evaluates_what_the_other_excluded(
    given: Callable[..., Evaluation], detail: Detail
) -> None:
    targets = given().targets
    evaluation = given(forward=lambda points: detail(points) * torch.tensor([1, 1, 1, 0.1]).double(), targets=targets)
    assert [bool(reasons) for reasons in compute("sic", evaluation).excluded] == [False, False, True]
    found = compute("aic", evaluation)
    alone = compute("aic", evaluation.changed())
    assert np.array_equal(found.columns["aic"], alone.columns["aic"], equal_nan=True)
    assert found.excluded == alone.excluded == ({},) * COUNT


def test_an_image_does_not_depend_on_its_batch(given: Callable[..., Evaluation]) -> None:
    evaluation = given()
    together = compute("sic", evaluation)
    for row in range(COUNT):
        one = slice(row, row + 1)
        part = {name: getattr(evaluation, name)[one] for name in ("images", "maps", "targets", "masks")}
        alone = compute("sic", evaluation.changed(**part), orders="signed")
        np.testing.assert_allclose(alone.columns["sic"], together.columns["sic"][one], rtol=0, atol=1e-12)


def test_random_pixels_are_the_images_own(given: Callable[..., Evaluation]) -> None:
    masks = random_pixels(given(), 0.01)
    assert masks.sum(axis=(1, 2)).tolist() == [int(0.01 * SIDE * SIDE)] * COUNT
    assert np.array_equal(masks, random_pixels(given(maps=torch.zeros(COUNT, SIDE, SIDE)), 0.01))
    assert not np.array_equal(masks[0], masks[1])
    assert not random_pixels(given(), 0.0).any()


def test_curve_by_hand() -> None:
    options = PicOptions(points=4)
    # h = 0, .5, .25, 1 and q = 0, .5, .5 (running maximum), 1: through (0, 0), (.25, .5), (.5, .5), (1, 1).
    found = curve(
        np.array([10.0, 20.0, 15.0, 50.0]), np.array([0.1, 0.5, 0.2, 2.0]), End(10, 0.1), End(30, 0.9), options
    )
    np.testing.assert_allclose(found, [0, 0.5, 0.5, 0.75, 1])
    assert pic.areas(found) == pytest.approx(0.5625)


def test_areas_of_the_data_set_are_of_aggregated_curves() -> None:
    generator = np.random.default_rng(0)
    curves = np.sort(generator.random((7, 101)), axis=1).astype(np.float32)
    results = [reference.PicMetricResult(np.linspace(0, 1, 101), row.astype(float), [], [], [], 0.0) for row in curves]
    columns = {"sic_curve": curves, "sic_abs_curve": curves[:, :0]}
    for metric in ("aic", "sic"):
        spec = METRICS[metric]
        assert spec.dataset is not None
        renamed = {name.replace("sic", metric): values for name, values in columns.items()}
        found = spec.dataset(renamed, spec.parse({}))
        assert set(found) == set(spec.dataset_columns)
        for how in ("mean", "median"):
            theirs = reference.aggregate_individual_pic_results(results, how)
            assert found[f"{metric}_{how}"] == pytest.approx(theirs.auc, abs=1e-12)
            assert np.isnan(found[f"{metric}_abs_{how}"])
    assert next(iter(METRICS["sic"].dataset_columns)) == "sic_median"
    assert next(iter(METRICS["aic"].dataset_columns)) == "aic_mean"


def test_one_scale_is_scikit_images() -> None:
    first, second = (smooth(40, 51, seed).astype(float) / 255 for seed in (0, 1))
    theirs = structural_similarity(
        first, second, channel_axis=-1, data_range=1, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )
    pair = [torch.from_numpy(image).movedim(-1, 0)[None] for image in (first, second)]
    assert float(ssim(pair[0], pair[1])) == pytest.approx(theirs, abs=1e-12)


def test_ms_ssim_in_closed_form() -> None:
    side = MS_SSIM_SIDE + 3  # odd: halving pads it
    image = torch.from_numpy(smooth(side, side, 0)).movedim(-1, 0)[None].double() / 255
    assert float(ms_ssim(image, image)) == pytest.approx(1, abs=1e-12)
    # Constant images have contrast 1 at every scale, and luminance counts at the last one only.
    dark, bright = (torch.full((1, 3, 176, 192), value, dtype=torch.float64) for value in (0.2, 0.6))
    luminance = (2 * 0.2 * 0.6 + 1e-4) / (0.2**2 + 0.6**2 + 1e-4)
    assert float(ms_ssim(dark, bright)) == pytest.approx(luminance**0.1333, abs=1e-12)
    # Against its negative the structure is opposite: negative factors count as none.
    assert float(ms_ssim(image, 1 - image)) == 0
    worse = [
        float(ms_ssim(image, (image + scale * torch.randn_like(image)).clamp(0, 1))) for scale in (0.05, 0.2, 0.8)
    ]
    assert 1 > worse[0] > worse[1] > worse[2] >= 0
    with pytest.raises(ValueError, match="160"):
        ms_ssim(image[..., :160, :], image[..., :160, :])


def test_the_ms_ssim_variant(given: Callable[..., Evaluation]) -> None:
    small = compute("sic", given(), preset="ms-ssim")
    assert small.excluded == ({"sic": partial_images.TOO_SMALL, "sic_abs": partial_images.TOO_SMALL},) * COUNT
    side = MS_SSIM_SIDE + 2
    image = torch.from_numpy(smooth(side, side, 0)).movedim(-1, 0)[None].double() / 255
    network = Detail(image)
    saliency = torch.randn(1, side, side, generator=torch.Generator().manual_seed(0))
    large = {"images": image, "maps": saliency, "targets": torch.ones(1, dtype=torch.int64), "masks": ("none",)}
    evaluation = given(**large, forward=network)
    options = PicOptions(**METRICS["sic"].presets["ms-ssim"])
    assert options.thresholds == pytest.approx(np.linspace(0, 1, 25)[1:-1])
    options = dataclasses.replace(options, thresholds=(0.1, 0.3, 0.7), orders="signed")
    result = pic.pic("sic", evaluation, options)
    assert sum(network.calls) == 2 + 3
    shown = partial_images.partial_images(evaluation, options, [0], Order(magnitude=False, ties="random"))
    least = partial_images.least_images(evaluation, options, [0])
    x = np.array([0, float(least.information[0, 0]), *shown.information[0], 1])
    assert (np.diff(x) > 0).all()
    height = (shown.probability[0] - least.probability[0, 0]) / (
        float(network(image).softmax(1)[0, 1]) - least.probability[0, 0]
    )
    y = np.array([0, 0, *np.maximum.accumulate(height.clip(0, 1)), 1])
    grid = np.linspace(0, 1, 101)
    np.testing.assert_allclose(result.curves["sic_curve"][0], np.interp(grid, x, y), rtol=0, atol=1e-12)


def test_hidden_pixels_of_the_blurred_image(given: Callable[..., Evaluation]) -> None:
    image, blurred = smooth(8, 9, 0), smooth(8, 9, 1)
    shown = np.random.default_rng(0).random((8, 9)) < 0.5
    partial, size = partial_images.reveal(image, shown, blurred, True)
    assert np.array_equal(partial[shown], image[shown])
    assert np.array_equal(partial[~shown], blurred[~shown])
    assert size == webp_bytes(partial)
    assert partial_images.reveal(image, shown, blurred, False)[1] == 0


def test_inputs_that_webp_cannot_hold_are_excluded(given: Callable[..., Evaluation]) -> None:
    images = torch.rand(COUNT, 4, SIDE, SIDE, dtype=torch.float64)
    result = compute("aic", given(images=images, forward=lambda points: points.new_zeros(len(points), 4)))
    assert {reasons["aic"] for reasons in result.excluded} == {partial_images.NOT_ENCODABLE}


def test_workers_give_the_same_in_order(
    given: Callable[..., Evaluation], monkeypatch: pytest.MonkeyPatch, workers: None
) -> None:
    here = compute("sic", given())
    monkeypatch.setenv(METRIC_PROCESSES, "1")
    there = compute("sic", given())
    assert np.array_equal(here.curves["sic_curve"], there.curves["sic_curve"])
    assert list(processes.in_order(divmod, ((number, 7) for number in range(100)))) == [
        divmod(number, 7) for number in range(100)
    ]
    with pytest.raises(ZeroDivisionError):
        list(processes.in_order(divmod, [(1, 1), (1, 0), (1, 1)]))
    assert list(processes.in_order(divmod, [(9, 2)])) == [(4, 1)]
    with pytest.raises(BrokenProcessPool):
        list(processes.in_order(os._exit, [(1,)]))
    assert not processes._pools  # the next call starts new ones


@pytest.fixture
def workers() -> Iterator[None]:
    yield
    processes.shutdown()
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("text", ["-1", "many", ""])
def test_a_number_of_processes_that_is_none(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(METRIC_PROCESSES, text)
    with pytest.raises(UsageError):
        processes.in_order(divmod, [])


def test_beside_a_gpu_metrics_have_all_cores_but_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for cores, expected in ((8, 7), (1, 0)):
        monkeypatch.setattr(os, "environ", {})
        processes.beside_a_gpu(cores)
        assert processes.configured_processes() == expected
    monkeypatch.setattr(os, "environ", {METRIC_PROCESSES: "3"})
    processes.beside_a_gpu(8)
    assert processes.configured_processes() == 3


@pytest.mark.parametrize("wrong", [{"thresholds": [0.5, 0.1]}, {"thresholds": [0, 0.5]}, {"thresholds": [1.0]}])
def test_thresholds_are_ascending_fractions(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError) as error:
        METRICS["aic"].parse(wrong)
    assert error.value.field == "metrics.aic.thresholds"
