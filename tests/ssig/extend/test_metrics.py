"""Plain functions as metrics: what they are given, what they return, and what of them is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ssig import testing
from ssig.errors import UsageError
from ssig.extend import metric
from ssig.registry import METRICS


def mean_magnitude(maps: Tensor, power: float = 1.0) -> Tensor:
    """Mean of |map|.

    Args:
        power: of the magnitude
    """
    return maps.abs().pow(power).mean(dim=(1, 2))


def inside(maps: Tensor, masks: Tensor, targets: Tensor) -> np.ndarray:
    assert maps.shape == masks.shape
    assert masks.dtype == torch.bool
    return np.asarray((maps.abs() * masks).sum(dim=(1, 2)) / maps.abs().sum(dim=(1, 2)))


@metric(columns={"low": "lower", "high": "higher"}, descriptions={"high": "the highest"}, family="complexity")
def extremes(maps: Tensor, images: Tensor, forward: Any, generators: list[torch.Generator]) -> dict[str, Any]:
    scores = forward(images)[:, 0]
    drawn = torch.stack([torch.rand((), generator=generator) for generator in generators])
    return {"low": maps.amin(dim=(1, 2)) + scores, "high": maps.amax(dim=(1, 2)) + drawn}


@pytest.mark.parametrize("function", [mean_magnitude, inside, extremes])
def test_it_has_the_properties_of_every_metric(function: Any) -> None:
    testing.check_metric(function)


def test_facts_come_from_the_function() -> None:
    spec = METRICS.entry_of(mean_magnitude)
    assert (spec.name, spec.definition, dict(spec.columns)) == (
        "mean_magnitude",
        "Mean of |map|",
        {"mean_magnitude": "none"},
    )
    assert spec.needs == {"map"}
    assert METRICS.entry_of(inside).needs == {"map", "mask"}
    spec = METRICS.entry_of(extremes)
    assert spec.needs == {"map", "model"}
    assert (spec.family, dict(spec.columns)) == ("complexity", {"low": "lower", "high": "higher"})
    assert spec.description("high") == "the highest"


def test_images_without_an_object_or_a_number_have_a_reason() -> None:
    spec = METRICS.entry_of(inside)
    result = spec.compute(testing.example_evaluation(), spec.parse({}))
    assert result.excluded[3]["inside"] == "no boxes"
    assert "no finite number" in result.excluded[1]["inside"]  # 0 / 0
    assert np.isfinite(result.columns["inside"][[0, 2, 4]]).all()


@pytest.mark.parametrize(
    ("returned", "says"),
    [
        (lambda maps: 1.0, r"\(\) for"),
        (lambda maps: {"other": maps}, "columns other"),
        (lambda maps: "x", "no numbers"),
    ],
)
def test_wrong_numbers_are_named(returned: Any, says: str) -> None:
    def wrong(maps: Tensor) -> Any:
        return returned(maps)

    spec = METRICS.entry_of(wrong)
    with pytest.raises(ValueError, match=says):
        spec.compute(testing.example_evaluation(), spec.parse({}))


def test_what_cannot_be_stored_is_refused() -> None:
    known = METRICS.entry_of(mean_magnitude)
    for changed, says in (
        ({"columns": {"insertion": "higher"}}, "one of ssig's metric 'insertion'"),
        ({"columns": {"a b": "higher"}}, "letters"),
        ({"columns": {"a": "up"}}, "better direction"),
        ({"family": "beauty"}, "family"),
        ({"dataset_columns": {"whole": "higher"}}, "whole data set"),
        ({"columns": {"first": "none", "second": "none"}}, "description of its column 'second'"),
    ):
        with pytest.raises(UsageError, match=says):
            METRICS.entry_of(replace(known, **changed))  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="takes images"):
        METRICS.entry_of(lambda images: images)


def test_a_property_that_does_not_hold_is_said() -> None:
    def batchwise(maps: Tensor) -> Tensor:
        return maps.sum(dim=(1, 2)) / maps.sum()

    with pytest.raises(AssertionError, match="in a batch"):
        testing.check_metric(batchwise)
