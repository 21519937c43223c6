"""Actor shapes on clusters of every make, and wishes that cannot be met."""

from __future__ import annotations

import math
from typing import Any

import pytest

from pipeline.config import Actors
from pipeline.resources import Shape, places, shape
from ssig.errors import UsageError

LAPTOP = [{"CPU": 2.0}]
GPU_NODES = [{"CPU": 32.0, "GPU": 4.0}, {"CPU": 16.0, "GPU": 2.0}]
HEAD_AND_GPUS = [{"CPU": 8.0}, *GPU_NODES]


@pytest.mark.parametrize(
    ("wishes", "nodes", "expected"),
    [
        ({}, LAPTOP, Shape(0, 1, 1, math.inf)),
        ({}, [{"CPU": 64.0, "memory": 100e9}], Shape(0, 2, 1, math.inf)),
        ({}, [{"CPU": 8.0, "memory": 1e9}], Shape(0, 8, 1, math.inf)),
        ({"max": 1}, LAPTOP, Shape(0, 2, 1, 1)),
        ({"max": 2}, LAPTOP, Shape(0, 1, 1, 2)),
        ({"num_cpus": 1}, LAPTOP, Shape(0, 1, 1, math.inf)),
        ({}, GPU_NODES, Shape(1, 8, 1, math.inf)),
        ({}, HEAD_AND_GPUS, Shape(1, 8, 1, math.inf)),
        ({"num_gpus": 0.5}, GPU_NODES, Shape(0.5, 4, 1, math.inf)),
        ({"num_gpus": 0, "num_cpus": 4}, GPU_NODES, Shape(0, 4, 1, math.inf)),
        ({"min": 2, "max": 3}, GPU_NODES, Shape(1, 8, 2, 3)),
        ({"max": 100}, GPU_NODES, Shape(1, 8, 1, 100)),
        ({}, [{"CPU": 0.5}, {"CPU": 4.0}], Shape(0, 1, 1, math.inf)),
    ],
)
def test_shapes(wishes: dict[str, Any], nodes: list[dict[str, float]], expected: Shape) -> None:
    assert shape(Actors.model_validate(wishes), nodes) == expected


@pytest.mark.parametrize(
    ("wishes", "field", "allowed"),
    [
        ({"num_gpus": 1}, "actors.num_gpus", "at most 0"),
        ({"num_cpus": 3}, "actors.num_cpus", "at most 2"),
        ({"num_cpus": 1, "min": 3}, "actors.min", "at most 2"),
        ({"num_cpus": 1, "min": 2, "max": 1}, "actors.max", "at least actors.min"),
    ],
)
def test_what_does_not_fit_is_refused(wishes: dict[str, Any], field: str, allowed: str) -> None:
    with pytest.raises(UsageError) as caught:
        shape(Actors.model_validate(wishes), LAPTOP)
    assert caught.value.field == field
    assert allowed in caught.value.allowed


def test_places_count_cores_and_gpus_of_each_node() -> None:
    assert places([{"CPU": 3.0, "GPU": 4.0}], 1, 1) == 3
    assert places([{"CPU": 8.0, "GPU": 1.0}, {"CPU": 8.0}], 0.1, 1) == 8
    assert places([], 0, 1) == 0
