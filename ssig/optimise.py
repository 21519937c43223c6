"""A copy of a network that gives the same logits and input gradients in less time.

    norm(w * x + b) = s (w * x + b - m) + t = (s w) * x + (s (b - m) + t),   s = weight / sqrt(variance + eps)

so a batch norm that takes a convolution's or linear layer's output is folded into that layer's weights. Nothing is
traced symbolically, which fails on many networks: one forward pass in float64 is watched, and pairs are read off the
graph of its gradients.

An activation that works in place has its input copied first where its derivative needs it. Clamps (ReLU6) know theirs
from their result just as well, so they go on without the copy; the others stop working in place. Unequal padding
becomes part of the kernels.

All these change nothing but rounding, so they are proved in float64, on points of several kinds (`ssig.proof`): only
those stay after which logits and input gradients are what they were.

Convolutions run faster with channels last, but a network that looks at how its tensors lie in memory, as `view` does,
may not stand it: it is tried, and such a network keeps the layout that it was written for.

Under autocast, frozen weights are cast anew in every call, because its cache holds only those that require gradients;
here they are stored in low precision once, where logits stay bit-equal. On the CPU, weights of convolutions and linear
layers are also brought into the processor's layout once (`ssig.packed`).
"""

from __future__ import annotations

import logging
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
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

from ssig.arithmetic import arithmetic
from ssig.copying import copy_of
from ssig.errors import ModelError, UsageError
from ssig.models.model import PRECISIONS, check_precision
from ssig.operators import AlignedConv, InPlaceClamp
from ssig.packed import packed
from ssig.proof import Forward, all_answers, answers, close, holds, proof_points

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

# Relative L2 distances. Rounding in float64 stays far below the first, and a change that is wrong far above.
FLOAT64_TOLERANCE = 1e-9
# Logits must be bit-equal in low precision; gradients need not, as some CUDA kernels add in any order.
LOW_PRECISION_TOLERANCE = 1e-2
# Of sums in another order and of what follows at kinks; pixels that are taken for others differ by more than 1.
LAYOUT_TOLERANCE = 0.1

Compile = Literal["none", "default", "cuda-graphs"]
COMPILE_MODES: dict[Compile, str | None] = {"none": None, "default": "default", "cuda-graphs": "reduce-overhead"}

Size = tuple[int, int]
Undo = Callable[[], None]
Change = Callable[[nn.Module], Undo]


@dataclass(frozen=True)
class Optimised:
    """An optimised copy of a network, and what was done to it.

    Attributes:
        network: the copy, in evaluation mode, parameters frozen; or the network itself where it cannot be copied.
        folded: batch norms folded into the layers before them.
        left: batch norms that stayed.
        lowered: weights and biases stored in low precision.
        layout: of the weights, and of the points that the network takes.
        batches: whether the network takes more than one point at once.
        left_out: what was tried and does not suit the network, a sentence each.
    """

    network: nn.Module
    folded: int = 0
    left: int = 0
    lowered: int = 0
    layout: torch.memory_format = torch.contiguous_format
    batches: bool = True
    left_out: tuple[str, ...] = ()


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
        example: (B, C, H, W) on the network's device, of noise, of which the first is used. What a network does must
            not hang on pixel values otherwise than at the points that are made from it (`ssig.proof`).
        precision: that of the evaluations; with ``bf16`` or ``fp16`` the copy runs under no other autocast.
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
    points = proof_points(example[:1].detach())
    dtype, mode = PRECISIONS[precision], COMPILE_MODES[compile]
    with arithmetic(precision):
        try:
            copied = _frozen(copy_of(network))
        except ModelError as error:
            return Optimised(network, batches=_batches(network, points), left_out=(f"optimisation: {error}",))
        batches = _batches(copied, points)
        layout, reason = _layout(copied, points, batches)
        changes = _exact(copied, points, keep, layout, in_place=mode is None)
        for change in changes:
            change(copied)
        copied.to(memory_format=layout)
        if dtype is not None:
            _lower(copied, points, dtype)
        if mode is None:
            _pack(copied, points, dtype, PACKABLE if layout == torch.channels_last else {nn.Linear.forward})
        else:
            _compile(copied, points[0], dtype, mode)
    return Optimised(
        network=copied,
        folded=sum(isinstance(change, partial) and change.func is _fold for change in changes),
        left=sum(_forward_of(module) in NORMS for module in copied.modules()),
        lowered=sum(parameter.dtype == dtype for parameter in copied.parameters()),
        layout=layout,
        batches=batches,
        left_out=() if reason is None else (f"channels-last layout: {reason}",),
    )


def _frozen(network: nn.Module) -> nn.Module:
    """The network in evaluation mode, without gradients of parameters."""
    with suppress(NotImplementedError):  # exported networks know no modes
        network.eval()
    return network.requires_grad_(False)


def _batches(network: nn.Module, points: Sequence[Tensor]) -> bool:
    """Whether the network takes two points at once; true of one that takes none at all, which is told elsewhere."""
    with torch.no_grad():
        try:
            network(points[0])
        except torch.OutOfMemoryError:
            raise
        except Exception:
            return True
        try:
            return len(network(torch.cat(points[:2]))) == 2
        except torch.OutOfMemoryError:
            return True  # which is not for the network to say
        except Exception as error:
            LOG.info("%s takes no batch of 2: %s", type(network).__name__, error)
            return False


def _layout(network: nn.Module, points: Sequence[Tensor], batches: bool) -> tuple[torch.memory_format, str | None]:
    """The layout that suits the network, into which it is brought; and the reason where that is not the faster one."""
    usual, fast = torch.contiguous_format, torch.channels_last
    network.to(memory_format=usual)
    if not any(isinstance(module, nn.Conv2d | nn.ConvTranspose2d) for module in network.modules()):
        return usual, None
    # Of a single point some views are good in either layout.
    tried = torch.cat(points[:2]) if batches else points[0]
    try:
        expected = answers(network, tried)
    except torch.OutOfMemoryError:
        raise
    except Exception:  # which the network raises again where it is used
        return usual, None
    network.to(memory_format=fast)
    try:
        found = answers(network, tried.contiguous(memory_format=fast))
        reason = None if close(found, expected, LAYOUT_TOLERANCE) else "the network gives other values"
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        reason = str(error).partition("\n")[0]
    if reason is None:
        return fast, None
    network.to(memory_format=usual)
    return usual, reason


def _exact(
    network: nn.Module, points: Sequence[Tensor], keep: Collection[str], layout: torch.memory_format, in_place: bool
) -> list[Change]:
    """The changes after which the network is the same but for rounding; the network itself is not changed.

    Args:
        network: the network.
        points: on which that is proved.
        keep: names of submodules whose outputs stay what they are.
        layout: of the weights.
        in_place: whether activations that work in place are among them.
    """
    spared = _working_in_place(network) if in_place else []
    padded = _padded_unequally(network)
    if not (spared or padded or any(_plain(module, NORMS) for module in network.modules())):
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
    except Exception as error:  # a network that cannot run in float64 stays what it is
        LOG.info("%s cannot be proved in float64: %s", type(network).__name__, error)
        return []
    changes: list[Change] = [partial(_spare, name=name) for name in spared]
    changes += [
        partial(_fold, layer_name=layer, norm_name=norm) for layer, norm in pairs if not _crosses(layer, norm, keep)
    ]
    changes += [
        partial(_put_aligned, name=name, size=next(iter(seen)), layout=layout)
        for name, seen in sizes.items()
        if len(seen) == 1
    ]
    return _kept(twin, changes, lambda: holds(twin, doubles, expected, FLOAT64_TOLERANCE))


def _working_in_place(network: nn.Module) -> list[str]:
    """Activations that work in place and have their input copied for that."""
    return [
        name
        for name, module in network.named_modules()
        if getattr(module, "inplace", False) is True and not isinstance(module, (*ON_RESULT, torch.jit.ScriptModule))
    ]


def _padded_unequally(network: nn.Module) -> list[str]:
    """Convolutions that pad their input as it comes."""
    return [
        name
        for name, module in network.named_modules()
        if _plain(module, {Conv2dSame.forward}) and set(cast(Conv2dSame, module).dilation) == {1}
    ]


@contextmanager
def _watched(network: nn.Module, names: Sequence[str]) -> Iterator[dict[str, set[Size]]]:
    """(H, W) of all that submodules are given in the body, by their names."""
    sizes: dict[str, set[Size]] = defaultdict(set)

    def seen(name: str, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        height, width = inputs[0].shape[-2:]
        sizes[name].add((height, width))

    handles = [network.get_submodule(name).register_forward_pre_hook(partial(seen, name)) for name in names]
    try:
        yield sizes
    finally:
        for handle in handles:
            handle.remove()


def _spare(network: nn.Module, name: str) -> Undo:
    module: Any = network.get_submodule(name)
    if isinstance(module, nn.Hardtanh):
        return _put(network, name, InPlaceClamp(module))
    module.inplace = False

    def undo() -> None:
        module.inplace = True

    return undo


def _put_aligned(network: nn.Module, name: str, size: Size, layout: torch.memory_format) -> Undo:
    return _put(network, name, AlignedConv(cast(Any, network.get_submodule(name)), size, layout))


def _pack(
    network: nn.Module, points: Sequence[Tensor], dtype: torch.dtype | None, kinds: set[Callable[..., Any]]
) -> None:
    """Packs the weights of layers on the CPU; each proves itself on what it is given here."""
    given: dict[str, Tensor] = {}

    def seen(name: str, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        given.setdefault(name, inputs[0].detach())

    layers = [
        (name, module)
        for name, module in network.named_modules()
        if (isinstance(module, AlignedConv) and nn.Conv2d.forward in kinds) or _plain(module, kinds)
    ]
    if not layers or points[0].device.type != "cpu":
        return
    forward = _under_autocast(network, dtype)
    handles = [module.register_forward_pre_hook(partial(seen, name)) for name, module in layers]
    try:
        first = all_answers(forward, points[:1])
        for handle in handles:
            handle.remove()
        expected = first + all_answers(forward, points[1:])
    except torch.OutOfMemoryError:
        raise
    except Exception:  # which the network raises again where it is used
        return
    finally:
        for handle in handles:
            handle.remove()
    changes: list[Change] = []
    for name, values in given.items():
        with torch.autocast(values.device.type, dtype=dtype, enabled=dtype is not None):
            module = packed(network.get_submodule(name), values)
        if module is not None:
            changes.append(partial(_put, name=name, module=module))
    given.clear()
    # A network may look at its layers' weights, which a packed layer does not show.
    _kept(network, changes, lambda: holds(forward, points, expected, LOW_PRECISION_TOLERANCE))


def _put(network: nn.Module, name: str, module: nn.Module) -> Undo:
    before = network.get_submodule(name)
    network.set_submodule(name, module)
    return lambda: network.set_submodule(name, before)


def _under_autocast(network: nn.Module, dtype: torch.dtype | None) -> Forward:
    def forward(points: Tensor) -> Tensor:
        with torch.autocast(points.device.type, dtype=dtype, enabled=dtype is not None):
            logits: Tensor = network(points)
        return logits

    return forward


def _pairs(network: nn.Module, points: Tensor) -> list[tuple[str, str]]:
    """Names (layer, norm) where the norm takes the layer's output and nothing else takes it.

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


def _forward_of(module: nn.Module) -> object:
    """The forward function of a module's class; scripted modules have none."""
    return getattr(type(module), "forward", None)


def _plain(module: nn.Module, forwards: Collection[Callable[..., Any]]) -> bool:
    """Whether a module computes one of `forwards` from its own parameters, with nothing attached."""
    attached = (
        module._forward_hooks or module._forward_pre_hooks or module._backward_hooks or module._backward_pre_hooks
    )
    own = _forward_of(module) in forwards and "forward" not in vars(module)
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


def _lower(network: nn.Module, points: Sequence[Tensor], dtype: torch.dtype) -> None:
    """Stores weights in `dtype` where the network gives the same under autocast, with and without gradients."""

    forward = _under_autocast(network, dtype)

    def found(point: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        with torch.no_grad():
            plain = forward(point)
        logits, gradient = answers(forward, point)
        return plain, logits.detach(), gradient

    def same(point: Tensor, expected: tuple[Tensor, Tensor, Tensor]) -> bool:
        plain, logits, gradient = found(point)
        return (
            torch.equal(plain, expected[0])
            and torch.equal(logits, expected[1])
            and close((gradient,), expected[2:], LOW_PRECISION_TOLERANCE)
        )

    try:
        before = [found(point) for point in points]
    except torch.OutOfMemoryError:
        raise
    except Exception:  # which the network raises again where it is used
        return
    names = [name for name, module in network.named_modules() if _plain(module, LAYERS)]
    changes: list[Change] = [partial(_store, name=name, dtype=dtype) for name in names]
    _kept(network, changes, lambda: all(map(same, points, before)))


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
        answers(_under_autocast(network, dtype), points)
    except Exception as error:
        reason = str(error).partition("\n")[0]
        raise ModelError(f"torch.compile failed on {type(network).__name__}: {reason}") from error
