"""The relevance of Chefer et al.: the attention of a ViT, weighed by its positive gradients and rolled out.

    M_l = mean over heads of  ReLU( A_l * d f_y / d A_l ),   R_0 = 1,   R_l = R_(l-1) + M_l R_(l-1)
    z_p = mean over tokens t that f_y reads of  (R_L - 1)_tp

`A_l` (heads, tokens, tokens) is the softmax attention of layer l, a row for each token that looks. Source: Chefer,
Gur, Wolf, *Generic Attention-model Explainability for Interpreting Bi-Modal and Encoder-Decoder Transformers* (2021),
its case of self-attention. Tokens and patches are those of `ssig-attention`, which averages the gradients over
suppression samples; its `preset: chefer` gives the same map.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ssig.engine.layers import ATTENTION
from ssig.estimators.common_options import CommonOptions
from ssig.estimators.integrands import READOUTS
from ssig.estimators.integration import activations_of, attribution, endpoints, gradients_of
from ssig.methods.ssig_attention import over_image, relevance, tokens_read
from ssig.options import option
from ssig.registry import METHODS, MethodSpec
from ssig.types import Group, Request, Steps


@dataclass(frozen=True)
class CheferOptions(CommonOptions):
    readout: str = option("sum", "channels to map", choices=READOUTS)


def chefer(group: Group, options: CheferOptions) -> Steps:
    scores = yield from endpoints(group)
    response = yield Request(group.images, group.owners(), layer=ATTENTION)
    gradients = gradients_of(response)
    tokens: Tensor = relevance((activations_of(response) * gradients).relu().mean(dim=2), tokens_read(gradients))
    return attribution(
        over_image(tokens, group.images), options.readout, scores, has_residual=False, error=None, evaluations=1
    )


METHODS.add(
    MethodSpec(
        name="chefer",
        run=chefer,
        options=CheferOptions,
        paper="Chefer, Gur, Wolf 2021",
        equation="rollout of mean over heads of ReLU(A * df/dA)",
        evaluations=lambda options: 1,
        complete=False,
        baseline=lambda options: False,
        attention=True,
    )
)
