"""Packed linear layers: the library's products and gradients, the layer's own names and parameters."""

from __future__ import annotations

import copy

import pytest
import torch
from frozen_layers import answers, assert_rounds_alone, frozen, missing, noise
from torch import Tensor, nn
from torch.nn import functional as F

from ssig.acceleration import packed_linear
from ssig.acceleration.optimise import optimised
from ssig.acceleration.packed_linear import PackedLinear
from ssig.acceleration.packing import TOLERANCE, packed
from ssig.engine.layers import PENULTIMATE
from ssig.engine.replica import Replica


@pytest.mark.parametrize("shape", [(1, 24), (5, 24), (2, 7, 24), (2, 3, 4, 24)])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("outputs", [1, 10, 33])
def test_outputs_and_gradients_are_those_of_float64(shape: tuple[int, ...], bias: bool, outputs: int) -> None:
    layer = frozen(nn.Linear(24, outputs, bias=bias))
    points = noise(*shape)
    ours = packed(layer, points)
    assert isinstance(ours, PackedLinear)
    assert_rounds_alone(ours, layer, points)


def test_an_output_whose_terms_cancel_is_packed_all_the_same() -> None:
    """The one output is 1e-7 of its terms, so that it is rounding: the library's own, and that of the packed layer."""
    points = noise(1, 24)
    layer = nn.Linear(24, 1, bias=False)
    with torch.no_grad():
        layer.weight -= points * (layer.weight * points).sum() / points.square().sum()
    assert isinstance(packed(frozen(layer), points), PackedLinear)


def test_points_that_are_not_contiguous() -> None:
    layer = frozen(nn.Linear(24, 10))
    points = noise(24, 6).T
    ours = packed(layer, points)
    assert ours is not None
    for found, expected in zip(answers(ours, points), answers(layer, points), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_low_precision_under_autocast_and_without_gradients() -> None:
    layer = frozen(nn.Linear(24, 10))
    points = noise(4, 24)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        ours = packed(layer, points)
        if ours is None:
            pytest.skip("this processor packs no bf16")
        found, expected = answers(ours, points), answers(layer, points)
        with torch.no_grad():
            assert torch.equal(ours(points), found[0])
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == other.dtype
        assert (one.float() - other.float()).norm() <= TOLERANCE[torch.bfloat16] * other.float().norm()


def test_other_points_go_the_usual_way() -> None:
    ours = packed(frozen(nn.Linear(24, 10)), noise(1, 24))
    assert ours is not None
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert ours(noise(2, 24)).dtype == torch.bfloat16
    assert ours.double()(noise(2, 24).double()).dtype == torch.float64


@pytest.mark.parametrize("layer", [nn.Linear(24, 10), frozen(nn.Linear(24, 10)).double()], ids=["trained", "double"])
def test_layers_that_may_change_or_are_of_another_type_are_left_alone(layer: nn.Linear) -> None:
    assert packed(layer, noise(1, 24).to(layer.weight.dtype)) is None


class Network(nn.Module):
    """Looks at the type of its layer's weights, as some transformers do."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(12, 8)
        self.head = nn.Linear(8, 5)

    def forward(self, points: Tensor) -> Tensor:
        tokens = points.flatten(2).transpose(1, 2).to(self.body.weight.dtype)
        result: Tensor = self.head(F.gelu(self.body(tokens)).mean(dim=1))
        return result


def test_a_network_keeps_its_names_parameters_and_answers() -> None:
    network = frozen(Network())
    points = noise(2, 12, 4, 4)
    fast = optimised(network, points).network
    assert all(isinstance(fast.get_submodule(name), PackedLinear) for name in ("body", "head"))
    assert fast.state_dict().keys() == network.state_dict().keys()
    for one in (fast, copy.deepcopy(fast)):
        for found, expected in zip(answers(one, points), answers(network, points), strict=True):
            assert torch.allclose(found, expected, rtol=1e-5, atol=1e-7)


def test_the_features_behind_the_logits_are_still_found() -> None:
    network = frozen(Network())
    points, targets = noise(3, 12, 4, 4), torch.zeros(3, dtype=torch.int64)
    plain, fast = (
        Replica(one).evaluate(points, targets, "logit", frozenset(), PENULTIMATE).activations
        for one in (network, optimised(network, points).network)
    )
    assert plain is not None
    assert fast is not None
    torch.testing.assert_close(fast, plain, rtol=1e-5, atol=1e-6)


def test_a_processor_without_such_products_keeps_its_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed_linear, "PackedMatrix", missing)
    fast = optimised(frozen(Network()), noise(1, 12, 4, 4)).network
    assert type(fast.get_submodule("body")) is nn.Linear


def test_a_packed_layer_that_gives_something_else_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    call = packed_linear.PackedMatrix.__call__
    monkeypatch.setattr(packed_linear.PackedMatrix, "__call__", lambda self, values: call(self, values).flip(-1))
    assert packed(frozen(nn.Linear(24, 10)), noise(1, 24)) is None
