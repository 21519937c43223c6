"""Attention rollout, Chefer's relevance and LeGrad: the papers' definitions, from timm's own slow path."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate
from transformers_by_hand import maps_and_gradients, torchvision_vit, vit

from ssig import ModelError, attribute
from ssig.methods.legrad import blocks_of
from ssig.registry import METHODS

NAMES = ("attention-rollout", "chefer", "legrad")


@pytest.fixture
def pictures() -> Tensor:
    """(3, 3, 32, 48) float64 in [0, 1], not square."""
    return torch.rand(3, 3, 32, 48, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.fixture
def classes() -> Tensor:
    return torch.tensor([0, 3, 5])


def laid(patches: Tensor, grid: tuple[int, int] = (2, 3)) -> Tensor:
    """Numbers of patches as they lie over 32 x 48 pixels."""
    return interpolate(patches.reshape(1, 1, *grid), size=(32, 48), mode="bilinear", align_corners=False)[0, 0]


POOLED: dict[str, Any] = {"global_pool": "avg", "class_token": False}


@pytest.mark.parametrize(("options", "rows", "others"), [({}, [0], 1), (POOLED, list(range(6)), 0)])
@pytest.mark.parametrize("heads", ["mean", "max", "min"])
def test_rollout_is_the_papers(
    pictures: Tensor, classes: Tensor, options: dict[str, Any], rows: list[int], others: int, heads: str
) -> None:
    network = vit(**options)
    found = attribute(network, pictures, classes, "attention-rollout", heads=heads)
    maps, _ = maps_and_gradients(network, pictures, classes)
    for index in range(3):
        rollout = torch.eye(maps[0].shape[-1], dtype=torch.float64)
        for attention in maps:
            fused = {"mean": attention.mean(1), "max": attention.amax(1), "min": attention.amin(1)}[heads][index]
            step = 0.5 * fused + 0.5 * torch.eye(len(fused), dtype=torch.float64)
            rollout = step / step.sum(dim=-1, keepdim=True) @ rollout
        expected = laid(rollout[rows].mean(dim=0)[others:])
        torch.testing.assert_close(found.map[index], expected, rtol=1e-9, atol=1e-14)
    assert found.map.std() > 1e-6
    assert found.gradient_evaluations.tolist() == [1, 1, 1]


def test_chefer_is_the_preset_of_ssig_attention(pictures: Tensor, classes: Tensor) -> None:
    network = vit()
    found = attribute(network, pictures, classes, "chefer").map
    expected = attribute(network, pictures, classes, "ssig-attention", preset="chefer").map
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-15)


def block_by_block(network: nn.Module, picture: Tensor, target: int, layers: int) -> Tensor:
    """LeGrad's sum over the last layers of the mean positive gradient of each token, by timm's own functions."""
    maps: list[Tensor] = []
    handles = []
    for block in network.blocks:
        block.attn.fused_attn = False
        handles.append(block.attn.attn_drop.register_forward_hook(lambda module, inputs, output: maps.append(output)))
    tokens = network.norm_pre(network._pos_embed(network.patch_embed(picture[None].clone().requires_grad_())))
    behind = []
    for block in network.blocks:
        tokens = block(tokens)
        behind.append(tokens)
    total = torch.zeros(maps[0].shape[-1], dtype=torch.float64)
    for attention, tokens in list(zip(maps, behind, strict=True))[-layers:]:
        score = network.forward_head(network.norm(tokens))[0, target]
        (gradient,) = torch.autograd.grad(score, attention, retain_graph=True)
        total += gradient[0].clamp_min(0).mean(dim=0).mean(dim=0)
    for block, handle in zip(network.blocks, handles, strict=True):
        block.attn.fused_attn = True
        handle.remove()
    return total


@pytest.mark.parametrize(("options", "others"), [({}, 1), (POOLED, 0)])
@pytest.mark.parametrize(
    ("given", "layers"), [({}, 3), ({"preset": "code"}, 2), ({"layers": 1}, 1), ({"layers": 9}, 3)]
)
def test_legrad_is_the_papers(
    pictures: Tensor, classes: Tensor, options: dict[str, Any], others: int, given: dict[str, Any], layers: int
) -> None:
    network = vit(**options)
    found = attribute(network, pictures, classes, "legrad", **given)
    for index in range(3):
        expected = laid(block_by_block(network, pictures[index], int(classes[index]), layers)[others:])
        assert expected.any()
        torch.testing.assert_close(found.map[index], expected, rtol=1e-8, atol=1e-14)
    assert found.gradient_evaluations.tolist() == [1, 1, 1]


def test_legrad_explains_the_chosen_score(pictures: Tensor, classes: Tensor) -> None:
    network = vit(depth=1)
    logit, probability = (
        attribute(network, pictures, classes, "legrad", score=score).map for score in ("logit", "probability")
    )
    maps, _ = maps_and_gradients(network, pictures, classes)
    assert len(maps) == 1
    assert not torch.allclose(logit / logit.amax(), probability / probability.amax())


def test_legrad_takes_one_gradient_and_a_forward_for_each_further_layer(pictures: Tensor, classes: Tensor) -> None:
    network = vit()
    seen: list[tuple[int, bool]] = []
    network.register_forward_hook(lambda module, inputs, output: seen.append((len(output), inputs[0].requires_grad)))

    def spent(method: str, **options: Any) -> tuple[int, int]:
        seen.clear()
        attribute(network, pictures, classes, method, ready=False, **options)
        return tuple(sum(count for count, with_gradient in seen if with_gradient is kind) for kind in (True, False))

    spent("sobel")  # the network is checked once
    without = spent("sobel")[1]
    gradients, forwards = spent("legrad")
    groups = 2  # in each of which one point finds the blocks
    assert (gradients, forwards - without) == (3, 3 * 2 + groups)
    spec = METHODS["legrad"]
    assert spec.forwards(spec.parse({"layers": 3})) == 2
    assert spec.forwards(spec.parse({})) == 11


def test_blocks_are_found_and_left_as_they_are() -> None:
    for network, blocks in (
        (vit(), lambda network: network.blocks),
        (torchvision_vit(), lambda network: network.encoder.layers),
        (vit(depth=1), lambda network: network.blocks),
    ):
        size = (32, 48) if hasattr(network, "patch_embed") else (32, 32)
        assert blocks_of(network, torch.rand(1, 3, *size, dtype=torch.float64)) == list(blocks(network))
        assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())


def test_blocks_outside_a_list_are_refused(pictures: Tensor, classes: Tensor) -> None:
    class Apart(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = vit(depth=2)
            self.first, self.second = self.inner.blocks
            self.inner.blocks = nn.Identity()

        def forward(self, points: Tensor) -> Tensor:
            inner = self.inner
            tokens = inner._pos_embed(inner.patch_embed(points))
            logits: Tensor = inner.forward_head(inner.norm(self.second(self.first(tokens))))
            return logits

    with pytest.raises(ModelError, match="one list or sequence"):
        attribute(Apart().eval().requires_grad_(False), pictures, classes, "legrad")


@pytest.mark.parametrize("name", NAMES)
def test_a_network_without_attention_is_refused(cnn: nn.Module, images: Tensor, targets: Tensor, name: str) -> None:
    with pytest.raises(ModelError, match=r"no attention that can be seen.*timm and torchvision"):
        attribute(cnn, images, targets, name)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("micro_batch", [1, 64])
def test_a_batch_is_a_loop(pictures: Tensor, classes: Tensor, name: str, micro_batch: int) -> None:
    network = vit(depth=2)
    whole = attribute(network, pictures, classes, name, micro_batch=micro_batch)
    assert whole.standard_error is None
    for index in range(3):
        span = slice(index, index + 1)
        alone = attribute(network, pictures[span], classes[span], name)
        torch.testing.assert_close(alone.map[0], whole.map[index], rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("name", NAMES)
def test_corner_cases(classes: Tensor, name: str) -> None:
    network = vit(depth=2)
    constant = torch.full((3, 3, 32, 48), 0.5, dtype=torch.float64)

    def run(images: Tensor) -> Tensor:
        return attribute(network, images, classes, name).map

    assert torch.isfinite(run(constant)).all()
    network.head.weight.data.zero_()
    assert not run(constant).any()
    if name != "attention-rollout":  # which takes gradients only for where they are
        network.head.weight.data.fill_(torch.nan)
        assert run(constant).isnan().all()
    network = vit(depth=2).float()
    assert run(constant.float()).dtype == torch.float32


@pytest.mark.parametrize("name", NAMES)
def test_torchvision_is_explained_too(classes: Tensor, name: str) -> None:
    points = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    assert attribute(torchvision_vit(), points, classes, name).map.std() > 0
