"""LeGrad: positive gradients by the attention of each layer, of the score that this layer's tokens have by themselves.

    z_p = sum over layers l of  mean over heads and tokens t of  ReLU( d s_l / d A_l )_tp
    s_l = f_y, computed from the tokens Z_l behind layer l as if they were those behind the last layer

`A_l` (heads, tokens, tokens) is the softmax attention of layer l, a row for each token that looks. Source: Bousselham,
Boggust, Chaybouti, Strobelt, Kuehne, *LeGrad: An Explainability Method for Vision Transformers via Feature Formation
Sensitivity* (2024). All layers count, as in the paper; the authors' code takes the last two by default (`preset:
code`). The authors' code is for CLIP and pools the tokens of a layer by their mean; here they are read as the network
reads its last ones, such as from the class token. The authors scale each map to [0, 1].

The blocks of the network are found by one evaluation: the modules of one list or sequence that each compute attention
once and return tokens. For each layer but the last, the network is evaluated again with `Z_l` in place of what its
last block returns. So an image costs one gradient, in parts, and one forward evaluation for each further layer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ssig.engine.arithmetic import arithmetic
from ssig.engine.layers import ATTENTION, captured, seen
from ssig.errors import ModelError
from ssig.estimators.common_options import CommonOptions
from ssig.estimators.integrands import READOUTS
from ssig.estimators.integration import attribution, endpoints
from ssig.estimators.transfer import to_device
from ssig.methods.ssig_attention import over_image
from ssig.models.outputs import logits_of
from ssig.models.scores import score
from ssig.options import option
from ssig.registry import METHODS, MethodSpec
from ssig.types import Group, Steps

# The layers of ViT-Tiny, -Small and -Base, for the listed cost.
LISTED_LAYERS = 12

Network = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class LegradOptions(CommonOptions):
    readout: str = option("sum", "channels to map", choices=READOUTS)
    layers: int = option(0, "how many of the last layers count; 0 for all", at_least=0)


def legrad(group: Group, options: LegradOptions) -> Steps:
    scores = yield from endpoints(group)
    if group.network is None or group.targets is None:
        raise ModelError("legrad needs the network itself, which is not available here")
    targets = to_device(group.targets, group.images.device)
    with torch.enable_grad(), arithmetic(getattr(group.network, "precision", None)):
        tokens = sensitivity(group.network, group.images, targets, group.score, options.layers)
    return attribution(
        over_image(tokens.to(group.images.dtype), group.images),
        options.readout,
        scores,
        has_residual=False,
        error=None,
        evaluations=1,
    )


def sensitivity(network: Network, images: Tensor, targets: Tensor, score_name: str, layers: int) -> Tensor:
    """`z` of every token, (B, tokens).

    Args:
        network: images (B, C, H, W) -> logits (B, classes).
        images, targets: the images and the class of each, on one device.
        score_name: of `ssig.models.scores.SCORES`.
        layers: how many of the last layers count; 0 for all.

    Raises:
        ModelError: the network has no blocks that compute attention.
    """
    blocks = blocks_of(network, images[:1])

    def scored(points: Tensor) -> Tensor:
        return score(logits_of(network(points), len(points)).to(images.dtype), targets, score_name).sum()

    with outputs_of(blocks) as outputs, captured(network, ATTENTION, images) as attention:
        last = scored(images.detach().requires_grad_())
    total = torch.zeros(attention[0].shape[0], attention[0].shape[-1], dtype=images.dtype, device=images.device)
    for layer in range(len(blocks) - 1, -1 if layers == 0 else max(len(blocks) - layers, 0) - 1, -1):
        if layer < len(blocks) - 1:
            with replaced(blocks[-1], outputs[layer]):
                last = scored(images.detach())
        (gradient,) = torch.autograd.grad(last, attention[layer], retain_graph=True, allow_unused=True)
        if gradient is None:
            raise ModelError(f"no gradient of the score reaches the attention of layer {layer + 1}")
        total = total + gradient.detach().to(images.dtype).relu().mean(dim=(1, 2))
    return total


def blocks_of(network: Network, point: Tensor) -> list[nn.Module]:
    """The modules of one list or sequence that together compute all attention, once each, and return tokens.

    Args:
        network: the network.
        point: (1, C, H, W).

    Raises:
        ModelError: there are none.
    """
    lists = [module for module in _modules(network) if isinstance(module, nn.ModuleList | nn.Sequential)]
    children = dict.fromkeys(child for parent in lists for child in parent.children())
    computed: dict[nn.Module, int] = {}
    with captured(network, ATTENTION, point) as maps, ExitStack() as hooks, torch.no_grad():

        def before(module: nn.Module, inputs: object) -> None:
            computed[module] = -len(maps)

        def after(module: nn.Module, inputs: object, output: object) -> None:
            if isinstance(output, Tensor) and output.ndim == 3 and maps and output.shape[1] == maps[-1].shape[-1]:
                computed[module] += len(maps)
            else:
                computed[module] = 0

        for child in children:
            hooks.callback(child.register_forward_pre_hook(before).remove)
            hooks.callback(child.register_forward_hook(after).remove)
        network(point)
    count = len(seen(ATTENTION, maps))
    for parent in lists:
        blocks = [child for child in parent.children() if computed.get(child) == 1]
        if len(blocks) == count:
            return blocks
    raise ModelError(
        "the network's blocks of attention cannot be told: they must be the modules of one list or sequence, and "
        "return tokens, as in ViTs of timm and torchvision"
    )


@contextmanager
def outputs_of(modules: Sequence[nn.Module]) -> Iterator[list[Tensor]]:
    """Collects what each module returns while the network is evaluated in the body, in order of execution."""
    outputs: list[Tensor] = []
    with ExitStack() as hooks:
        for module in modules:
            keep = module.register_forward_hook(lambda module, inputs, output: outputs.append(output))
            hooks.callback(keep.remove)
        yield outputs


@contextmanager
def replaced(module: nn.Module, output: Tensor) -> Iterator[None]:
    """While active, a module returns `output`, whatever it is given."""

    def instead(module: nn.Module, inputs: Any, found: Any) -> Tensor:
        return output

    handle = module.register_forward_hook(instead)
    try:
        yield
    finally:
        handle.remove()


def _modules(network: Network) -> list[nn.Module]:
    return list(network.modules()) if isinstance(network, nn.Module) else []


METHODS.add(
    MethodSpec(
        name="legrad",
        run=legrad,
        options=LegradOptions,
        paper="Bousselham, Boggust, Chaybouti, Strobelt, Kuehne 2024",
        equation="sum over layers of mean over heads and tokens of ReLU(ds/dA), s the score of the layer's own tokens",
        evaluations=lambda options: 1,
        forwards=lambda options: (options.layers or LISTED_LAYERS) - 1,
        complete=False,
        baseline=lambda options: False,
        attention=True,
        network=True,
        presets={"code": {"layers": 2}},
    )
)
