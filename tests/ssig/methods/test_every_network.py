"""Every method on networks as they are used, on an oblong image: a CNN with its weights, a ResNet, a ViT."""

from __future__ import annotations

import functools

import pytest
import timm
import torch
from torch import nn

import ssig
from ssig.errors import ModelError

SIZE = (64, 96)
CAM = ("grad-cam", "ssig-cam", "integrated-grad-cam", "grad-cam++", "layer-cam", "hires-cam", "score-cam")
ATTENTION = [spec.name for spec in ssig.list_methods() if spec.attention]
METHODS = [spec.name for spec in ssig.list_methods()]
NETWORKS = {
    "efficientnet-lite0": lambda: ssig.load_model("efficientnet-lite0").network,
    "resnet18": lambda: timm.create_model("resnet18"),
    "vit_tiny_patch16_224": lambda: timm.create_model("vit_tiny_patch16_224", img_size=SIZE),
}


@functools.cache
def network(name: str) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return NETWORKS[name]().eval().requires_grad_(False)


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", NETWORKS)
def test_every_method_explains_every_network(name: str, method: str) -> None:
    generator = torch.Generator().manual_seed(5)
    images, others = torch.rand(1, 3, *SIZE, generator=generator), torch.rand(12, 3, *SIZE, generator=generator)
    if (method in CAM) if "vit" in name else (method in ATTENTION):
        with pytest.raises(ModelError):  # no feature map to end in, or no attention
            ssig.attribute(network(name), images, [7], method)
        return
    result = ssig.attribute(network(name), images, [7], method, references=others)
    assert result.map.shape == (1, *SIZE)
    assert torch.isfinite(result.map).all()
    # What a class activation map holds against the class is cut off, which may be all of it.
    assert method in CAM or bool(result.map.any())
