"""Changes that alter a network only by rounding, verified in float64.

    norm(w * x + b) = s (w * x + b - m) + t = (s w) * x + (s (b - m) + t),   s = weight / sqrt(variance + eps)

A batch norm after a convolution or linear layer is folded into that layer's weights. Symbolic tracing fails on many
networks, so the pairs are found in the autograd graph of one forward pass.

torch copies the input of an in-place activation whose derivative needs the input. The derivative of a clamp (ReLU6)
also follows from its result, so clamps work in place without the copy; other activations are set to work out of place.
Unequal padding becomes part of the kernels.

A change stays only if logits and input gradients are unchanged on points of several kinds
(`ssig.acceleration.proof`).
"""

from __future__ import annotations

import logging
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, cast

import torch
from timm.layers.conv2d_same import Conv2dSame
from timm.layers.norm_act import BatchNormAct2d, FrozenBatchNormAct2d
from torch import Tensor, nn
from torch.autograd.graph import Node
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_weights
from torchvision.ops import FrozenBatchNorm2d

from ssig.acceleration.changes import Change, Undo, apply_valid, is_plain, put
from ssig.acceleration.operators import AlignedConv, InPlaceClamp
from ssig.acceleration.proof import all_answers, answers, holds
from ssig.engine.copying import copy_of

LOG = logging.getLogger(__name__)

# Identified by forward functions, because a subclass with another one may compute anything.
LAYERS = {
    kind.forward
    for kind in (
        nn.Linear,
        *(nn.Conv1d, nn.Conv2d, nn.Conv3d, Conv2dSame),
        *(nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d),
    )
}
NORMS = {
    kind.forward for kind in (_BatchNorm, nn.SyncBatchNorm, BatchNormAct2d, FrozenBatchNorm2d, FrozenBatchNormAct2d)
}
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)

# In-place activations without a copy: the derivative follows from the result, or there is none.
ON_RESULT = (nn.ReLU, nn.LeakyReLU, nn.Dropout, nn.Dropout2d, nn.Dropout3d)

# Relative L2 distance: rounding in float64 is far below it, the error of a wrong change far above.
FLOAT64_TOLERANCE = 1e-9

Size = tuple[int, int]


def exact_changes(
    network: nn.Module, points: Sequence[Tensor], keep: Collection[str], layout: torch.memory_format, in_place: bool
) -> list[Change]:
    """The changes that alter the network only by rounding; the network itself is not changed.

    Args:
        network: the network.
        points: the changes are verified on these.
        keep: names of submodules whose outputs must not change.
        layout: of the weights.
        in_place: whether to change activations that work in place.
    """
    copying = _working_in_place(network) if in_place else []
    padded = _padded_unequally(network)
    if not (copying or padded or any(is_plain(module, NORMS) for module in network.modules())):
        return []
    try:
        # Float64 convolutions are faster in this layout.
        twin = copy_of(network).double().to(memory_format=torch.contiguous_format)
        doubles = [point.double() for point in points]
        pairs = _pairs(twin, doubles[0])
        with _watched(twin, padded) as sizes:
            expected = all_answers(twin, doubles)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # a network that cannot run in float64 is not changed
        LOG.info("%s cannot be verified in float64: %s", type(network).__name__, error)
        return []
    changes: list[Change] = [partial(avoid_copy, name=name) for name in copying]
    changes += [
        partial(fold, layer_name=layer, norm_name=norm) for layer, norm in pairs if not _crosses(layer, norm, keep)
    ]
    changes += [
        partial(put_aligned, name=name, size=next(iter(layer_sizes)), layout=torch.contiguous_format)
        for name, layer_sizes in sizes.items()
        if len(layer_sizes) == 1
    ]
    valid = apply_valid(twin, changes, lambda: holds(twin, doubles, expected, FLOAT64_TOLERANCE))
    return [_in_layout(change, layout) for change in valid]


def _in_layout(change: Change, layout: torch.memory_format) -> Change:
    """The same change for a network with weights in `layout`."""
    if isinstance(change, partial) and change.func is put_aligned:
        return partial(put_aligned, **{**change.keywords, "layout": layout})
    return change


def _working_in_place(network: nn.Module) -> list[str]:
    """Names of activations that work in place and have their input copied."""
    return [
        name
        for name, module in network.named_modules()
        if getattr(module, "inplace", False) is True and not isinstance(module, (*ON_RESULT, torch.jit.ScriptModule))
    ]


def _padded_unequally(network: nn.Module) -> list[str]:
    """Names of convolutions whose padding depends on the size of their input."""
    return [
        name
        for name, module in network.named_modules()
        if is_plain(module, {Conv2dSame.forward}) and set(cast(Conv2dSame, module).dilation) == {1}
    ]


@contextmanager
def _watched(network: nn.Module, names: Sequence[str]) -> Iterator[dict[str, set[Size]]]:
    """Records the input sizes (H, W) of submodules in the body: name -> sizes."""
    sizes: dict[str, set[Size]] = defaultdict(set)

    def record_size(name: str, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        height, width = inputs[0].shape[-2:]
        sizes[name].add((height, width))

    handles = [network.get_submodule(name).register_forward_pre_hook(partial(record_size, name)) for name in names]
    try:
        yield sizes
    finally:
        for handle in handles:
            handle.remove()


def avoid_copy(network: nn.Module, name: str) -> Undo:
    module: Any = network.get_submodule(name)
    if isinstance(module, nn.Hardtanh):
        return put(network, name, InPlaceClamp(module))
    module.inplace = False

    def undo() -> None:
        module.inplace = True

    return undo


def put_aligned(network: nn.Module, name: str, size: Size, layout: torch.memory_format) -> Undo:
    return put(network, name, AlignedConv(cast(Any, network.get_submodule(name)), size, layout))


def _pairs(network: nn.Module, points: Tensor) -> list[tuple[str, str]]:
    """Names (layer, norm) of norms that are the only user of their layer's output.

    Both are called once and have one name each. Users of the output without gradients are not detected here.
    """
    called: Counter[str] = Counter()
    made: dict[Node, str] = {}
    taken: dict[str, Node | None] = {}

    def after_layer(name: str, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        called[name] += 1
        if output.grad_fn is not None:
            made[output.grad_fn] = name

    def before_norm(name: str, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        called[name] += 1
        taken[name] = inputs[0].grad_fn if inputs else None

    names = Counter(module for _, module in network.named_modules(remove_duplicate=False))
    handles = []
    for name, module in network.named_modules():
        if names[module] == 1 and is_plain(module, LAYERS):
            handles.append(module.register_forward_hook(partial(after_layer, name)))
        elif names[module] == 1 and is_plain(module, NORMS):
            handles.append(module.register_forward_pre_hook(partial(before_norm, name)))
    try:
        logits, _ = answers(network, points)
    finally:
        for handle in handles:
            handle.remove()
    uses = _uses(logits.grad_fn)
    return [
        (made[node], norm)
        for norm, node in taken.items()
        if node in made
        and uses[node] == called[made[node]] == called[norm] == 1
        and _fits(network.get_submodule(made[node]), network.get_submodule(norm))
    ]


def _uses(root: Node | None) -> Counter[Node]:
    """How often each node of an autograd graph is an input of another."""
    uses: Counter[Node] = Counter()
    stack = [root]
    while stack:
        node = stack.pop()
        for inner, _ in node.next_functions if node is not None else ():
            if inner is not None:
                if inner not in uses:
                    stack.append(inner)
                uses[inner] += 1
    return uses


def _fits(layer: Any, norm: Any) -> bool:
    """Whether a norm has fixed statistics, one for each channel of the layer's output."""
    if norm.training or norm.running_mean is None or norm.running_var is None:
        return False
    # A transposed convolution's dimension of output channels counts those of one group.
    channels = layer.weight.shape[1 if isinstance(layer, TRANSPOSED) else 0]
    return bool(channels == len(norm.running_mean))


def _crosses(layer: str, norm: str, keep: Collection[str]) -> bool:
    """Whether a fold would change the output of one of the submodules `keep`."""
    return any(
        f"{layer}.".startswith(f"{submodule}.") and not f"{norm}.".startswith(f"{submodule}.") for submodule in keep
    )


def fold(network: nn.Module, layer_name: str, norm_name: str) -> Undo:
    """Folds a norm, computing in float64; further layers inside the norm's module stay there."""
    layer: Any = network.get_submodule(layer_name)
    norm: Any = network.get_submodule(norm_name)
    weight, bias = layer.weight, layer.bias

    def double(tensor: Tensor | None) -> Tensor | None:
        return None if tensor is None else tensor.double()

    fused = fuse_conv_bn_weights(
        weight.double(),
        double(bias),
        norm.running_mean.double(),
        norm.running_var.double(),
        norm.eps,
        double(norm.weight),
        double(norm.bias),
        transpose=isinstance(layer, TRANSPOSED),
    )
    layer.weight, layer.bias = (nn.Parameter(values.to(weight.dtype), requires_grad=False) for values in fused)
    rest = OrderedDict(norm.named_children())
    restored = put(network, norm_name, nn.Sequential(rest) if rest else nn.Identity())

    def undo() -> None:
        layer.weight, layer.bias = weight, bias
        restored()

    return undo
