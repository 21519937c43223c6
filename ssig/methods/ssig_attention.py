"""SSIG attention: the attention of a ViT, weighed by its positive gradients averaged over suppression samples.

    M_l = mean over heads of  A_l(x) * E_m [ ReLU( d f_y(x̂) / d A_l ) ],   x̂ = x' + m * (x - x')
    R_0 = 1,   R_l = R_(l-1) + M_l R_(l-1),   z_p = mean over tokens t that f_y reads of  (R_L - 1)_tp

`A_l` (heads, tokens, tokens) is the softmax attention of layer l, a row for each token that looks. Source: this
project; the relevance is that of Chefer, Gur, Wolf, *Generic Attention-model Explainability for Interpreting Bi-Modal
and Encoder-Decoder Transformers* (2021), which is the case of one sample of the image itself (`preset: chefer`), and
suppression sampling that of Luo, McDermott, O'Riordan, *Sampling Matters in Explanations* (2025).

The tokens that the score is read from are those whose rows of the last attention have a gradient: the class token, or
all patches of a network that pools them. Patches are the last tokens, in rows of squares that cover the image; the
map is enlarged bilinearly from them, and each pixel's value divided evenly among the channels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ssig.engine.layers import ATTENTION, averaged, enlarged
from ssig.errors import ModelError
from ssig.estimators.common_options import SamplerOptions, samples_option
from ssig.estimators.integrands import READOUTS, readout
from ssig.estimators.integration import activations_of, attribution, endpoints
from ssig.options import option
from ssig.registry import METHODS, MethodSpec
from ssig.types import SCORE, Group, Request, Steps

# Most tokens besides the patches: class and distillation tokens, registers.
MOST_OTHER_TOKENS = 16


@dataclass(frozen=True)
class SsigAttentionOptions(SamplerOptions):
    readout: str = option("sum", "channels to map", choices=READOUTS)
    samples: int = samples_option()

    def __post_init__(self) -> None:
        self.check(self.samples)


def ssig_attention(group: Group, options: SsigAttentionOptions) -> Steps:
    scores = yield from endpoints(group)
    response = yield Request(group.images, group.owners(), want=SCORE, layer=ATTENTION)
    image_attention = activations_of(response)
    count, *_, tokens = image_attention.shape
    patch_grid(tokens, *group.images.shape[-2:])
    read = torch.zeros(count, tokens, dtype=torch.bool, device=image_attention.device)

    def weighed(gradients: Tensor, attention: Tensor) -> Tensor:
        read.logical_or_(tokens_read(gradients))
        return (image_attention * gradients.relu()).mean(dim=2)

    def values_of(layers: Tensor) -> Tensor:
        return over_image(relevance(layers, read), group.images)

    def mapped(layers: Tensor) -> Tensor:
        return readout(options.readout, values_of(layers))

    layers, error = yield from averaged(group, options.law(), options.samples, ATTENTION, weighed, mapped)
    return attribution(
        values_of(layers),
        options.readout,
        scores,
        has_residual=False,
        error=error,
        evaluations=options.samples,
    )


def tokens_read(gradients: Tensor) -> Tensor:
    """(B, tokens) bool, the tokens that the score is read from.

    Args:
        gradients: (B, layers, heads, tokens, tokens), of the score by attention.
    """
    return (gradients[:, -1] != 0).any(dim=-1).any(dim=1)


def over_image(values: Tensor, images: Tensor) -> Tensor:
    """Values (B, C, H, W) of those of all tokens, (B, tokens), of which the last are patches of the images.

    Raises:
        ModelError: there are no such patches.
    """
    grid = patch_grid(values.shape[1], images.shape[-2], images.shape[-1])
    patches = values[:, values.shape[1] - math.prod(grid) :]
    return enlarged(patches.reshape(len(values), 1, *grid), images)


def relevance(layers: Tensor, read: Tensor) -> Tensor:
    """`z` of every token, (B, tokens).

    Args:
        layers: (B, layers, tokens, tokens), the `M_l`.
        read: (B, tokens) bool, the tokens that the score is read from.
    """
    gained = torch.zeros_like(layers[:, 0])  # R_l - 1
    for layer in layers.unbind(dim=1):
        gained = gained + layer + layer @ gained
    rows = read.to(layers.dtype).unsqueeze(1)
    return (rows @ gained).squeeze(1) / read.sum(dim=1, keepdim=True).clamp_min(1)


def patch_grid(tokens: int, height: int, width: int) -> tuple[int, int]:
    """Rows and columns of the square patches that, with a few other tokens, make up `tokens` of an image.

    Raises:
        ModelError: there are no such patches.
    """
    for size in range(1, min(height, width) + 1):
        patches = (height // size) * (width // size)
        if height % size == width % size == 0 and tokens - MOST_OTHER_TOKENS <= patches <= tokens:
            return height // size, width // size
    raise ModelError(f"{tokens} tokens are no square patches of {height} x {width} pixels and a few others")


METHODS.add(
    MethodSpec(
        name="ssig-attention",
        run=ssig_attention,
        options=SsigAttentionOptions,
        paper="this project; suppression: Luo, McDermott, O'Riordan 2025; relevance: Chefer, Gur, Wolf 2021",
        equation="rollout of mean over heads of A(x) * E_m[ReLU(df(x' + m (x - x'))/dA)]",
        evaluations=lambda options: int(options.samples),
        complete=False,
        attention=True,
        revision=1,  # errors come from eight groups of samples
        presets={"chefer": {"sampler": "identity", "samples": 1}},
    )
)
