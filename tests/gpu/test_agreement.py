"""Every method, metric and draw on CUDA against the CPU."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from on_pretend_device import Attending, chosen

from jobs.bench.gpu import agreement, surprises
from jobs.bench.gpu.card import EXACT_DRAWS, FLOAT64, METRIC_RULE
from jobs.bench.gpu.session import Session
from ssig.registry import METHODS, METRICS
from ssig.testing import example_images, explained, small_network
from ssig.types import Attribution

pytestmark = pytest.mark.gpu

KEYS = tuple(("a.tar", str(number)) for number in range(3))


@pytest.mark.parametrize("name", METHODS.names())
def test_a_method_has_the_maps_of_the_cpu(session: Session, name: str) -> None:
    found = agreement.method(session, name, torch.float64)
    assert found.pop("evaluations")
    assert {what: value for what, value in found.items() if value is not None and not value <= FLOAT64} == {}


@pytest.mark.parametrize("spec", list(METHODS), ids=METHODS.names())
def test_every_choice_of_a_method_has_the_maps_of_the_cpu(cuda: torch.device, spec: Any) -> None:
    images = example_images()[:3]
    network = Attending() if spec.attention else small_network()
    moved = copy.deepcopy(network).to(cuda)

    def numbers(result: Attribution) -> dict[str, torch.Tensor]:
        return {name: value.cpu() for name, value in vars(result).items() if isinstance(value, torch.Tensor)}

    for _, options in chosen([spec], whole=True):
        expected = numbers(explained(spec.name, network, images, keys=KEYS, **options))
        result = explained(spec.name, moved, images.to(cuda), keys=KEYS, **options)
        assert result.map.device == cuda
        for name, value in numbers(result).items():
            torch.testing.assert_close(value, expected[name], rtol=1e-7, atol=1e-9, msg=f"{name} of {options}")


@pytest.mark.parametrize("name", METRICS.names())
def test_a_metric_has_the_numbers_of_the_cpu(session: Session, name: str) -> None:
    found = agreement.metric(session, name)
    assert found["same images"]
    assert found["difference"] <= METRIC_RULE


@pytest.mark.parametrize("law", EXACT_DRAWS)
def test_draws_are_those_of_the_cpu_bit_for_bit(session: Session, law: str) -> None:
    assert agreement.drawn(session, law) == "equal"


@pytest.mark.parametrize("law", sorted(set(agreement.SAMPLERS) - set(EXACT_DRAWS)))
def test_points_that_are_transformed_are_those_of_the_cpu(session: Session, law: str) -> None:
    difference = agreement.drawn(session, law)
    assert difference == "equal" or np.abs(difference) < 1e-5


def test_a_class_out_of_range_is_a_clear_error_and_the_device_works_on(session: Session) -> None:
    found = dict(surprises.cases(session))["a class out of range"]()
    assert found["answer"].startswith("a clear error"), found
    assert found["afterwards"] == "a result"


def test_functions_and_modules_are_attributed_where_the_images_are(session: Session) -> None:
    calls = dict(surprises.cases(session))
    del calls["a class out of range"]
    assert {name: call() for name, call in calls.items()} == dict.fromkeys(calls, f"a result on {session.device}")
