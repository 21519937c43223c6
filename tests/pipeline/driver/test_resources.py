"""Actor shapes on clusters of every make, and wishes that cannot be met."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from pipeline.driver.resources import Shape, places, shape, threads_on, wording
from pipeline.job.sections import Actors
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
        ({"device": "cuda"}, GPU_NODES, Shape(1, 8, 1, math.inf)),
        ({"device": "cpu"}, [{"CPU": 2.0, "GPU": 1.0}], Shape(0, 1, 1, math.inf)),
        ({"device": "cpu", "num_gpus": 1}, GPU_NODES, Shape(1, 8, 1, math.inf)),
        ({"num_gpus": 0.5}, GPU_NODES, Shape(0.5, 4, 1, math.inf)),
        ({"num_gpus": 0, "num_cpus": 4}, GPU_NODES, Shape(0, 4, 1, math.inf)),
        ({"min": 2, "max": 3}, GPU_NODES, Shape(1, 8, 2, 3)),
        ({"max": 100}, GPU_NODES, Shape(1, 8, 1, 100)),
        ({}, [{"CPU": 0.5}, {"CPU": 4.0}], Shape(0, 1, 1, math.inf)),
    ],
)
def test_shapes(wishes: dict[str, Any], nodes: list[dict[str, float]], expected: Shape) -> None:
    assert replace(shape(Actors.model_validate(wishes), nodes), fills=False) == expected


@pytest.mark.parametrize(
    ("wishes", "field", "allowed"),
    [
        ({"num_gpus": 1}, "actors.num_gpus", "at most 0"),
        ({"device": "cuda"}, "actors.device", "cpu or auto: the cluster has no GPU"),
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


def test_actors_that_share_gpus_have_no_parts_of_two() -> None:
    assert places([{"CPU": 64.0, "GPU": 8.0}], 0.4, 1) == 16
    assert places([{"CPU": 64.0, "GPU": 8.0}], 0.5, 1) == 16
    assert places([{"CPU": 64.0, "GPU": 8.0}], 0.75, 1) == 8
    assert shape(Actors.model_validate({"num_gpus": 0.4}), [{"CPU": 64.0, "GPU": 8.0}]).num_cpus == 4


def test_an_actor_fits_every_node_and_computes_with_its_share_of_its_own() -> None:
    few, many = {"CPU": 8.0, "GPU": 4.0}, {"CPU": 64.0, "GPU": 2.0}
    found = shape(Actors(), [few, many])
    assert (found.num_cpus, found.fills, places([few, many], 1, found.num_cpus)) == (2, True, 6)
    assert threads_on(few, 1, found.threads) == 2
    assert threads_on(many, 1, found.threads) == 32
    assert threads_on(many, 0.5, found.threads) == 16
    assert not shape(Actors.model_validate({"num_cpus": 2}), [few, many]).fills


A100 = {"CPU": 8.0, "GPU": 4.0, "accelerator_type:A100": 1.0}
H100 = {"CPU": 8.0, "GPU": 8.0, "accelerator_type:H100": 1.0}


def test_a_type_of_accelerator_leaves_out_the_other_nodes() -> None:
    found = shape(Actors.model_validate({"accelerator_type": "A100"}), [A100, H100])
    assert (found.num_gpus, found.num_cpus, found.marks) == (1, 2, {"accelerator_type:A100": 0.001})
    assert shape(Actors(), [A100, H100]).marks == {}
    with pytest.raises(UsageError, match="accelerator_type"):
        shape(Actors.model_validate({"accelerator_type": "B200"}), [A100, H100])


def test_what_an_autoscaler_says_that_it_adds_is_waited_for() -> None:
    coming = {"CPU": 64.0, "GPU": 8.0}
    found = shape(Actors(), [{"CPU": 2.0}], grows=True, coming=coming)
    assert (found.num_gpus, found.most, found.wait) == (1, math.inf, 600)
    with pytest.raises(UsageError, match="at most 0, the GPUs"):
        shape(Actors.model_validate({"num_gpus": 9}), [{"CPU": 2.0}], grows=True, coming=coming)


def test_a_given_wait_is_kept_to_where_no_autoscaler_says_anything() -> None:
    found = shape(Actors.model_validate({"device": "cuda", "wait": 30}), [{"CPU": 2.0}], grows=True)
    assert (found.num_gpus, found.most, found.wait) == (1, math.inf, 30)


def test_places_count_cores_and_gpus_of_each_node() -> None:
    assert places([{"CPU": 3.0, "GPU": 4.0}], 1, 1) == 3
    assert places([{"CPU": 8.0, "GPU": 1.0}, {"CPU": 8.0}], 0.1, 1) == 8
    assert places([], 0, 1) == 0


EMPTY_HEAD = [{"memory": 8e9}]


@pytest.mark.parametrize("wishes", [{"num_gpus": 1}, {"num_gpus": 0, "num_cpus": 4}, {"num_gpus": 0, "min": 2}])
@pytest.mark.parametrize("nodes", [EMPTY_HEAD, [], LAPTOP])
def test_numbers_are_asked_for_where_nodes_may_come(wishes: dict[str, Any], nodes: list[dict[str, float]]) -> None:
    found = shape(Actors.model_validate({"max": 8, "wait": 5, **wishes}), nodes, grows=True)
    assert (found.num_gpus, found.most, found.wait) == (wishes["num_gpus"], 8, 5)
    assert found.num_cpus == wishes.get("num_cpus", found.num_cpus) >= 1


@pytest.mark.parametrize("wishes", [{"num_gpus": 0}, {"max": 2}, {}])
def test_auto_never_waits_and_says_how_to(wishes: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=r"num_gpus=0.*min_workers: 1"):
        shape(Actors.model_validate({"num_cpus": 1, **wishes}), EMPTY_HEAD, grows=True)


def test_a_machine_that_does_not_grow_is_not_waited_for() -> None:
    with pytest.raises(UsageError, match=r"at most 2, the cores of the cluster$"):
        shape(Actors.model_validate({"num_cpus": 3, "max": 2, "num_gpus": 0}), LAPTOP)


def test_resources_are_worded_for_a_person() -> None:
    assert [wording(count, "GPU") for count in (0.5, 1, 2)] == ["0.5 GPU", "1 GPU", "2 GPUs"]
