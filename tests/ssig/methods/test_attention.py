"""SSIG attention: Chefer's relevance from the plain maps of timm's own slow path, and which networks can be seen."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.functional import interpolate
from transformers_by_hand import maps_and_gradients, torchvision_vit, vit

from ssig import ModelError, attribute
from ssig.engine.layers import ATTENTION, captured
from ssig.engine.replica import Replica
from ssig.methods.ssig_attention import patch_grid


@pytest.fixture
def pictures() -> Tensor:
    """(3, 3, 32, 48) float64 in [0, 1], not square."""
    return torch.rand(3, 3, 32, 48, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.fixture
def classes() -> Tensor:
    return torch.tensor([0, 3, 5])


def chefer(weighed: list[Tensor], rows: slice, others: int, grid: tuple[int, int]) -> Tensor:
    """The relevance of one image's patches as the paper's code has it, laid over 32 x 48 pixels."""
    relevance = torch.eye(len(weighed[0]), dtype=torch.float64)
    for layer in weighed:
        relevance = relevance + layer @ relevance
    relevance = relevance - torch.eye(len(relevance))  # only matters where patches are read
    patches = relevance[rows].mean(dim=0)[others:].reshape(1, 1, *grid)
    return interpolate(patches, size=(32, 48), mode="bilinear", align_corners=False)[0, 0]


@pytest.mark.parametrize(
    ("options", "rows", "others", "grid"),
    [
        ({}, slice(0, 1), 1, (2, 3)),
        ({"patch_size": 8}, slice(0, 1), 1, (4, 6)),
        ({"reg_tokens": 4}, slice(0, 1), 5, (2, 3)),
        ({"global_pool": "avg", "class_token": False}, slice(0, None), 0, (2, 3)),
        ({"global_pool": "avg"}, slice(1, None), 1, (2, 3)),
        ({"name": "deit_tiny_distilled_patch16_224"}, slice(0, 2), 2, (2, 3)),
    ],
)
def test_one_sample_of_the_image_itself_is_chefers_relevance(
    pictures: Tensor, classes: Tensor, options: dict[str, Any], rows: slice, others: int, grid: tuple[int, int]
) -> None:
    network = vit(**options)
    found = attribute(network, pictures, classes, "ssig-attention", preset="chefer")
    maps, gradients = maps_and_gradients(network, pictures, classes)
    for index in range(3):
        pairs = zip(maps, gradients, strict=True)
        weighed = [(attention[index] * gradient[index]).relu().mean(dim=0) for attention, gradient in pairs]
        expected = chefer(weighed, rows, others, grid)
        assert expected.std() > 1e-6
        assert torch.allclose(found.map[index], expected, rtol=1e-8, atol=1e-14)
    assert torch.allclose(found.values.sum(dim=1), found.map)
    assert torch.allclose(found.score, network(pictures).gather(1, classes[:, None])[:, 0])
    assert found.standard_error is None
    assert found.completeness_residual is None


def test_positive_gradients_are_averaged_over_suppression(pictures: Tensor, classes: Tensor) -> None:
    network = vit()
    found = attribute(network, pictures, classes, "ssig-attention", sampler="line", samples=3, baseline="black")
    maps, _ = maps_and_gradients(network, pictures, classes)
    averaged = [torch.zeros_like(attention) for attention in maps]
    for alpha in (1 / 6, 3 / 6, 5 / 6):
        for total, gradient in zip(averaged, maps_and_gradients(network, alpha * pictures, classes)[1], strict=True):
            total += gradient.relu() / 3
    for index in range(3):
        weighed = [
            (attention[index] * gradient[index]).mean(dim=0)
            for attention, gradient in zip(maps, averaged, strict=True)
        ]
        assert torch.allclose(found.map[index], chefer(weighed, slice(0, 1), 1, (2, 3)), rtol=1e-8, atol=1e-14)


@pytest.mark.parametrize("micro_batch", [1, 4, 64])
def test_a_batch_is_a_loop(pictures: Tensor, classes: Tensor, micro_batch: int) -> None:
    network = vit(depth=2)
    options: dict[str, Any] = {"method": "ssig-attention", "samples": 6}
    keys = ["a", "b", "c"]
    whole = attribute(network, pictures, classes, keys=keys, micro_batch=micro_batch, **options)
    assert whole.standard_error is not None
    assert (whole.standard_error_mean > 0).all()
    assert whole.gradient_evaluations.tolist() == [6, 6, 6]
    for index in range(3):
        span = slice(index, index + 1)
        alone = attribute(network, pictures[span], classes[span], keys=keys[span], **options)
        assert torch.allclose(alone.map[0], whole.map[index], rtol=1e-9, atol=1e-14)
        assert alone.standard_error is not None
        assert torch.allclose(alone.standard_error[0], whole.standard_error[index], rtol=1e-8, atol=1e-14)


def test_standard_errors_are_the_spread_over_seeds(pictures: Tensor, classes: Tensor) -> None:
    network = vit(depth=1)
    options: dict[str, Any] = {"method": "ssig-attention", "samples": 8, "micro_batch": 64}
    results = [attribute(network, pictures, classes, seed=seed, **options) for seed in range(24)]
    spread = torch.stack([result.map for result in results]).std(dim=0).mean()
    errors = [result.standard_error.mean() for result in results if result.standard_error is not None]
    assert 0.7 < float(torch.stack(errors).mean() / spread) < 1.4


def test_corner_cases(classes: Tensor) -> None:
    network = vit(depth=1)
    constant = torch.full((3, 3, 32, 48), 0.5, dtype=torch.float64)

    def run(images: Tensor) -> Tensor:
        return attribute(network, images, classes, "ssig-attention", samples=4, baseline=constant.to(images)).map

    assert torch.isfinite(run(constant)).all()
    network.head.weight.data.zero_()
    assert not run(constant).any()
    network.head.weight.data.fill_(torch.nan)
    assert run(constant).isnan().all()
    network = vit(depth=1).float()
    assert run(constant.float()).dtype == torch.float32


@pytest.mark.parametrize(
    "build", [vit, torchvision_vit, lambda: vit("beit_base_patch16_224", embed_dim=48, global_pool="token")]
)
def test_open_attention_is_the_fused_one(build: Any, classes: Tensor) -> None:
    network = build()
    size = (32, 48) if hasattr(network, "patch_embed") else (32, 32)
    points = torch.rand(3, 3, *size, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    state = {name: dict(vars(module)) for name, module in network.named_modules()}
    expected = network(points)
    for want in (frozenset({"logits"}), frozenset({"logits", "gradient"})):
        response = Replica(network).evaluate(points, classes, "logit", want, ATTENTION)
        assert response.logits is not None
        assert torch.allclose(response.logits, expected, rtol=1e-9, atol=1e-12)
        assert response.activations is not None
        assert torch.allclose(response.activations.sum(dim=-1), torch.ones((), dtype=torch.float64))
    assert response.gradients is not None
    assert response.gradients.shape == response.activations.shape
    # In the last layer only the class token looks for the score.
    assert response.gradients[:, -1, :, 0].abs().max() > 1e-6
    assert not response.gradients[:, -1, :, 1:].any()
    assert state == {name: dict(vars(module)) for name, module in network.named_modules()}


def test_attention_of_torchvision_is_that_which_its_modules_tell(classes: Tensor) -> None:
    network = torchvision_vit()
    points = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    told: list[Tensor] = []

    def ask(module: nn.Module, inputs: tuple[Tensor, ...], output: Any) -> None:
        told.append(module.forward(*inputs, need_weights=True, average_attn_weights=False)[1])

    handles = [
        module.register_forward_hook(ask) for module in network.modules() if isinstance(module, nn.MultiheadAttention)
    ]
    network(points)
    for handle in handles:
        handle.remove()
    response = Replica(network).evaluate(points, classes, "logit", frozenset({"gradient"}), ATTENTION)
    assert response.activations is not None
    assert torch.allclose(response.activations, torch.stack(told, dim=1), rtol=1e-9, atol=1e-14)
    found = attribute(network, points, classes, "ssig-attention", samples=2)
    assert found.map.std() > 0


@pytest.mark.parametrize("mask", [None, "boolean", "additive"])
@pytest.mark.parametrize("scale", [None, 0.3])
def test_open_attention_follows_the_documentation(mask: str | None, scale: float | None) -> None:
    generator = torch.Generator().manual_seed(4)
    query, key, value = torch.randn(3, 2, 4, 5, 8, generator=generator, dtype=torch.float64)
    bias = torch.randn(5, 5, generator=generator, dtype=torch.float64)
    masks = {None: None, "additive": bias, "boolean": (bias > 0) | torch.eye(5, dtype=torch.bool)}

    def network(points: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(points, key, value, attn_mask=masks[mask], scale=scale)

    with captured(network, ATTENTION, query) as outputs:
        found = network(query)
    assert torch.allclose(found, network(query), rtol=1e-12)
    assert torch.allclose(outputs[0] @ value, found, rtol=1e-12)


@pytest.mark.parametrize(
    ("attend", "message"),
    [
        (lambda query: F.scaled_dot_product_attention(query, query, query, is_causal=True), "causal"),
        (lambda query: F.scaled_dot_product_attention(query, query[:, :, :2], query[:, :, :2]), "between all tokens"),
        (lambda query: F.scaled_dot_product_attention(*[query.flatten(0, 1)[:, None]] * 3), "of 2 points"),
        (lambda query: nn.MultiheadAttention(8, 2)(*[query[:, 0]] * 3), "without masks"),
    ],
)
def test_attention_of_another_kind_is_refused(attend: Any, message: str) -> None:
    query = torch.rand(2, 4, 8, 8)
    with pytest.raises(ModelError, match=message), captured(attend, ATTENTION, query):
        attend(query)


def test_a_network_without_attention_is_refused(cnn: nn.Module, images: Tensor, targets: Tensor) -> None:
    with pytest.raises(ModelError, match=r"no attention that can be seen.*timm and torchvision"):
        attribute(cnn, images, targets, "ssig-attention")


@pytest.mark.parametrize(
    ("tokens", "size", "grid"),
    [
        (197, (224, 224), (14, 14)),
        (196, (224, 224), (14, 14)),
        (198, (224, 224), (14, 14)),
        (201, (224, 224), (14, 14)),
        (257, (224, 224), (16, 16)),
        (50, (224, 224), (7, 7)),
        (5, (32, 32), (2, 2)),
        (7, (32, 48), (2, 3)),
    ],
)
def test_patches_are_found(tokens: int, size: tuple[int, int], grid: tuple[int, int]) -> None:
    assert patch_grid(tokens, *size) == grid


@pytest.mark.parametrize(("tokens", "size"), [(785, (384, 384)), (197, (224, 225))])
def test_tokens_that_are_no_patches_are_refused(tokens: int, size: tuple[int, int]) -> None:
    with pytest.raises(ModelError, match=f"{tokens} tokens are no square patches of {size[0]} x {size[1]}"):
        patch_grid(tokens, *size)
