"""A method that a network cannot run is found out on one point, with the method's field and the reason."""

from __future__ import annotations

import pytest
import timm
import torch
from torch import Tensor, nn

from ssig.engine.replica import Replica
from ssig.engine.trial import try_method
from ssig.errors import ModelError, UsageError
from ssig.registry import METHODS

SIZE = (32, 32)


class Counting(nn.Module):
    """A small convolutional network that counts the points it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 5, stride=2)
        self.head = nn.Linear(8, 6)
        self.points = 0

    def forward(self, points: Tensor) -> Tensor:
        self.points += len(points)
        return self.head(self.conv(points).tanh().mean(dim=(2, 3)))


def mlp() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 16), nn.Tanh(), nn.Linear(16, 10)).eval()


def tried(network: nn.Module, name: str, **options: object) -> None:
    spec = METHODS[name]
    try_method(spec, spec.parse(options), Replica(network), SIZE)


@pytest.mark.parametrize("name", [spec.name for spec in METHODS if not spec.attention])
def test_what_a_network_can_run_passes_at_little_cost(name: str) -> None:
    network = Counting().eval()
    tried(network, name)
    assert network.points <= 6


@pytest.mark.parametrize("name", ["grad-cam", "integrated-grad-cam", "ssig-cam", "score-cam"])
def test_no_feature_map(name: str) -> None:
    with pytest.raises(UsageError, match=rf"^methods\.{name}\.layer: found 'last-conv'; .*no.* feature map"):
        tried(mlp(), name)


def test_a_layer_that_is_not_there() -> None:
    with pytest.raises(UsageError, match=r"methods\.grad-cam\.layer: found 'body\.9'; .*no layer 'body\.9'"):
        tried(Counting().eval(), "grad-cam", layer="body.9")


def test_a_layer_that_gives_no_map() -> None:
    with pytest.raises(UsageError, match=r"methods\.grad-cam\.layer: found 'head'"):
        tried(Counting().eval(), "grad-cam", layer="head")


@pytest.mark.parametrize("name", [spec.name for spec in METHODS if spec.attention])
def test_no_attention(name: str) -> None:
    with pytest.raises(UsageError, match=rf"^methods\.{name}: .*no attention"):
        tried(Counting().eval(), name)


@pytest.mark.parametrize("name", [spec.name for spec in METHODS if spec.attention])
def test_attention_that_is_there(name: str) -> None:
    network = timm.create_model("vit_tiny_patch16_224", img_size=32, num_classes=5).eval()
    tried(network, name)


def test_the_field_is_the_callers() -> None:
    spec = METHODS["ssig-attention"]
    with pytest.raises(UsageError, match=r"^methods\[2\]: "):
        try_method(spec, spec.parse({}), Replica(mlp()), SIZE, field="methods[2]")


def test_a_network_that_does_not_run() -> None:
    spec = METHODS["gradient"]
    with pytest.raises(ModelError, match=r"cannot be evaluated: RuntimeError: .*shapes cannot be multiplied"):
        try_method(spec, spec.parse({}), Replica(mlp()), (16, 16))


def test_a_score_of_the_methods_own_is_used() -> None:
    network = Counting().eval()
    spec = METHODS["ig"]
    try_method(spec, spec.parse({"score": "probability"}), Replica(network), SIZE, "no-score")
    with pytest.raises(ModelError, match="no-score"):
        try_method(spec, spec.parse({}), Replica(network), SIZE, "no-score")
    assert torch.is_grad_enabled()
