"""Layers of a network by name: how their outputs are captured, requested by methods and resized to the image.

    NAME         the output of that submodule; of its last call if there are several
    last-conv    the last feature map: the output of the last submodule, in order of execution, that returns
                 (n, c, h, w) in the image's proportions, with more than one pixel, and not from pooling
    attention    every softmax attention in order of execution, side by side: (n, layers, heads, tokens, tokens)
    penultimate  the input of the last linear layer, in order of execution: (n, d), the features behind the logits

Methods that weigh a feature map also take one with its channels last, (n, h, w, c), as in Swin. `feature_maps`
recognises the order by the image's proportions.

Attention is mostly computed by a fused kernel that stores no map to differentiate. While attention is captured,
`scaled_dot_product_attention` and `nn.MultiheadAttention` are computed in separate steps; the network is not changed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from ssig.errors import ModelError
from ssig.estimators.integration import activations_of, gradients_of
from ssig.estimators.moments import Jackknife, NoError, StandardError, WeightedSum
from ssig.estimators.samplers import Sampler, requests
from ssig.types import Group, Request, Response

LAST_CONV, ATTENTION, PENULTIMATE = "last-conv", "attention", "penultimate"

POOLING = (nn.AvgPool2d, nn.MaxPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d, nn.LPPool2d, nn.FractionalMaxPool2d)

Network = Callable[[Tensor], Tensor]


@contextmanager
def captured(network: Network, layer: str | None, points: Tensor) -> Iterator[list[Tensor]]:
    """Collects a layer's output while the network takes `points` (n, C, H, W) in the body; several for `ATTENTION`.

    Args:
        network: a module with submodules, or for `ATTENTION` any callable.
        layer: name of a submodule, `ATTENTION` or `PENULTIMATE`, but not `LAST_CONV`; None for nothing.
        points: for their number.

    Raises:
        ModelError: there is no such layer, or its output is no tensor.
    """
    if layer is None:
        yield []
    elif layer == ATTENTION:
        with _OpenAttention(len(points)) as attention:
            yield attention.maps
    elif layer == PENULTIMATE:
        features: list[Tensor] = []

        def keep_input(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            features[:] = inputs[:1] if inputs[0].ndim == 2 else []

        linear = [module for module in _submodules(network).values() if isinstance(module, nn.Linear)]
        handles = [module.register_forward_pre_hook(keep_input) for module in linear]
        try:
            yield features
        finally:
            for hook in handles:
                hook.remove()
    else:
        outputs: list[Tensor] = []

        def keep(module: nn.Module, inputs: object, output: object) -> Tensor:
            if not isinstance(output, Tensor):
                raise ModelError(f"layer {layer!r} returns {type(output).__name__}; expected a tensor")
            outputs[:] = [output]
            # A clone, because the next layer may work in place.
            return output.clone()

        handle = _submodule(network, layer).register_forward_hook(keep)
        try:
            yield outputs
        finally:
            handle.remove()


def seen(layer: str, outputs: Sequence[Tensor]) -> Sequence[Tensor]:
    """The `outputs` of `captured` after the network ran; a `ModelError` if there are none."""
    if not outputs and layer == ATTENTION:
        raise ModelError(
            "the network computes no attention that can be seen: "
            "it must call scaled_dot_product_attention or nn.MultiheadAttention, as ViTs of timm and torchvision do"
        )
    if not outputs and layer == PENULTIMATE:
        raise ModelError("the network does not end in a linear layer that takes one vector of features for each point")
    if not outputs:
        raise ModelError(f"the network does not use its layer {layer!r}")
    return outputs


def side_by_side(layer: str | None, tensors: Sequence[Tensor]) -> Tensor:
    """The tensors of a layer as one: (n, layers, heads, tokens, tokens) for `ATTENTION`."""
    return torch.stack(tuple(tensors), dim=1) if layer == ATTENTION else tensors[0]


def last_convolution(network: Network, points: Tensor) -> str:
    """The name of the submodule that `LAST_CONV` stands for, found by one forward pass over `points` (n, C, H, W).

    Raises:
        ModelError: the network does not end in a feature map; a ViT ends in tokens.
    """
    last: str | None = None
    pooled: list[Tensor] = []

    def after(name: str, module: nn.Module, inputs: object, output: object) -> None:
        nonlocal last
        if not isinstance(output, Tensor):
            return
        if isinstance(module, POOLING):
            pooled.append(output)
        if output.ndim == 3:
            last = None  # tokens
        # A container returns the output of its last submodule.
        elif output.ndim == 4 and output[0, 0].numel() > 1 and not any(output is other for other in pooled):
            size = (points.shape[-2], points.shape[-1])
            last = name if _roughly_proportional((output.shape[-2], output.shape[-1]), size) else None

    handles = [
        module.register_forward_hook(partial(after, name)) for name, module in _submodules(network).items() if name
    ]
    try:
        with torch.no_grad():
            network(points)
    finally:
        for handle in handles:
            handle.remove()
    if last is None:
        raise ModelError("the network does not end in a convolutional feature map; give a layer by name")
    return last


class _OpenAttention(TorchFunctionMode):
    """While active, computes attention over `count` points in separate steps and stores its maps."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count = count
        self.maps: list[Tensor] = []

    def __torch_function__(
        self, func: Callable[..., Any], types: object, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is F.scaled_dot_product_attention:
            return self._attend(*args, **(kwargs or {}))
        if func is F.multi_head_attention_forward:
            return self._attend_with_heads(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))

    def _attend(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Tensor:
        """`scaled_dot_product_attention` as its documentation defines it."""
        if is_causal or enable_gqa:
            raise ModelError("attention that is causal or shares its keys among heads cannot be seen")
        products = (query * (1 / math.sqrt(query.shape[-1]) if scale is None else scale)) @ key.mT
        if attn_mask is not None and attn_mask.dtype == torch.bool:
            products = products.masked_fill(~attn_mask, -math.inf)
        elif attn_mask is not None:
            products = products + attn_mask
        attention = products.softmax(dim=-1)
        count, _, rows, columns = attention.shape if attention.ndim == 4 else (0, 0, 0, 0)
        if count != self.count or rows != columns or (self.maps and attention.shape != self.maps[0].shape):
            raise ModelError(
                f"attention {tuple(attention.shape)} of {self.count} points cannot be seen: "
                "it must be between all tokens of each point, and equally many in every layer"
            )
        self.maps.append(attention)
        return attention @ value

    def _attend_with_heads(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        width: int,
        heads: int,
        weight: Tensor,
        bias: Tensor | None,
        bias_k: Tensor | None,
        bias_v: Tensor | None,
        add_zero_attn: bool,
        dropout_p: float,
        out_weight: Tensor,
        out_bias: Tensor | None,
        **rest: Any,
    ) -> tuple[Tensor, None]:
        """`multi_head_attention_forward` of tokens (tokens, n, width) to themselves, without masks."""
        masked = rest.get("attn_mask") is not None or rest.get("key_padding_mask") is not None
        itself = query is key and key is value and weight is not None
        if masked or not itself or bias_k is not None or add_zero_attn or rest.get("need_weights", True):
            raise ModelError("nn.MultiheadAttention can be seen only without masks, from tokens to themselves")
        parts = F.linear(query, weight, bias).reshape(*query.shape[:2], 3, heads, -1)
        tokens = self._attend(*parts.permute(2, 1, 3, 0, 4)).permute(2, 0, 1, 3).flatten(2)
        return F.linear(tokens, out_weight, out_bias), None


def averaged(
    group: Group,
    law: Sampler,
    samples: int,
    layer: str,
    part: Callable[[Tensor, Tensor], Tensor],
    mapped: Callable[[Tensor], Tensor] | None = None,
) -> Generator[Request, Response, tuple[Tensor, StandardError]]:
    """The mean of a function of a layer's gradients and activations over draws of a sampler, and its error.

    Args:
        group: the images, baselines and streams.
        law: the sampler.
        samples: gradient evaluations per image.
        layer: as in `Request`.
        part: gradients and activations at one draw of each image -> the value that is averaged, (B, ...).
        mapped: such a mean -> map (B, H, W), linear or not; None to estimate no error.
    """
    mean = WeightedSum()
    error: StandardError = NoError() if mapped is None or law.kind == "deterministic" else Jackknife(mapped)
    for drawn, points in requests(group, law, samples):
        response = yield Request(points, group.owners(len(drawn)), layer=layer)
        pairs = (tensor.chunk(len(drawn)) for tensor in (gradients_of(response), activations_of(response)))
        for k, gradients, activations in zip(drawn, *pairs, strict=True):
            value = part(gradients, activations)
            mean.add(law.weight(k, samples), value)
            error.add(k, value, value)
    return mean.result(), error


def feature_maps(tensor: Tensor, size: tuple[int, int]) -> Tensor:
    """A layer's activations or gradients as (n, channels, h, w).

    Channels come first or last. If both orders fit, channels come first, as is usual in torch. Sizes that follow from
    one stride for both axes take precedence over roughly proportional sizes.

    Args:
        tensor: (n, c, h, w) or (n, h, w, c).
        size: (H, W) of the image.

    Raises:
        ModelError: it has another shape, such as the tokens of a transformer.
    """
    expected = f"the layer gives {tuple(tensor.shape)}; expected (n, channels, height, width)"
    if tensor.ndim == 3:
        raise ModelError(
            f"{expected}: these look like tokens; give a layer that keeps rows and columns, "
            "or take a method for attention, such as ssig-attention"
        )
    if tensor.ndim != 4:
        raise ModelError(expected)
    first, last = (tensor.shape[2], tensor.shape[3]), (tensor.shape[1], tensor.shape[2])
    for fits in (_one_stride, _roughly_proportional):
        if fits(first, size):
            return tensor
        if fits(last, size):
            return tensor.permute(0, 3, 1, 2)
    raise ModelError(f"{expected} in the proportions of an image of {size[0]} x {size[1]} pixels")


def enlarged(maps: Tensor, images: Tensor) -> Tensor:
    """Values (B, C, H, W) of maps (B, 1, h, w): bilinear, and divided evenly among the channels of `images`."""
    values = F.interpolate(maps, size=images.shape[-2:], mode="bilinear", align_corners=False)
    return (values / images.shape[1]).expand(images.shape)


def _submodules(network: Network) -> dict[str, nn.Module]:
    return dict(network.named_modules()) if isinstance(network, nn.Module) else {}


def _submodule(network: Network, name: str) -> nn.Module:
    modules = _submodules(network)
    if name not in modules:
        near = [candidate for candidate in modules if candidate.endswith(f".{name}")]
        raise ModelError(f"the network has no layer {name!r}" + (f"; it has {', '.join(near)}" if near else ""))
    return modules[name]


def _one_stride(map_size: tuple[int, int], size: tuple[int, int]) -> bool:
    """Whether rows and columns are the image's divided by one stride, both rounded down or both rounded up."""
    pairs = list(zip(map_size, size, strict=True))
    if min(map_size) < 1:
        return False
    down = max(n / (m + 1) for m, n in pairs), min(n / m for m, n in pairs)
    up = max(n / m for m, n in pairs), min(n / (m - 1) if m > 1 else math.inf for m, n in pairs)
    return down[0] < down[1] or up[0] < up[1]


def _roughly_proportional(map_size: tuple[int, int], size: tuple[int, int]) -> bool:
    """Whether rows and columns have the image's proportions up to a factor of two."""
    (rows, columns), (height, width) = map_size, size
    return rows * width <= 2 * columns * height and columns * height <= 2 * rows * width
