"""Numbers of a whole data set: never of what was not computed, on common images, with paired intervals."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from measured import measured, stored_numbers

from pipeline.report import build_report
from pipeline.report.accounts import accounts
from pipeline.report.columns import Column, Source
from pipeline.report.comparison import compare
from pipeline.report.measurements import Measurements, gather, lists
from pipeline.report.whole import (
    _LARGEST,
    FEWEST,
    MOST,
    Whole,
    _Numbers,
    _numbers,
    _whole,
    common_images,
    counts,
    drawn_images,
    resamples,
    whole_numbers,
)
from pipeline.run.reader import open_run
from ssig.registry import METRICS

SIC = {"name": "sic", "min_probability": 0.0, "thresholds": [0.1, 0.5], "points": 20}
MODEL = "networks:tiny"


def wholes_of(run: Any) -> tuple[Measurements, dict[str, Whole]]:
    opened = open_run(run)
    found = gather(opened, MODEL)
    return found, {one.name: one for one in whole_numbers(opened, found)}


@pytest.mark.parametrize(
    ("order", "computed", "left_out"), [("signed", "sic", "sic_abs"), ("absolute", "sic_abs", "sic")]
)
def test_what_was_not_computed_has_no_number(
    make_shard: Callable[..., Any],
    make_job: Callable[..., Any],
    work_off: Callable[..., Any],
    order: str,
    computed: str,
    left_out: str,
) -> None:
    metrics = [{**SIC, "orders": order}, "max_box_acc"]
    run = work_off(make_job(make_shard(count=6), metrics=metrics, model__target="predicted"))
    opened = open_run(run)
    assert lists(opened, MODEL, "ssig", f"{left_out}_curve").shape == (6, 0)
    found, wholes = wholes_of(run)
    boxes = METRICS["max_box_acc"].dataset_columns
    assert set(wholes) == {f"{computed}_mean", f"{computed}_median", *boxes}

    # The column that was computed is the metric's, with its account, lead and difference.
    headlines = [found.columns[index].name for index in found.headlines]
    assert headlines == [computed, "max_box_iou_v1"]
    comparison = compare(found)
    assert computed in comparison.leads
    assert left_out not in comparison.leads
    assert comparison.differences[found.others[0]][computed].count
    assert [row.column for row in accounts(found) if row.metric == "sic"] == [computed]
    build_report(str(run))
    (model,) = json.loads((run / "report" / "report.json").read_text())["models"]
    assert left_out not in {column["name"] for column in model["columns"]}
    assert {one["name"] for one in model["wholes"]} == set(wholes)

    # A threshold that is chosen on the images which it is scored on makes a number too high: that stands beside it.
    assert wholes["max_box_acc_v1"].bias
    assert not wholes["max_box_acc_v1_held_out"].bias
    for name in ("index.html", "report.md"):
        text = (run / "report" / name).read_text().replace("\\_", "_")
        assert "MaxBoxAcc: the best threshold is chosen on the same images" in text
        assert "no verdict is made of them" in text

    # The mean of curves is linear in them, so its area is the mean of the areas.
    mean = wholes[f"{computed}_mean"].estimates["ig"]
    position = [column.name for column in found.columns].index(computed)
    kept = common_images(found, Source("sic"))
    assert mean.count == len(kept) > 2
    assert mean.mean == pytest.approx(
        found.values.of_method(found.methods.index("ig"), position)[kept].mean(), abs=1e-6
    )
    assert mean.low <= mean.mean <= mean.high


@pytest.mark.parametrize("metric", [spec.name for spec in METRICS if spec.resampled])
@pytest.mark.parametrize("images", [5, 6, 300])
def test_draws_are_what_the_drawn_images_give(metric: str, images: int) -> None:
    spec = METRICS[metric]
    assert spec.dataset is not None
    assert spec.resampled is not None
    generator = np.random.default_rng(images)
    # Few values, so that many are equal, as those of `aic` are.
    columns = {
        name: generator.integers(0, 4, (images, 9)).astype(np.float32) / 3 for name in (*spec.curves, *spec.vectors)
    }
    taken = counts(images, 20, seed=1)
    assert (taken.sum(axis=1) == images).all()
    drawn = spec.resampled(columns, taken, spec.parse({}))
    assert set(drawn) == set(spec.dataset_columns)
    for draw, times in enumerate(taken):
        repeated = {name: values.repeat(times, axis=0) for name, values in columns.items()}
        expected = spec.dataset(repeated, spec.parse({}))
        assert {name: values[draw] for name, values in drawn.items()} == pytest.approx(expected, abs=1e-6)


def test_a_median_has_an_interval_that_is_paired() -> None:
    # Curves of one image are alike under both methods, and images differ much more than methods.
    spec = METRICS["sic"]
    generator = np.random.default_rng(0)
    level = generator.random((200, 1)).astype(np.float32)
    curves = {"ssig": np.repeat(level, 11, axis=1), "ig": np.repeat(level + 0.01, 11, axis=1)}
    numbers = {
        method: _numbers({"sic_curve": one, "sic_abs_curve": one[:, :0]}, spec, spec.parse({}), seed=0)
        for method, one in curves.items()
    }
    whole = _whole("sic_median", "sic_median", Source("sic"), spec, numbers, "ssig", 200)
    ours, theirs = whole.estimates["ssig"], whole.estimates["ig"]
    assert theirs.low < ours.high
    difference = whole.differences["ig"]
    assert (difference.low, difference.mean, difference.high) == pytest.approx((0.01, 0.01, 0.01), abs=1e-5)
    assert whole.paired
    other = _whole("sic_median", "sic_median", Source("sic"), spec, numbers, "ig", 200)
    assert other.differences["ssig"].mean == pytest.approx(-0.01, abs=1e-5)
    nothing = _whole("sic_abs_mean", "sic_abs_mean", Source("sic"), spec, numbers, "ssig", 200)
    assert nothing.estimates["ig"].mean is None
    assert nothing.differences["ig"].mean is None


def test_methods_are_compared_on_the_images_that_all_have() -> None:
    source = Source("sic")
    columns = tuple(Column(name, name, source, "higher", headline=name == "sic") for name in ("sic", "sic_abs"))
    values = np.full((5, 3, 2), np.nan)
    values[:4, 0, 0] = values[1:, 1, 0] = 1  # the third method has none, and nobody has the other order
    found = measured(values, columns, ("a", "b", "c"))
    assert common_images(found, source).tolist() == [1, 2, 3]
    nothing = replace(found, values=stored_numbers(np.full_like(values, np.nan)))
    assert common_images(nothing, source).tolist() == []


def test_of_very_many_images_some_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.report.whole.MOST_IMAGES", 40)
    every = np.arange(0, 300, 3)
    assert drawn_images(every[:40]).tolist() == every[:40].tolist()
    drawn = drawn_images(every)
    assert len(set(drawn)) == 40
    assert (np.diff(drawn) > 0).all()
    assert set(drawn) < set(every)
    assert drawn.max() > every[40]
    assert (drawn_images(every) == drawn).all()
    assert (drawn_images(every, seed=1) != drawn).any()


def test_lists_of_some_images_are_those_of_all(finished_run: Any) -> None:
    run = open_run(finished_run.path)
    every = lists(run, "small & quick", "ssig", "insertion_curve")
    images = np.array([1, 2, 9, 23])
    np.testing.assert_array_equal(lists(run, "small & quick", "ssig", "insertion_curve", None, images), every[images])


def test_no_interval_where_there_are_no_draws() -> None:
    assert resamples(1, 1000) == 0
    assert resamples(50, 1000) == MOST
    assert resamples(50, _LARGEST) == FEWEST
    assert resamples(50, _LARGEST + 1) == 0
    spec = METRICS["aic"]
    one = _Numbers({"aic_mean": 0.5}, {})
    whole = _whole("aic_mean", "aic_mean", Source("aic"), spec, {"a": one, "b": one}, "a", 7)
    estimate = whole.estimates["a"]
    assert (estimate.mean, estimate.low, estimate.high, estimate.count) == (0.5, None, None, 7)
    assert whole.differences["b"].mean == 0
    assert not whole.paired
