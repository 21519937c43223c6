"""What holds for every registered metric, and will for those to come."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from ssig.errors import UsageError
from ssig.options import describe
from ssig.registry import FAMILIES, METRICS, MetricSpec
from ssig.types import Evaluation, MetricResult

EVERY = pytest.mark.parametrize("metric", list(METRICS), ids=METRICS.names())
RANKED = [metric for metric in METRICS if "orders" in {option.name for option in describe(metric.options)}]
NO_OBJECT = "no boxes"
FILTERED = ("aic", "sic")  # by their protocol, whatever the options


def awkward(batch: Callable[..., Evaluation]) -> Evaluation:
    """Constant, all-zero and non-negative maps; empty, full and absent objects; equal and absent scores."""
    usual = batch()
    maps, masks = usual.maps.clone(), [mask.copy() for mask in usual.masks]
    maps[0], maps[1], maps[2] = -0.5, 0.0, maps[2].abs()
    masks[2][:], masks[3][:] = False, True
    return batch(maps=maps, masks=(*masks[:4], NO_OBJECT))


def assert_reasons_where_nan(result: MetricResult, metric: MetricSpec, size: int) -> None:
    assert list(result.columns) == list(metric.columns)
    assert list(result.curves) == list(metric.curves)
    assert len(result.excluded) == size
    for column, values in result.columns.items():
        assert values.shape == (size,)
        assert np.array_equal(np.isnan(values), [column in reasons for reasons in result.excluded])
    for curve, values in result.curves.items():
        excluded = np.array([curve.removesuffix("_curve") in reasons for reasons in result.excluded])
        assert values.shape[0] == size
        assert np.array_equal(np.isnan(values).all(axis=1), excluded)
        assert np.array_equal(np.isnan(values).any(axis=1), excluded)
    for reasons in result.excluded:
        assert set(reasons) <= set(metric.columns)
        assert all(reasons.values())


def test_registered_in_the_order_of_reports() -> None:
    names, families = METRICS.names(), [metric.family for metric in METRICS]
    assert names[:3] == ["insertion", "deletion", "insertion_deletion_gap"]
    assert [*dict.fromkeys(families)] == [*FAMILIES]
    assert families == sorted(families, key=FAMILIES.index)
    assert len(names) == 37


@EVERY
def test_describes_itself(metric: MetricSpec) -> None:
    assert metric.columns
    assert set(metric.columns.values()) <= {"higher", "lower", "none"}
    assert all(name.endswith("_curve") for name in metric.curves)
    assert metric.needs <= {"map", "values", "model", "mask", "method", "samples"}
    assert metric.definition
    assert metric.range
    assert metric.reference
    assert all(option.doc for option in describe(metric.options))
    for preset in metric.presets:
        assert isinstance(metric.parse({"preset": preset}), metric.options)


@EVERY
def test_all_that_is_stored_is_described_in_a_line_of_its_own(metric: MetricSpec) -> None:
    lines = [metric.description(name) for name in metric.stored]
    assert all(0 < len(line) <= 160 and "\n" not in line for line in lines)
    assert len(set(lines)) == len(lines)
    assert set(metric.descriptions) <= set(metric.stored)
    with pytest.raises(KeyError):
        metric.description("no_such_column_abs")


def test_the_order_of_magnitudes_is_said_after_what_is_measured() -> None:
    metric = METRICS["deletion"]
    for name in ("deletion", "deletion_curve"):
        by_magnitude = name.replace("deletion", "deletion_abs")
        assert metric.description(by_magnitude) == f"{metric.description(name)}; in the order of |map|"


@EVERY
def test_what_methods_cannot_be_ranked_by_has_a_direction_and_a_reason(metric: MetricSpec) -> None:
    for column, reason in metric.incomparable.items():
        assert {**metric.columns, **metric.dataset_columns}[column] != "none"
        assert reason
        assert "\n" not in reason


@EVERY
def test_nan_exactly_where_a_reason_stands(metric: MetricSpec, batch: Callable[..., Evaluation]) -> None:
    evaluation = awkward(batch)
    result = metric.compute(evaluation, metric.parse({}))
    assert_reasons_where_nan(result, metric, len(evaluation))
    if "mask" in metric.needs:
        assert set(result.excluded[1].values()) == {"map is all zero"}
        assert set(result.excluded[2].values()) == {"object is outside the input"}
        assert set(result.excluded[3].values()) == {"object covers the whole input"}
        assert set(result.excluded[4].values()) == {NO_OBJECT}


@pytest.mark.parametrize("metric", RANKED, ids=lambda metric: metric.name)
def test_orders_not_asked_for_are_excluded(metric: MetricSpec, batch: Callable[..., Evaluation]) -> None:
    both = metric.compute(batch(), metric.parse({}))
    for order in ("signed", "absolute"):
        result = metric.compute(batch(), metric.parse({"orders": order}))
        assert_reasons_where_nan(result, metric, 5)
        for column, values in result.columns.items():
            if column.endswith("_abs") == (order == "absolute"):
                assert np.array_equal(values, both.columns[column], equal_nan=True)
            else:
                assert np.isnan(values).all()
                assert f"order not computed (orders: {order})" in {reasons[column] for reasons in result.excluded}


@EVERY
def test_a_network_that_overflows_is_excluded(metric: MetricSpec, batch: Callable[..., Evaluation]) -> None:
    evaluation = batch(forward=lambda points: torch.full((len(points), 5), torch.nan))
    result = metric.compute(evaluation, metric.parse({}))
    assert_reasons_where_nan(result, metric, 5)
    if "model" in metric.needs:
        assert all(set(reasons) == set(metric.columns) for reasons in result.excluded)


@EVERY
def test_an_image_does_not_depend_on_its_batch(
    metric: MetricSpec, batch: Callable[..., Evaluation], at: Callable[[Evaluation, int], Evaluation]
) -> None:
    evaluation = awkward(batch)
    together = metric.compute(evaluation, metric.parse({}))
    for row in range(len(evaluation)):
        alone = metric.compute(at(evaluation, row), metric.parse({}))
        assert alone.excluded == together.excluded[row : row + 1]
        for name, values in {**alone.columns, **alone.curves}.items():
            expected = {**together.columns, **together.curves}[name][row]
            np.testing.assert_allclose(values[0], expected, rtol=0, atol=1e-12)


@EVERY
def test_a_batch_of_none_is_no_error(metric: MetricSpec, batch: Callable[..., Evaluation]) -> None:
    usual = batch()
    none = {"images": usual.images[:0], "maps": usual.maps[:0], "targets": usual.targets[:0], "masks": ()}
    none["values"] = usual.values[:0]
    scores = dict.fromkeys(("score", "baseline_score", "completeness_residual"), torch.empty(0))
    result = metric.compute(batch(**none, **scores), metric.parse({}))
    assert_reasons_where_nan(result, metric, 0)


@EVERY
def test_counts_its_forward_evaluations_honestly(
    metric: MetricSpec, batch: Callable[..., Evaluation], network: Any, spared: Callable[[str], int]
) -> None:
    orders = [{"orders": "signed"}, {"orders": "absolute"}] if metric in RANKED else []
    for given in ({}, *orders):
        evaluation, options = batch(), metric.parse(given)
        metric.compute(evaluation, options)
        expected = len(evaluation) * metric.forwards(options) - spared(metric.name)
        if metric.name in FILTERED or "samples" in metric.needs:  # images that are excluded are not evaluated
            assert sum(network.calls) <= expected
        else:
            assert sum(network.calls) == expected
        assert max(network.calls, default=0) <= 64


@pytest.mark.parametrize(
    ("metric", "given", "field"),
    [
        ("insertion", {"start": "grey"}, "metrics.insertion.start"),
        ("insertion", {"fill": "mean"}, "metrics.insertion.fill"),
        ("deletion", {"steps": 0}, "metrics.deletion.steps"),
        ("deletion", {"blur_kernel": 30}, "metrics.deletion.blur_kernel"),
        ("insertion_deletion_gap", {"preset": "insertion-score"}, "metrics.insertion_deletion_gap.preset"),
        ("diffid", {"orders": "random"}, "metrics.diffid.orders"),
        ("pointing", {"tolerance": -1}, "metrics.pointing.tolerance"),
        ("energy", {"tolerance": 1}, "metrics.energy.tolerance"),
    ],
)
def test_wrong_options_name_their_field(metric: str, given: dict[str, object], field: str) -> None:
    with pytest.raises(UsageError) as error:
        METRICS[metric].parse(given)
    assert error.value.field == field
