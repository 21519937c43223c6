"""A copy of a network that computes the same logits and input gradients in less time.

Changes that alter only rounding are verified in float64 (`ssig.acceleration.exact`): batch norms are folded, copies
for in-place activations are avoided, and unequal padding becomes part of the kernels.

Convolutions run faster with channels last, but networks that depend on the memory layout, such as by `view`, may fail
with it. It is tried, and a network that fails keeps its layout.

Autocast casts frozen weights in every call, because its cache holds only weights that require gradients. Here they
are stored in low precision once, if logits stay bit-equal. On the CPU, some layers take a faster form
(`ssig.acceleration.packing`).

What is faster depends on the device. Given a `Stopwatch`, the layout and the changes that need not be faster are also
timed, and left out where they are slower.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from ssig.acceleration.changes import Change, Undo, apply_valid, forward_of, is_plain, put
from ssig.acceleration.choice import Race, Stopwatch
from ssig.acceleration.exact import LAYERS, NORMS, avoid_copy, exact_changes, fold, put_aligned
from ssig.acceleration.operators import AlignedConv
from ssig.acceleration.packing import one_thread, packed
from ssig.acceleration.proof import Forward, all_answers, answers, close, holds, proof_points
from ssig.engine.arithmetic import arithmetic
from ssig.engine.copying import copy_of
from ssig.errors import ModelError, UsageError, message_line, one_line
from ssig.models.model import PRECISIONS, check_precision

LOG = logging.getLogger(__name__)

PACKABLE: set[Callable[..., Any]] = {nn.Conv2d.forward, nn.Linear.forward, nn.LocalResponseNorm.forward}

# Relative L2 distances.
# In low precision logits must be bit-equal; gradients need not be, as some CUDA kernels add in any order.
LOW_PRECISION_TOLERANCE = 1e-2
# For sums in another order and their effect at kinks; confused pixels differ by more than 1.
LAYOUT_TOLERANCE = 0.1
# Compiled code in low precision rounds at other places.
COMPILED_TOLERANCE = 0.5

# What makes the changes that a device may be slower with. They are timed after all others are made.
OPTIONAL = (avoid_copy, put_aligned)

Compile = Literal["none", "default", "cuda-graphs"]
COMPILE_KINDS: tuple[Compile, ...] = get_args(Compile)


@dataclass(frozen=True)
class Optimised:
    """An optimised copy of a network, and the changes in it.

    Attributes:
        network: the copy, in evaluation mode, parameters frozen; the network itself if it cannot be copied.
        folded: batch norms folded into the layers before them.
        left: batch norms that are not folded.
        lowered: weights and biases stored in low precision.
        layout: of the weights and of the points.
        batches: whether the network takes more than one point at once.
        left_out: changes that do not work with the network, a sentence each.
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
    stopwatch: Stopwatch | None = None,
) -> Optimised:
    """A copy of `network` for input gradients; the network itself is not changed.

    Every submodule keeps its name: a folded batch norm becomes its activation or an identity. The layer before it
    then returns the batch norm's output.

    Args:
        network: (B, C, H, W) -> logits (B, classes); may be a `Model`.
        example: (B, C, H, W) noise on the network's device; only the first image is used. The points for verification
            are made from it (`ssig.acceleration.proof`): the network must treat other pixel values alike.
        precision: of the evaluations; with ``bf16`` or ``fp16`` the copy must run under the same autocast.
        keep: names of submodules whose outputs must not change: no batch norm outside is folded into them.
        compile: ``default`` for `torch.compile`. Gradients at a submodule's output then work only under
            ``torch.compiler.set_stance("force_eager")``. ``cuda-graphs`` is for the replica (`ssig.engine.graphs`).
        stopwatch: times the choices on the device; None keeps every change that gives the same answers.

    Raises:
        UsageError: an unknown precision or kind of compilation.
        ModelError: `torch.compile` failed.
    """
    check_precision(precision)
    if compile not in COMPILE_KINDS:
        raise UsageError("model.compile", compile, COMPILE_KINDS)
    points = proof_points(example[:1].detach())
    dtype, compiles = PRECISIONS[precision], compile == "default"
    with arithmetic(precision):
        try:
            copied = _frozen(copy_of(network))
        except ModelError as error:
            return Optimised(network, batches=_batches(network, points), left_out=(f"optimisation: {error}",))
        batches = _batches(copied, points)
        forward = _under_autocast(copied, dtype)
        race = None if stopwatch is None else Race(copied, forward, points[0], stopwatch, batches)
        layout, reason = _layout(copied, points, batches, race)
        left_out = [] if reason is None else [f"channels-last layout: {reason}"]
        changes = exact_changes(copied, points, keep, layout, in_place=not compiles)
        _apply(copied, changes, layout, race)
        if dtype is not None:
            _lower(copied, points, dtype)
        if compiles:
            left_out += _compile(copied, points, dtype, batches)
        else:
            _pack(copied, points, dtype, PACKABLE if layout == torch.channels_last else {nn.Linear.forward})
    return Optimised(
        network=copied,
        folded=sum(_makes(fold, change) for change in changes),
        left=sum(forward_of(module) in NORMS for module in copied.modules()),
        lowered=sum(parameter.dtype == dtype for parameter in copied.parameters()),
        layout=layout,
        batches=batches,
        left_out=tuple(left_out),
    )


def _makes(function: Callable[..., Undo], change: Change) -> bool:
    return isinstance(change, partial) and change.func is function


def _apply(network: nn.Module, changes: Sequence[Change], layout: torch.memory_format, race: Race | None) -> None:
    """Makes changes and brings the network into a layout; leaves out optional changes that are slower in a race."""
    optional = OPTIONAL if race is not None else ()
    for change in changes:
        if not any(_makes(function, change) for function in optional):
            change(network)
    network.to(memory_format=layout)
    for function in optional:
        group = [change for change in changes if _makes(function, change)]
        if race is not None and group and not race.apply(group, layout):
            LOG.info("%s runs without %s, which is slower on this device", type(network).__name__, function.__name__)


def _frozen(network: nn.Module) -> nn.Module:
    """The network in evaluation mode, without gradients of parameters."""
    with suppress(NotImplementedError):  # exported networks have no modes
        network.eval()
    return network.requires_grad_(False)


def _batches(network: nn.Module, points: Sequence[Tensor]) -> bool:
    """Whether the network takes two points at once; true if it fails for one point, an error reported elsewhere."""
    with torch.no_grad():
        try:
            network(points[0])
        except torch.OutOfMemoryError:
            raise
        except Exception:
            return True
        try:
            return len(network(torch.cat(list(points[:2])))) == 2
        except torch.OutOfMemoryError:
            return True  # this error does not depend on the network's code
        except Exception as error:
            LOG.info("%s takes no batch of 2: %s", type(network).__name__, error)
            return False


def _layout(
    network: nn.Module, points: Sequence[Tensor], batches: bool, race: Race | None
) -> tuple[torch.memory_format, str | None]:
    """Brings the network into the fastest layout that it can use; returns it, and why it cannot use channels last."""
    usual, fast = torch.contiguous_format, torch.channels_last
    network.to(memory_format=usual)
    if not any(isinstance(module, nn.Conv2d | nn.ConvTranspose2d) for module in network.modules()):
        return usual, None
    # With a single point some views work in both layouts.
    tried = torch.cat(list(points[:2])) if batches else points[0]
    try:
        expected = answers(network, tried)
    except torch.OutOfMemoryError:
        raise
    except Exception:  # the network raises it again when it is used
        return usual, None
    network.to(memory_format=fast)
    try:
        actual = answers(network, tried.contiguous(memory_format=fast))
        reason = None if close(actual, expected, LAYOUT_TOLERANCE) else "the network gives other values"
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        reason = message_line(str(error))
    if reason is None:
        return fast if race is None else race.layout(), None
    network.to(memory_format=usual)
    return usual, reason


def _pack(
    network: nn.Module, points: Sequence[Tensor], dtype: torch.dtype | None, kinds: set[Callable[..., Any]]
) -> None:
    """Packs the weights of layers on the CPU; each is verified on its inputs here."""
    inputs_of: dict[str, Tensor] = {}

    def record_input(name: str, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        inputs_of.setdefault(name, inputs[0].detach())

    layers = [
        (name, module)
        for name, module in network.named_modules()
        if (isinstance(module, AlignedConv) and nn.Conv2d.forward in kinds) or is_plain(module, kinds)
    ]
    if not layers or points[0].device.type != "cpu":
        return
    forward = _under_autocast(network, dtype)
    handles = [module.register_forward_pre_hook(partial(record_input, name)) for name, module in layers]
    try:
        first = all_answers(forward, points[:1])
        for handle in handles:
            handle.remove()
        expected = first + all_answers(forward, points[1:])
    except torch.OutOfMemoryError:
        raise
    except Exception:  # the network raises it again when it is used
        return
    finally:
        for handle in handles:
            handle.remove()
    changes: list[Change] = []
    for name, values in inputs_of.items():
        with torch.autocast(values.device.type, dtype=dtype, enabled=dtype is not None):
            module = packed(network.get_submodule(name), values)
        if module is not None:
            changes.append(partial(put, name=name, module=module))
    inputs_of.clear()
    # A network may read its layers' weights, which a packed layer does not have.
    with one_thread():
        apply_valid(network, changes, lambda: holds(forward, points, expected, LOW_PRECISION_TOLERANCE))


def _under_autocast(network: nn.Module, dtype: torch.dtype | None) -> Forward:
    def forward(points: Tensor) -> Tensor:
        with torch.autocast(points.device.type, dtype=dtype, enabled=dtype is not None):
            logits: Tensor = network(points)
        return logits

    return forward


def _lower(network: nn.Module, points: Sequence[Tensor], dtype: torch.dtype) -> None:
    """Stores weights in `dtype` if the network's answers under autocast stay the same, with and without gradients."""

    forward = _under_autocast(network, dtype)

    def answers_at(point: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        with torch.no_grad():
            plain = forward(point)
        logits, gradient = answers(forward, point)
        return plain, logits.detach(), gradient

    def same(point: Tensor, expected: tuple[Tensor, Tensor, Tensor]) -> bool:
        plain, logits, gradient = answers_at(point)
        return (
            torch.equal(plain, expected[0])
            and torch.equal(logits, expected[1])
            and close((gradient,), expected[2:], LOW_PRECISION_TOLERANCE)
        )

    try:
        before = [answers_at(point) for point in points]
    except torch.OutOfMemoryError:
        raise
    except Exception:  # the network raises it again when it is used
        return
    names = [name for name, module in network.named_modules() if is_plain(module, LAYERS)]
    changes: list[Change] = [partial(_store, name=name, dtype=dtype) for name in names]
    apply_valid(network, changes, lambda: all(map(same, points, before)))


def _store(network: nn.Module, name: str, dtype: torch.dtype) -> Undo:
    module = network.get_submodule(name)
    before = [(parameter, parameter.data) for parameter in module.parameters()]
    module.to(dtype)

    def undo() -> None:
        for parameter, data in before:
            parameter.data = data

    return undo


def _compile(network: nn.Module, points: Sequence[Tensor], dtype: torch.dtype | None, batches: bool) -> list[str]:
    """Compiles the network in place, so that its submodules keep their names; returns why it was not, a sentence each.

    Compiled code belongs to the process, so all threads use it. It is made for one point, and then for any number
    from two: both are compared with the network here, before any work.
    """
    forward = _under_autocast(network, dtype)
    tried = [points[0], *([torch.cat(list(points[:2])), torch.cat(list(points))] if batches else [])]
    try:
        expected = all_answers(forward, tried)
    except torch.OutOfMemoryError:
        raise
    except Exception:  # the network raises it again when it is used
        return []
    network.compile()
    try:
        if holds(forward, tried, expected, LAYOUT_TOLERANCE if dtype is None else COMPILED_TOLERANCE):
            return []
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        raise ModelError(f"torch.compile failed on {type(network).__name__}: {one_line(error)}") from error
    network._compiled_call_impl = None
    return ["compilation: the network gives other values"]
