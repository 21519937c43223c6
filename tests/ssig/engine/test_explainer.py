"""A method called again: what attribute gives, for any images, targets, draws and networks."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ssig import attribute
from ssig.engine.device import Device
from ssig.engine.explainer import MethodExplainer, Spread
from ssig.engine.replica import Replica
from ssig.registry import METHODS
from ssig.types import References

KEYS = tuple(("a.tar", str(number)) for number in range(5))
ROWS = torch.arange(5)
Explain = Callable[..., MethodExplainer]


@pytest.fixture
def explain(cnn: nn.Module, images: Tensor, targets: Tensor) -> Iterator[Explain]:
    """`explain(method, score=..., **options)`: its explainer of five images, under seed 7."""
    # Points are evaluated one by one: which ones a device evaluates together hangs on its timing.
    device = Device(Replica(cnn, micro_batch=1))

    def make(method: str, score: str = "logit", **options: Any) -> MethodExplainer:
        spec = METHODS[method]
        mean = torch.full((3,), 0.5)
        references = References(images[:3], cnn(images[:3]))
        return MethodExplainer(
            device, spec, spec.parse(options), images, targets, KEYS, mean, score, 7, lambda count: references
        )

    yield make
    device.close()


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("ssig", {"samples": 6}),
        ("ssig", {"samples": 5, "baseline": "uniform", "score": "probability"}),
        ("ig", {"steps": 5}),
        ("expected-gradients", {"samples": 4}),
        ("random", {}),
    ],
)
def test_maps_are_those_of_attribute(
    explain: Explain, cnn: nn.Module, images: Tensor, targets: Tensor, method: str, options: dict[str, Any]
) -> None:
    given = dict(options)
    score = given.pop("score", "logit")
    references = images[:3] if METHODS[method].references(METHODS[method].parse(given)) else None
    replica, explainer = Replica(cnn, micro_batch=1), explain(method, score, **given)
    given = {**given, "seed": 7, "keys": KEYS, "score": score, "references": references}
    expected = attribute(replica, images, targets, method, **given)
    assert torch.equal(explainer.maps(images, targets, ROWS), expected.map)
    # Another network is evaluated elsewhere, in the same way; its references have their logits under it.
    assert torch.equal(explainer.maps(images, targets, ROWS, copy.deepcopy(cnn)), expected.map)


def test_rows_name_the_random_numbers(explain: Explain, images: Tensor, targets: Tensor) -> None:
    explainer = explain("ssig", samples=3)
    usual = explainer.maps(images, targets, ROWS)
    order = torch.tensor([3, 0, 3])
    torch.testing.assert_close(explainer.maps(images[order], targets[order], order), usual[order], rtol=1e-12, atol=0)
    exchanged = explainer.maps(images[order], targets[order], torch.tensor([3, 1, 2]))
    assert torch.allclose(exchanged[0], usual[3], rtol=1e-12)
    assert not torch.allclose(exchanged[1], usual[0], rtol=0.01)
    assert not torch.allclose(exchanged[2], usual[3], rtol=0.01)


def test_draws_are_independent_and_repeat(explain: Explain, images: Tensor, targets: Tensor) -> None:
    explainer = explain("ssig", samples=3)
    maps = [explainer.maps(images, targets, ROWS, draw=draw) for draw in (0, 1, 2, 1)]
    assert torch.equal(maps[1], maps[3])
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert not torch.allclose(maps[one], maps[other], rtol=0.01)


def test_samples_are_the_points_of_the_sampler(explain: Explain, images: Tensor) -> None:
    explainer = explain("ssig", samples=6)
    points = explainer.samples(2, 4)
    assert points is not None
    assert points.shape == (4, 3, 10, 12)
    # Suppression: each point lies between the baseline and the image, by one factor for all channels of a pixel.
    factors = (points - 0.5) / (images[2] - 0.5)
    assert float(factors.min()) >= 0
    assert float(factors.max()) <= 1
    assert float(factors.std(dim=1).max()) < 1e-6
    every = explainer.samples(2, 100)
    assert every is not None
    assert len(every) == 6
    assert torch.equal(every[[0, 2, 3, 5]], points)
    assert explain("random").samples(0, 4) is None


@pytest.mark.parametrize("steps", [128, 256])
def test_samples_of_a_long_path_are_of_the_whole_of_it(explain: Explain, images: Tensor, steps: int) -> None:
    points = explain("ig", steps=steps, rule="midpoint", baseline="mean").samples(2, 128)
    assert points is not None
    alphas = ((points - 0.5) / (images[2] - 0.5)).flatten(1).median(dim=1).values
    expected = (torch.arange(128) * (steps // 128) + steps // 256 + 0.5) / steps
    torch.testing.assert_close(alphas, expected.to(alphas), rtol=0, atol=1e-6)


@pytest.mark.parametrize("part", [1, 7, 1000])
@pytest.mark.parametrize("total", [1, 5, 6, 12, 13, 100, 999])
def test_what_is_spread_reaches_from_end_to_end(total: int, part: int) -> None:
    spread = Spread(6)
    for points in torch.arange(total).split(part):
        spread.add(points)
    places = spread.points()
    assert places is not None
    assert len(places) == min(6, total)
    ideal = (torch.arange(len(places)) + 0.5) * total / len(places)
    if total <= 12:
        assert torch.equal(places, ideal.long())
    assert (places.diff() > 0).all()
    assert float((places - ideal).abs().max()) <= max(1, total / 6)
    assert len(spread._held) <= 12


def test_of_nothing_nothing_is_spread() -> None:
    assert Spread(6).points() is None


def test_samples_of_a_method_that_finds_its_way_by_gradients(explain: Explain, images: Tensor) -> None:
    points = explain("guided-ig", steps=4).samples(1, 3)
    assert points is not None
    assert points.shape == (3, 3, 10, 12)
    assert not torch.equal(points[1], points[2])


NAMED = [spec.name for spec in METHODS if spec.path(spec.parse({})) is not None]


@pytest.mark.parametrize("method", NAMED)
def test_points_that_have_a_name_cost_no_gradients(explain: Explain, cnn: nn.Module, method: str) -> None:
    explainer = explain(method)
    gradients: list[int] = []

    def counted(module: nn.Module, given: tuple[Tensor, ...]) -> None:
        gradients.append(sum(len(points) for points in given if points.requires_grad))

    hook = cnn.register_forward_pre_hook(counted)
    points = explainer.samples(2, 8)
    assert sum(gradients) == 0
    taken = replace(explainer, spec=replace(explainer.spec, path=lambda options: None)).samples(2, 8)
    hook.remove()
    assert sum(gradients) > 0
    assert points is not None
    assert taken is not None
    torch.testing.assert_close(points, taken, rtol=1e-12, atol=0)


def test_no_copy_of_the_network_without_a_way_to_one(explain: Explain) -> None:
    assert explain("ssig").fresh_network() is None
