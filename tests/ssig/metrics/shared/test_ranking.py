"""Equal pixels: one random order for all maps of an image, no side of it preferred, and places where that is asked."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from itertools import permutations

import numpy as np
import pytest
import torch
from torch import Tensor

from ssig.metrics.robustness.stability import overlap
from ssig.metrics.shared.ranking import Order, ranks, tie_keys, top
from ssig.options import describe
from ssig.registry import METRICS
from ssig.types import Evaluation, Memo

KEYS = tuple(("shard.tar", f"sample{row}") for row in range(5))
RANKED = [metric.name for metric in METRICS if "ties" in {option.name for option in describe(metric.options)}]
RANDOM = Order(magnitude=False, ties="random")
RASTER = Order(magnitude=False, ties="raster")


def few_values() -> Tensor:
    return torch.from_numpy(np.random.default_rng(5).integers(-2, 3, (5, 10, 12))).float()


def compute(metric: str, evaluation: Evaluation, **given: object) -> np.ndarray:
    result = METRICS[metric].compute(evaluation, METRICS[metric].parse(given))
    return next(iter(result.columns.values()))


@pytest.mark.parametrize("magnitude", [False, True])
def test_highest_first_is_by_value_and_key_and_so_is_lowest_first(
    magnitude: bool, batch: Callable[..., Evaluation]
) -> None:
    evaluation = batch(maps=few_values(), keys=KEYS)
    order, keys = Order(magnitude, "random"), tie_keys(evaluation)
    highest, lowest = (ranks(evaluation, order, side).flatten(1) for side in (False, True))
    for row, values in enumerate(evaluation.maps.flatten(1).double().numpy()):
        a = np.abs(values) if magnitude else values
        for found, falling in ((highest[row], -a), (lowest[row], a)):
            assert np.array_equal(found.argsort().numpy(), np.lexsort((keys[row], falling)))
    assert keys.min() >= 0
    assert keys.max() < 1


def test_lowest_first_is_the_reverse_of_highest_first_where_no_two_are_equal(batch: Callable[..., Evaluation]) -> None:
    evaluation = batch()
    for ties in ("random", "raster"):
        highest, lowest = (ranks(evaluation, Order(False, ties), side) for side in (False, True))
        assert torch.equal(lowest, 119 - highest)


def test_a_constant_map_has_one_order_with_random_ties_and_rows_with_those_by_place(
    batch: Callable[..., Evaluation],
) -> None:
    evaluation = batch(maps=torch.full((5, 10, 12), 0.25))
    assert torch.equal(ranks(evaluation, RANDOM), ranks(evaluation, RANDOM, lowest=True))
    assert torch.equal(ranks(evaluation, RASTER).flatten(1), torch.arange(120).int().expand(5, -1))
    assert torch.equal(
        ranks(evaluation, RASTER, lowest=True).flatten(1), torch.arange(119, -1, -1).int().expand(5, -1)
    )


def test_two_zeros_are_one_value(batch: Callable[..., Evaluation]) -> None:
    signs = batch(maps=few_values().sign() * 0.0, keys=KEYS)
    plain = batch(maps=torch.zeros(5, 10, 12), keys=KEYS)
    assert signs.maps.signbit().any()
    for order in (RANDOM, RASTER):
        for lowest in (False, True):
            assert torch.equal(ranks(signs, order, lowest), ranks(plain, order, lowest))


def test_the_order_follows_seed_and_key_and_nothing_else(batch: Callable[..., Evaluation]) -> None:
    usual = batch(maps=few_values(), keys=KEYS)
    expected = ranks(usual, RANDOM)
    order = [3, 0, 4, 2, 1]
    permuted = batch(
        images=usual.images[order],
        maps=usual.maps[order],
        keys=tuple(KEYS[row] for row in order),
        forward=usual.forward,
    )
    assert torch.equal(ranks(permuted, RANDOM), expected[order])
    # Another map, and other pixels under the same key.
    constant = batch(maps=torch.ones(5, 10, 12), keys=KEYS)
    assert np.array_equal(tie_keys(constant), tie_keys(usual))
    assert np.array_equal(tie_keys(batch(images=1 - usual.images, keys=KEYS)), tie_keys(usual))
    for other in ({"seed": 1, "keys": KEYS}, {"keys": tuple(("other.tar", key) for _, key in KEYS)}, {}):
        assert not (tie_keys(batch(**other)) == tie_keys(usual)).any()


def test_without_keys_equal_images_have_one_order(batch: Callable[..., Evaluation]) -> None:
    images = batch().images[[0, 1, 0, 0, 1]]
    keys = tie_keys(batch(images=images))
    assert np.array_equal(keys[[0, 0, 1]], keys[[2, 3, 4]])
    assert not (keys[0] == keys[1]).any()


@pytest.mark.parametrize("metric", ["diffid", "diffid_accuracy", "diffid_element", "road"])
def test_a_constant_map_says_nothing(metric: str, batch: Callable[..., Evaluation]) -> None:
    constant = torch.full((5, 10, 12), 0.5)
    for seed in range(3):
        np.testing.assert_allclose(compute(metric, batch(maps=constant, seed=seed)), 0.0, rtol=0, atol=1e-12)
    by_place = compute(metric, batch(maps=constant), ties="raster")
    assert np.abs(by_place).max() > 0.05  # so a fixed order of places says something


def fuller_half(points: Tensor) -> Tensor:
    """Logits of what the fuller half of an image shows, the upper or the lower one."""
    fuller = points.mean(dim=1).unflatten(1, (2, 5)).sum(dim=(2, 3)).amax(dim=1)
    return torch.stack([0.1 * fuller, torch.full_like(fuller, 2.0)], dim=1)


@pytest.mark.parametrize("metric", ["insertion", "deletion", "insertion_score", "pixel_flipping", "diffid", "road"])
def test_maps_of_two_values_score_alike_upside_down(metric: str, batch: Callable[..., Evaluation]) -> None:
    """A network that does not know up from down, and images that have everything in their upper half."""
    generator = torch.Generator().manual_seed(6)
    images = torch.zeros(5, 3, 10, 12).double()
    images[:, :, :5] = 0.5 + 0.5 * torch.rand(5, 3, 5, 12, generator=generator).double()
    maps = torch.zeros(5, 10, 12)
    maps[:, :, 3:6] = 1.0
    given = {"forward": fuller_half, "targets": torch.zeros(5, dtype=torch.int64), "keys": KEYS}

    def turning(seeds: int, ties: str) -> float:
        """By how much the mean over images and seeds changes when all are turned upside down."""
        up, down = (
            np.mean(
                [
                    compute(metric, batch(images=x, maps=a, seed=seed, **given), ties=ties).mean()
                    for seed in range(seeds)
                ]
            )
            for x, a in ((images, maps), (images.flip(-2), maps.flip(-2)))
        )
        return abs(float(up - down))

    by_place = turning(1, "raster")
    assert by_place > 0.05
    assert turning(12, "random") < 0.1 * by_place


@pytest.mark.parametrize("metric", RANKED)
def test_maps_without_ties_have_one_number(metric: str, batch: Callable[..., Evaluation]) -> None:
    found = [compute(metric, batch(), ties=ties) for ties in ("random", "raster")]
    np.testing.assert_allclose(*found, rtol=0, atol=1e-12)


def test_references_keep_the_order_of_places() -> None:
    by_place = {
        (metric.name, name)
        for metric in METRICS
        for name in metric.presets
        if getattr(metric.parse({"preset": name}), "ties", None) == "raster"
    }
    games = {(game, name) for game in ("insertion", "deletion", "insertion_deletion_gap") for name in ("rise", "idg")}
    assert games <= by_place
    assert {("insertion", "insertion-score"), ("diffid_element", "lpi"), ("diffid_element", "sig")} <= by_place
    assert all(METRICS[name].parse({}).ties == "random" for name in RANKED)
    assert {"road", "diffid", "aic", "sic", "pixel_flipping", "insertion_score"} <= set(RANKED)
    assert all(METRICS[name].revision > 0 for name in RANKED)


def test_diffid_by_place_hides_the_ends_of_one_stable_order(batch: Callable[..., Evaluation]) -> None:
    evaluation = batch(maps=few_values())
    result = METRICS["diffid"].compute(evaluation, METRICS["diffid"].parse({"ties": "raster"}))
    mean, std = evaluation.mean.view(-1, 1, 1), evaluation.std.view(-1, 1, 1)
    for row, image in enumerate((evaluation.images - mean) / std):
        falling = np.argsort(-evaluation.maps[row].flatten().numpy(), kind="stable").tolist()
        kept = []
        for first in (falling[::-1], falling):
            points = image.flatten(1).expand(9, -1, -1).clone()
            for ratio in range(9):
                hidden = first[: (ratio + 1) * 12]
                points[ratio][:, hidden] = float(points[ratio][:, first[len(hidden) :]].mean())
            logits = evaluation.forward(torch.cat([image[None], points.view(9, 3, 10, 12)]) * std + mean)
            probability = logits.softmax(dim=1)[:, evaluation.targets[row]]
            kept.append((probability[1:] / probability[0]).clamp(0, 1))
        np.testing.assert_allclose(result.curves["diffid_curve"][row], kept[0] - kept[1], rtol=0, atol=1e-10)


def test_the_order_of_ties_is_made_once_for_all_maps_of_a_batch(batch: Callable[..., Evaluation]) -> None:
    evaluation = batch(maps=few_values())
    ranks(evaluation, RANDOM)
    made = evaluation.of_images(("ties",), lambda: pytest.fail("made again"))
    other = dataclasses.replace(evaluation, maps=-evaluation.maps, _shared=Memo())
    ranks(other, RANDOM)
    assert other.of_images(("ties",), lambda: pytest.fail("made again")) is made


def test_the_top_is_the_mean_over_all_orders_of_equal_values() -> None:
    values = np.array([2.0, 1.0, 1.0, 3.0, 1.0, 0.0])
    for count in range(1, 7):
        chosen = np.zeros(6)
        orders = list(permutations(range(6)))
        for order in orders:
            chosen[sorted(order, key=lambda place: -values[place])[:count]] += 1 / len(orders)
        np.testing.assert_allclose(top(values, count), chosen, rtol=0, atol=1e-12)


def test_maps_that_say_nothing_agree_by_chance_alone() -> None:
    one, other = np.zeros((20, 20)), np.zeros((20, 20))
    assert overlap(one, other, 0.05) == pytest.approx(0.05)
    one[3, 4], other[3, 4] = 1.0, 2.0
    assert overlap(one, other, 0.05) == pytest.approx((1 + 19 * 19 / 399) / 20)
