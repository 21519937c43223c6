"""The numbers behind the forest plot, the distributions and the plots of cost against quality."""

from __future__ import annotations

import numpy as np
import pytest
from measured import DOWN, UP, measured, shifted

from pipeline.report.comparison import Estimate, compare
from pipeline.report.distributions import MOST_MARKS, QUANTILES, distributions
from pipeline.report.effects import Effect, effects
from pipeline.report.effort import Effort
from pipeline.report.tradeoffs import GRADIENTS, SECONDS, tradeoffs


def forest(values: np.ndarray, methods: tuple[str, ...], column=UP, controls: tuple[str, ...] = ()) -> Effect:
    measurements = measured(values, (column,), methods)
    (effect,) = effects(measurements, compare(measurements).leads, controls)
    return effect


@pytest.mark.parametrize("column", [UP, DOWN])
def test_an_effect_is_the_mean_over_the_deviation_of_the_paired_differences(column) -> None:
    values = shifted([0.0, 0.05])
    effect = forest(values, ("ssig", "ig"), column)
    assert (effect.ahead, effect.rival) == (("ig", "ssig") if column is UP else ("ssig", "ig"))
    difference = values[:, 1, 0] - values[:, 0, 0]
    assert effect.mean == pytest.approx(difference.mean() / difference.std(ddof=1), rel=1e-4)
    assert 0 < effect.low < effect.mean < effect.high
    assert effect.separated
    assert effect.count == len(values)


def test_what_is_not_separated_says_so() -> None:
    effect = forest(shifted([0.0, -0.01]), ("ssig", "ig"))
    assert not effect.separated
    assert effect.low < 0 < effect.high


def test_controls_are_marked_where_they_are_neither_ahead_nor_rival() -> None:
    methods = ("ssig", "ig", "random")
    effect = forest(shifted([0.5, 0.45, 0.0]), methods, controls=("random",))
    assert effect.controls["random"] > effect.mean
    assert forest(shifted([0.5, 0.0, 0.45]), methods, controls=("random",)).controls == {}


def test_equal_differences_have_no_effect() -> None:
    values = np.tile(np.linspace(0, 1, 30)[:, None, None], (1, 2, 1))
    values[:, 1] += 0.25
    effect = forest(values, ("ssig", "ig"))
    assert effect.ahead == "ig"
    assert effect.mean is effect.low is effect.high is None


def test_differences_of_rounding_alone_have_no_effect() -> None:
    values = np.ones((30, 2, 1), np.float32)
    values[::2, 1] += np.finfo(np.float32).eps
    assert forest(values, ("ssig", "ig")).mean is None


def test_a_tie_has_nobody_ahead() -> None:
    effect = forest(np.ones((30, 2, 1)), ("ssig", "ig"))
    assert effect.ahead is effect.mean is None
    assert effect.count == 30


def test_distributions_hold_quantiles_and_few_images_one_by_one() -> None:
    few = np.arange(10, dtype=float).reshape(-1, 1, 1)
    (distribution,) = distributions(measured(few, (UP,), ("ssig",)))
    spread = distribution.spreads["ssig"]
    assert (spread.count, spread.quantiles[2], spread.values) == (10, 4.5, tuple(range(10)))
    many = np.zeros((MOST_MARKS + 1, 1, 1))
    assert distributions(measured(many, (UP,), ("ssig",)))[0].spreads["ssig"].values == ()


@pytest.mark.parametrize("images", [1, 2, 3, 24, 101])
def test_quantiles_are_numpys(images: int) -> None:
    values = np.random.default_rng(images).normal(size=(images, 1, 1)).astype(np.float32)
    (distribution,) = distributions(measured(values, (UP,), ("ssig",)))
    expected = np.quantile(values[:, 0, 0].astype(np.float64), QUANTILES)
    assert distribution.spreads["ssig"].quantiles == pytest.approx(expected, abs=1e-12)


def test_methods_without_numbers_have_no_distribution() -> None:
    values = np.ones((5, 2, 1))
    values[:, 1] = np.nan
    (distribution,) = distributions(measured(values, (UP,), ("ssig", "ig")))
    assert list(distribution.spreads) == ["ssig"]


def effort(method: str, seconds: float | None, gradients: float | None = 1.0) -> Effort:
    nothing = Estimate(None, None, None, 0)
    spent = {} if seconds is None else {"attribute": seconds}
    return Effort(method, nothing, None, None, None, None, 0, gradients, 0, gradients, spent)


def means(column: str, **by_method: float | None) -> dict[str, dict[str, Estimate]]:
    return {method: {column: Estimate(mean, mean, mean, 9)} for method, mean in by_method.items()}


def test_the_front_holds_what_no_cheaper_method_equals() -> None:
    efforts = [effort("slow", 4.0), effort("cheap", 1.0), effort("wasteful", 2.0), effort("best", 3.0)]
    numbers = means(UP.name, slow=0.5, cheap=0.3, wasteful=0.2, best=0.5)
    (tradeoff,) = tradeoffs([UP], numbers, efforts)
    assert tradeoff.unit == SECONDS
    assert tradeoff.front == ("cheap", "best")
    numbers = means(DOWN.name, slow=0.5, cheap=0.3, wasteful=0.2, best=0.5)
    assert tradeoffs([DOWN], numbers, efforts)[0].front == ("cheap", "wasteful")


def test_gradients_stand_in_for_seconds_that_are_not_known() -> None:
    efforts = [effort("a", None, 8.0), effort("b", 1.0, 16.0), effort("control", 1.0, 0.0)]
    (tradeoff,) = tradeoffs([UP], means(UP.name, a=0.1, b=0.2, control=0.3), efforts)
    assert tradeoff.unit == GRADIENTS
    assert tradeoff.costs == {"a": 8.0, "b": 16.0}


def test_one_method_alone_has_no_tradeoff() -> None:
    assert tradeoffs([UP], means(UP.name, a=0.1, b=None), [effort("a", 1.0), effort("b", 1.0)]) == []
