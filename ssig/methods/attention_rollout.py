"""Attention rollout: how much of each patch reaches the tokens that the score is read from, by attention alone.

    M_l = (1 + A_l) / (its row sums),   R = M_L ... M_1,   z_p = mean over tokens t that f_y reads of  R_tp

`A_l` (tokens, tokens) is the mean over the heads of the softmax attention of layer l, and 1 stands for the connection
around it. Source: Abnar, Zuidema, *Quantifying Attention Flow in Transformers* (2020). The map depends on the target
only through the tokens that its score is read from, which one gradient finds, as in `ssig-attention`: in most networks
they are the same for each target. Maps of several heads may also be fused by their maximum or minimum (`heads`), as
later implementations have it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ssig.engine.layers import ATTENTION
from ssig.estimators.common_options import CommonOptions
from ssig.estimators.integrands import READOUTS
from ssig.estimators.integration import activations_of, attribution, endpoints, gradients_of
from ssig.methods.ssig_attention import over_image, tokens_read
from ssig.options import option
from ssig.registry import METHODS, MethodSpec
from ssig.types import Group, Request, Steps

HEADS = ("mean", "max", "min")


@dataclass(frozen=True)
class RolloutOptions(CommonOptions):
    readout: str = option("sum", "channels to map", choices=READOUTS)
    heads: str = option("mean", "how the attention of the heads is fused", choices=HEADS)


def attention_rollout(group: Group, options: RolloutOptions) -> Steps:
    scores = yield from endpoints(group)
    response = yield Request(group.images, group.owners(), layer=ATTENTION)
    tokens = rolled_out(fused(activations_of(response), options.heads), tokens_read(gradients_of(response)))
    return attribution(
        over_image(tokens, group.images), options.readout, scores, has_residual=False, error=None, evaluations=1
    )


def fused(attention: Tensor, heads: str) -> Tensor:
    """(B, layers, tokens, tokens) of attention (B, layers, heads, tokens, tokens)."""
    if heads == "mean":
        return attention.mean(dim=2)
    return attention.amax(dim=2) if heads == "max" else attention.amin(dim=2)


def rolled_out(layers: Tensor, read: Tensor) -> Tensor:
    """`z` of every token, (B, tokens); 0 where no token is read.

    Args:
        layers: (B, layers, tokens, tokens), the `A_l`.
        read: (B, tokens) bool, the tokens that the score is read from.
    """
    whole = layers + torch.eye(layers.shape[-1], dtype=layers.dtype, device=layers.device)
    steps = whole / whole.sum(dim=-1, keepdim=True)
    reached = read.to(layers.dtype).unsqueeze(1) / read.sum(dim=1).clamp_min(1).view(-1, 1, 1)
    for layer in reversed(steps.unbind(dim=1)):
        reached = reached @ layer
    return reached.squeeze(1)


METHODS.add(
    MethodSpec(
        name="attention-rollout",
        run=attention_rollout,
        options=RolloutOptions,
        paper="Abnar, Zuidema 2020",
        equation="product over layers of (1 + mean over heads of A) / (its row sums)",
        evaluations=lambda options: 1,
        complete=False,
        baseline=lambda options: False,
        attention=True,
    )
)
