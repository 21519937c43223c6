"""Small vision transformers, and their attention by timm's path without fused kernels."""

from __future__ import annotations

from typing import Any

import timm
import torch
import torchvision
from torch import Tensor, nn

CLASSES = 6


def vit(name: str = "vit_tiny_patch16_224", **options: Any) -> nn.Module:
    """A small ViT on 32 x 48 pixels in float64, always the same."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        settings: dict[str, Any] = {"img_size": (32, 48), "depth": 3, "num_classes": CLASSES, **options}
        network: nn.Module = timm.create_model(name, **settings)
        # As they are initialised, tokens hardly differ and attention is even.
        for parameter in network.parameters():
            parameter.data += 0.05 * torch.randn_like(parameter)
    return network.double().eval().requires_grad_(False)


def torchvision_vit() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = torchvision.models.VisionTransformer(32, 16, 2, 4, 32, 64, num_classes=CLASSES)
        nn.init.normal_(network.heads.head.weight)
    return network.double().eval().requires_grad_(False)


def maps_and_gradients(network: nn.Module, points: Tensor, classes: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """Attention of each layer and the logits' gradients by it, from timm's path without fused kernels."""
    maps: list[Tensor] = []
    handles = []
    for block in network.blocks:
        block.attn.fused_attn = False
        handles.append(block.attn.attn_drop.register_forward_hook(lambda module, inputs, output: maps.append(output)))
    scores = network(points.clone().requires_grad_()).gather(1, classes[:, None]).sum()
    gradients = list(torch.autograd.grad(scores, maps))
    for block, handle in zip(network.blocks, handles, strict=True):
        block.attn.fused_attn = True
        handle.remove()
    return [attention.detach() for attention in maps], gradients
