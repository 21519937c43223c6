"""A copy of a network that gives the same logits and input gradients in less time.

    norm(w * x + b) = s (w * x + b - m) + t = (s w) * x + (s (b - m) + t),   s = weight / sqrt(variance + eps)

so a batch norm that takes a convolution's or linear layer's output is folded into that layer's weights. Nothing is
traced symbolically, which fails on many networks: one forward pass in float64 is watched, pairs are read off the
graph of its gradients, and only those folds stay after which logits and input gradients are what they were.

An activation that works in place has its input copied first where its derivative needs it. Clamps (ReLU6) know theirs
from their result just as well, so they go on without the copy; the others stop working in place.

Under autocast, frozen weights are cast anew in every call, because its cache holds only those that require gradients;
here they are stored in low precision once, where logits stay bit-equal. On the CPU, weights of convolutions and linear
layers are also brought into the processor's layout once (`ssig.packed`).
"""

from __future__ import annotations

import copy
import logging
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, cast

import torch
from timm.layers.conv2d_same import Conv2dSame
from timm.layers.norm_act import BatchNormAct2d, FrozenBatchNormAct2d
from torch import Tensor, nn
from torch.autograd.graph import Node
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_weights
from torch.nn.utils.parametrize import is_parametrized
from torchvision.ops import FrozenBatchNorm2d

from ssig.errors import ModelError, UsageError
from ssig.models.model import PRECISIONS, check_precision
from ssig.operators import AlignedConv, InPlaceClamp
from ssig.packed import packed

LOG = logging.getLogger(__name__)

# By their forward functions, because a subclass that has another one may do anything.
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
PACKABLE: set[Callable[..., Any]] = {nn.Conv2d.forward, nn.Linear.forward}
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)

# What works in place without a copy: the derivative is known from the result, or there is none to compute.
ON_RESULT = (nn.ReLU, nn.LeakyReLU, nn.Dropout, nn.Dropout2d, nn.Dropout3d)

# Relative L2 distance: rounding in float64 stays far below it, and a wrong fold far above.
FLOAT64_TOLERANCE = 1e-9
# Logits must be bit-equal in low precision; gradients need not, as some CUDA kernels add in any order.
LOW_PRECISION_TOLERANCE = 1e-2

Compile = Literal["none", "default", "cuda-graphs"]
COMPILE_MODES: dict[Compile, str | None] = {"none": None, "default": "default", "cuda-graphs": "reduce-overhead"}

Forward = Callable[[Tensor], Tensor]
Undo = Callable[[], None]
Change = Callable[[nn.Module], Undo]


@dataclass(frozen=True)
class Optimised:
    """An optimised copy of a network, and what was done to it.

    Attributes:
        network: the copy, in evaluation mode, parameters frozen.
        folded: batch norms folded into the layers before them.
        left: batch norms that stayed.
        lowered: weights and biases stored in low precision.
    """

    network: nn.Module
    folded: int
    left: int
    lowered: int


def optimised(
    network: nn.Module,
    example: Tensor,
    *,
    precision: str = "fp32",
    keep: Collection[str] = (),
    compile: Compile = "none",
) -> Optimised:
    """A copy of `network` for input gradients; the network itself is left as it is.

    Every submodule keeps its name: a folded batch norm becomes its activation or an identity. The layer before it
    then gives what the batch norm gave.

    Args:
        network: takes what `example` is, gives logits (B, classes); may be a `Model`.
        example: (B, C, H, W) on the network's device, of which the first is used. Of noise or a photograph: on even
            areas ties of pooling hide differences. What a network does must not hang on pixel values otherwise.
        precision: that of the autocast under which the copy runs; with ``bf16`` or ``fp16`` it runs under no other.
        keep: names of submodules whose outputs are wanted as they are; no batch norm outside is folded into them.
        compile: ``default`` for `torch.compile`, ``cuda-graphs`` for its mode that records CUDA graphs. Gradients at
            a submodule's output are then to be had only under ``torch.compiler.set_stance("force_eager")``.

    Raises:
        UsageError: an unknown precision or kind of compilation.
        ModelError: `torch.compile` failed.
    """
    check_precision(precision)
    if compile not in COMPILE_MODES:
        raise UsageError("model.compile", compile, COMPILE_MODES)
    points = example[:1].detach()
    dtype, mode = PRECISIONS[precision], COMPILE_MODES[compile]
    copied = copy.deepcopy(network).eval().requires_grad_(False)
    if mode is None:
        _unalias(copied, points)
    folds = _folds(copied, points, keep)
    for fold in folds:
        fold(copied)
    if any(isinstance(module, nn.Conv2d | nn.ConvTranspose2d) for module in copied.modules()):
        copied.to(memory_format=torch.channels_last)
    if dtype is not None:
        _lower(copied, points, dtype)
    _align(copied, points, dtype)
    if mode is None:
        _pack(copied, points, dtype)
    else:
        _compile(copied, points, dtype, mode)
    return Optimised(
        network=copied,
        folded=len(folds),
        left=sum(type(module).forward in NORMS for module in copied.modules()),
        lowered=sum(parameter.dtype == dtype for parameter in copied.parameters()),
    )


def _unalias(network: nn.Module, points: Tensor) -> None:
    """Spares activations that work in place the copy of their input, where the answers stay what they were."""
    names = [
        name
        for name, module in network.named_modules()
        if getattr(module, "inplace", False) is True and not isinstance(module, ON_RESULT)
    ]
    if not names:
        return
    expected = _answers(network, points)

    def same() -> bool:
        found = _answers(network, points)
        return torch.equal(found[0], expected[0]) and _close(found[1:], expected[1:], LOW_PRECISION_TOLERANCE)

    _kept(network, [partial(_spare, name=name) for name in names], same)


def _spare(network: nn.Module, name: str) -> Undo:
    module: Any = network.get_submodule(name)
    if isinstance(module, nn.Hardtanh):
        return _put(network, name, InPlaceClamp(module))
    module.inplace = False

    def undo() -> None:
        module.inplace = True

    return undo


def _align(network: nn.Module, points: Tensor, dtype: torch.dtype | None) -> None:
    """Makes unequal padding part of the kernels, where logits and input gradients stay what they were."""
    sizes: dict[str, set[tuple[int, int]]] = defaultdict(set)

    def seen(name: str, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        height, width = inputs[0].shape[-2:]
        sizes[name].add((height, width))

    forward = _under_autocast(network, dtype)
    names = [
        name
        for name, module in network.named_modules()
        if _plain(module, {Conv2dSame.forward}) and set(cast(Conv2dSame, module).dilation) == {1}
    ]
    if not names:
        return
    handles = [network.get_submodule(name).register_forward_pre_hook(partial(seen, name)) for name in names]
    try:
        expected = _answers(forward, points)
    finally:
        for handle in handles:
            handle.remove()
    changes: list[Change] = [
        partial(_put_aligned, name=name, size=next(iter(sizes[name]))) for name in names if len(sizes[name]) == 1
    ]
    _kept(network, changes, lambda: _close(_answers(forward, points), expected, LOW_PRECISION_TOLERANCE))


def _put_aligned(network: nn.Module, name: str, size: tuple[int, int]) -> Undo:
    return _put(network, name, AlignedConv(cast(Any, network.get_submodule(name)), size))


def _pack(network: nn.Module, points: Tensor, dtype: torch.dtype | None) -> None:
    """Packs the weights of layers on the CPU; each proves itself on what it is given here."""
    given: dict[str, Tensor] = {}

    def seen(name: str, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        given.setdefault(name, inputs[0].detach())

    layers = [
        (name, module)
        for name, module in network.named_modules()
        if isinstance(module, AlignedConv) or _plain(module, PACKABLE)
    ]
    if not layers or points.device.type != "cpu":
        return
    forward = _under_autocast(network, dtype)
    handles = [module.register_forward_pre_hook(partial(seen, name)) for name, module in layers]
    try:
        expected = _answers(forward, points)
    except torch.OutOfMemoryError:
        raise
    except Exception:  # which the network raises again where it is used
        return
    finally:
        for handle in handles:
            handle.remove()
    changes: list[Change] = []
    for name, values in given.items():
        with torch.autocast(points.device.type, dtype=dtype, enabled=dtype is not None):
            module = packed(network.get_submodule(name), values)
        if module is not None:
            changes.append(partial(_put, name=name, module=module))
    given.clear()
    # A network may look at its layers' weights, which a packed layer does not show.
    _kept(network, changes, lambda: _close(_answers(forward, points), expected, LOW_PRECISION_TOLERANCE))


def _put(network: nn.Module, name: str, module: nn.Module) -> Undo:
    before = network.get_submodule(name)
    network.set_submodule(name, module.train(before.training))
    return lambda: network.set_submodule(name, before)


def _under_autocast(network: nn.Module, dtype: torch.dtype | None) -> Forward:
    def forward(points: Tensor) -> Tensor:
        with torch.autocast(points.device.type, dtype=dtype, enabled=dtype is not None):
            logits: Tensor = network(points)
        return logits

    return forward


def _folds(network: nn.Module, points: Tensor, keep: Collection[str]) -> list[Change]:
    """The folds that leave logits and input gradients as they are; the network is not changed."""
    if not any(_plain(module, NORMS) for module in network.modules()):
        return []
    # Float64 convolutions are faster in this layout.
    trial = copy.deepcopy(network).double().to(memory_format=torch.contiguous_format)
    points = points.double().contiguous()
    try:
        pairs, expected = _pairs(trial, points)
    except Exception:  # a network that cannot run in float64 keeps its batch norms
        return []
    folds: list[Change] = [
        partial(_fold, layer_name=layer, norm_name=norm) for layer, norm in pairs if not _crosses(layer, norm, keep)
    ]
    return _kept(trial, folds, lambda: _close(_answers(trial, points), expected, FLOAT64_TOLERANCE))


def _pairs(network: nn.Module, points: Tensor) -> tuple[list[tuple[str, str]], tuple[Tensor, Tensor]]:
    """Names (layer, norm) where the norm takes the layer's output and nothing else takes it; logits and gradient.

    Both are called once and have one name each. What uses the output without gradients is not seen here.
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
        if names[module] == 1 and _plain(module, LAYERS):
            handles.append(module.register_forward_hook(partial(after_layer, name)))
        elif names[module] == 1 and _plain(module, NORMS):
            handles.append(module.register_forward_pre_hook(partial(before_norm, name)))
    try:
        logits, gradient = _answers(network, points)
    finally:
        for handle in handles:
            handle.remove()
    uses = _uses(logits.grad_fn)
    pairs = [
        (made[node], norm)
        for norm, node in taken.items()
        if node in made
        and uses[node] == called[made[node]] == called[norm] == 1
        and _fits(network.get_submodule(made[node]), network.get_submodule(norm))
    ]
    return pairs, (logits.detach(), gradient)


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


def _plain(module: nn.Module, forwards: Collection[Callable[..., Any]]) -> bool:
    """Whether a module computes one of `forwards` from its own parameters, with nothing attached."""
    attached = (
        module._forward_hooks or module._forward_pre_hooks or module._backward_hooks or module._backward_pre_hooks
    )
    own = type(module).forward in forwards and "forward" not in vars(module)
    return own and not attached and not is_parametrized(module)


def _fits(layer: Any, norm: Any) -> bool:
    """Whether the statistics of a norm are fixed, and one for each channel of the layer's output."""
    if norm.training or norm.running_mean is None or norm.running_var is None:
        return False
    # Where a transposed convolution has groups, its dimension of output channels holds those of one group.
    channels = layer.weight.shape[1 if isinstance(layer, TRANSPOSED) else 0]
    return bool(channels == len(norm.running_mean))


def _crosses(layer: str, norm: str, keep: Collection[str]) -> bool:
    """Whether a fold would change what one of the submodules `keep` gives."""
    return any(f"{layer}.".startswith(f"{kept}.") and not f"{norm}.".startswith(f"{kept}.") for kept in keep)


def _fold(network: nn.Module, layer_name: str, norm_name: str) -> Undo:
    """Folds a norm, computing in float64; what follows in the norm's own module stays there."""
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
    network.set_submodule(norm_name, nn.Sequential(rest) if rest else nn.Identity())

    def undo() -> None:
        layer.weight, layer.bias = weight, bias
        network.set_submodule(norm_name, norm)

    return undo


def _lower(network: nn.Module, points: Tensor, dtype: torch.dtype) -> None:
    """Stores weights in `dtype` where the network gives the same under autocast, with and without gradients."""

    forward = _under_autocast(network, dtype)

    def answers() -> tuple[Tensor, Tensor, Tensor]:
        with torch.no_grad():
            plain = forward(points)
        return plain, *_answers(forward, points)

    def same() -> bool:
        plain, logits, gradient = answers()
        return (
            torch.equal(plain, expected[0])
            and torch.equal(logits, expected[1])
            and _close((gradient,), expected[2:], LOW_PRECISION_TOLERANCE)
        )

    expected = answers()
    names = [name for name, module in network.named_modules() if _plain(module, LAYERS)]
    _kept(network, [partial(_store, name=name, dtype=dtype) for name in names], same)


def _store(network: nn.Module, name: str, dtype: torch.dtype) -> Undo:
    module = network.get_submodule(name)
    before = [(parameter, parameter.data) for parameter in module.parameters()]
    module.to(dtype)

    def undo() -> None:
        for parameter, data in before:
            parameter.data = data

    return undo


def _kept(network: nn.Module, changes: Sequence[Change], holds: Callable[[], bool]) -> list[Change]:
    """Makes all changes, or else halves them until those are left out without which `holds` is true."""
    if not changes:
        return []
    undos = [change(network) for change in changes]
    try:
        if holds():
            return list(changes)
    except torch.OutOfMemoryError:
        raise  # which says nothing of the changes
    except Exception as error:  # whatever a network raises after a change, the change does not suit it
        LOG.info("%s: left out %d changes or some of them: %s", type(network).__name__, len(changes), error)
    for undo in reversed(undos):
        undo()
    if len(changes) == 1:
        return []
    half = len(changes) // 2
    return _kept(network, changes[:half], holds) + _kept(network, changes[half:], holds)


def _compile(network: nn.Module, points: Tensor, dtype: torch.dtype | None, mode: str) -> None:
    """Compiles the network in place, so that its submodules keep their names, and calls it once."""
    network.compile(mode=mode)
    try:
        _answers(_under_autocast(network, dtype), points)
    except Exception as error:
        reason = str(error).partition("\n")[0]
        raise ModelError(f"torch.compile failed on {type(network).__name__}: {reason}") from error


def _answers(forward: Forward, points: Tensor) -> tuple[Tensor, Tensor]:
    """Logits (1, classes), attached to their graph, and the input gradient of a sum that weighs each differently."""
    with torch.enable_grad():
        points = points.clone().requires_grad_()
        logits = forward(points)
        weights = torch.arange(1, logits.shape[1] + 1, device=logits.device, dtype=logits.dtype) / logits.shape[1]
        (gradient,) = torch.autograd.grad((logits * weights).sum(), points)
    return logits, gradient


def _close(found: Sequence[Tensor], expected: Sequence[Tensor], tolerance: float) -> bool:
    return all(
        bool((one - other).norm() <= tolerance * other.norm()) for one, other in zip(found, expected, strict=True)
    )
