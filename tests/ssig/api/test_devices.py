"""Where a network computes: where it is, or else where its images are, or where the caller says."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import ssig
from ssig.api.inputs import place_of
from ssig.engine.replica import Replica

META = torch.device("meta")


class Buffered(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("weights", torch.ones(3, 5, dtype=torch.float64))

    def forward(self, points: Tensor) -> Tensor:
        return points.mean(dim=(2, 3)) @ self.weights


def test_a_network_computes_where_it_is_or_else_where_the_images_are(cnn: nn.Module, images: Tensor) -> None:
    there = images.to(META)
    assert place_of(cnn, there).type == place_of(Buffered(), there).type == "cpu"
    assert place_of(cnn.to(META), images) == place_of(Buffered().to(META), images) == META
    for nowhere in (nn.Flatten(), lambda points: points.flatten(1)):
        assert place_of(nowhere, there) == META
        assert place_of(nowhere, images).type == "cpu"
        assert place_of(nowhere, there, "cpu").type == "cpu"


def test_the_device_that_the_network_has_may_be_named(cnn: nn.Module, images: Tensor, targets: Tensor) -> None:
    expected = ssig.attribute(cnn, images, targets, "gradient").map
    named = ssig.attribute(cnn, images, targets, "gradient", device="cpu").map
    torch.testing.assert_close(named, expected, rtol=1e-9, atol=1e-12)
    shown = ssig.strip(cnn, images, ["gradient"], targets, device=torch.device("cpu"))
    torch.testing.assert_close(shown.attributions["gradient"].map, expected, rtol=1e-9, atol=1e-12)
    measured = ssig.measure(cnn, images, expected, "gini", targets, device="cpu")
    assert measured["gini"].shape == (5,)


@pytest.mark.parametrize("device", ["gpu", "cuda:64", "meta"])
@pytest.mark.parametrize("call", ["attribute", "measure", "strip", "SuppressionIG", "IntegratedGradients"])
def test_another_device_is_refused_in_one_line(
    cnn: nn.Module, images: Tensor, targets: Tensor, call: str, device: str
) -> None:
    calls: dict[str, Any] = {
        "attribute": lambda: ssig.attribute(cnn, images, targets, device=device),
        "measure": lambda: ssig.measure(cnn, images, images.mean(dim=1), "gini", targets, device=device),
        "strip": lambda: ssig.strip(cnn, images, ["ig"], targets, device=device),
        "SuppressionIG": lambda: ssig.SuppressionIG(cnn).attribute(images, target=targets, device=device),
        "IntegratedGradients": lambda: ssig.IntegratedGradients(cnn, device=device).attribute(images, target=targets),
    }
    with pytest.raises(ssig.UsageError) as refused:
        calls[call]()
    assert refused.value.field == "device"
    expected = (
        r"cpu, where the network is; move it first: model.to('meta')" if device == "meta" else "such as cpu, cuda"
    )
    assert expected in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_replica_keeps_its_own_device(cnn: nn.Module, images: Tensor, targets: Tensor) -> None:
    with pytest.raises(ssig.UsageError, match="a replica has its own"):
        ssig.attribute(Replica(cnn), images, targets, device="cpu")
    with pytest.raises(ssig.UsageError, match="a replica has its own"):
        ssig.measure(Replica(cnn), images, images.mean(dim=1), "gini", targets, device="cpu")


@pytest.mark.parametrize("targets", [[0, 1, 2, 3, 5], ["predicted", 1, 2, 3, 5]])
def test_a_target_that_is_no_class_is_named(cnn: nn.Module, images: Tensor, targets: list[int]) -> None:
    with pytest.raises(ssig.ModelError, match="target class 5 of a network with 5 classes"):
        ssig.attribute(cnn, images, targets)
    with pytest.raises(ssig.ModelError, match="target class 5 of a network with 5 classes"):
        ssig.measure(cnn, images, images.mean(dim=1), "insertion:steps=4", targets)
    if targets[0] == 0:
        with pytest.raises(ssig.ModelError, match="target class 5 of a network with 5 classes"):
            ssig.IntegratedGradients(cnn).attribute(images, target=targets)
