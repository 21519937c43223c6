"""A ready replica gives the maps of the plain network, and its micro-batch is measured once."""

from __future__ import annotations

import io
from collections.abc import Callable

import pytest
import torch
from PIL import Image
from torch import Tensor

from ssig import attribute, list_methods, load_model
from ssig.models import Model
from ssig.ready import ready_replica
from ssig.tuning import TuningCache

CHAOTIC = ("guided-ig", "agi")


@pytest.fixture(scope="module")
def lite0() -> Model:
    return load_model("efficientnet-lite0")


@pytest.fixture(scope="module")
def photographs(lite0: Model) -> Tensor:
    from pipeline.photographs import PHOTOGRAPHS

    pictures = [Image.open(io.BytesIO(one.file.read_bytes())).convert("RGB") for one in PHOTOGRAPHS[:2]]
    return torch.stack([lite0.preprocess(picture) for picture in pictures])


def spearman(first: Tensor, second: Tensor) -> float:
    ranks = [values.flatten(1).argsort(dim=1).argsort(dim=1).double() for values in (first, second)]
    return float(min(torch.corrcoef(torch.stack(pair))[0, 1] for pair in zip(*ranks, strict=True)))


def clock() -> Callable[[], float]:
    """A clock that moves on by itself: what is measured with it is the number of calls."""
    ticks = iter(range(10**9))
    return lambda: float(next(ticks))


@pytest.mark.slow
@pytest.mark.parametrize("method", [spec.name for spec in list_methods() if not spec.references(spec.parse({}))])
def test_maps_are_those_of_the_plain_network(lite0: Model, photographs: Tensor, method: str) -> None:
    """The rule of equality for what changes folding and layout, in float32."""
    fast = ready_replica(lite0, micro_batch=2)
    fewer = {"samples": 4, "steps": 4}
    spec = next(spec for spec in list_methods() if spec.name == method)
    options = {name: count for name, count in fewer.items() if hasattr(spec.parse({}), name)}
    plain = attribute(lite0, photographs, [281, 967], method, micro_batch=1, **options).map
    found = attribute(fast, photographs, [281, 967], method, **options).map
    distance = (found - plain).flatten(1).norm(dim=1) / plain.flatten(1).norm(dim=1).clamp_min(1e-30)
    if method in CHAOTIC:
        assert spearman(found, plain) >= 0.99
    else:
        assert float(distance.median()) <= 5e-3
        assert spearman(found, plain) >= 0.999


@pytest.mark.slow
def test_maps_in_low_precision_keep_their_order(photographs: Tensor, lite0: Model) -> None:
    low = ready_replica(load_model("efficientnet-lite0", precision="bf16"), micro_batch=2)
    plain = attribute(lite0, photographs, [281, 967], "ssig", samples=16).map
    found = attribute(low, photographs, [281, 967], "ssig", samples=16).map
    assert found.dtype == torch.float32
    assert spearman(found, plain) >= 0.95


def test_a_size_is_measured_once_for_equal_circumstances(lite0: Model) -> None:
    sizes = TuningCache()
    first = ready_replica(lite0, sizes=sizes, timer=clock())
    assert len(sizes.dump()) == 1
    stopped: Callable[[], float] = lambda: pytest.fail("measured again")  # noqa: E731
    assert ready_replica(lite0, sizes=sizes, timer=stopped).micro_batch == first.micro_batch
    assert ready_replica(lite0, micro_batch=3, sizes=sizes, timer=stopped).micro_batch == 3
