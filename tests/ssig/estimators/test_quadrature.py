"""Rules are data: nodes in [0, 1], weights that sum to 1, and the order each promises."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from ssig.estimators.integration import integrate
from ssig.estimators.quadrature import RULES, quadrature, smallest
from ssig.estimators.samplers import Line
from ssig.randomness import Stream
from ssig.testing import example_images
from ssig.types import Group, Response


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("points", [1, 2, 3, 8, 50])
def test_weights_sum_to_one_and_nodes_ascend_in_the_unit_interval(rule: str, points: int) -> None:
    if points < smallest(rule):
        with pytest.raises(ValueError, match="at least"):
            quadrature(rule, points)
        return
    nodes, weights = quadrature(rule, points)
    assert nodes.shape == weights.shape == (points,)
    assert weights.sum() == pytest.approx(1, abs=1e-14)
    assert (nodes >= 0).all()
    assert (nodes <= 1).all()
    assert (np.diff(nodes) > 0).all()


def test_a_rule_is_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    images = example_images()
    group = Group(images, torch.zeros_like(images), tuple(Stream(key) for key in range(len(images))), budget=4)
    calls = []
    nodes_of = np.polynomial.legendre.leggauss
    monkeypatch.setattr(np.polynomial.legendre, "leggauss", lambda points: calls.append(points) or nodes_of(points))
    steps = integrate(group, Line("gauss-legendre"), samples=37, integrand_name="gradient", readout_name="sum")
    request = next(steps)
    for _ in range(math.ceil(37 / 4)):
        request = steps.send(Response(scores=torch.zeros(len(request.points)), gradients=request.points))
    with pytest.raises(StopIteration):
        steps.send(Response(gradients=request.points))
    assert calls == [37]


def test_a_kept_rule_cannot_be_written_to() -> None:
    for values in quadrature("midpoint", 3):
        with pytest.raises(ValueError, match="read-only"):
            values[0] = 0


def test_gauss_legendre_is_exact_to_degree_two_n_minus_one() -> None:
    nodes, weights = quadrature("gauss-legendre", 4)
    for degree in range(8):
        assert weights @ nodes**degree == pytest.approx(1 / (degree + 1), abs=1e-14)
    assert abs(weights @ nodes**8 - 1 / 9) > 1e-7


@pytest.mark.parametrize(("rule", "order"), [("left", 1), ("right", 1), ("midpoint", 2), ("trapezoid", 2)])
def test_error_falls_at_the_order_of_the_rule(rule: str, order: int) -> None:
    def error(points: int) -> float:
        nodes, weights = quadrature(rule, points)
        return abs(weights @ np.exp(nodes) - (np.e - 1))

    # The trapezoid has points - 1 intervals.
    extra = 1 if rule == "trapezoid" else 0
    assert error(20 + extra) / error(40 + extra) == pytest.approx(2**order, rel=0.1)
