"""Whether a network treats each image of a batch by itself, and the same way every time.

The logits of an image must not depend on the other images of its batch, or results would depend on how images are
batched. Two things are checked: the mode of each submodule, and the logits of an image that is evaluated twice alone
and then, at two positions, in a batch with images of another range.

    apart(a, b) = max |a - b| / max |l|,   l: all evaluated logits

Kernels for batches of different sizes differ by rounding, which a deep network amplifies. So a difference counts only
if it is also far above the effect of changing the last bits of the image.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parameter import is_lazy

from ssig.errors import ModelError
from ssig.models.outputs import logits_of

Network = Callable[[Tensor], Any]

# Largest effect of rounding, as a share of the largest logit. Statistics of a batch change tens of percent.
TOLERANCES = {torch.float64: 1e-9, torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 6e-2}
# Convolutions and matrix products of GPUs, and of `tf32` anywhere, may round their inputs to 10 bits.
GPU_TOLERANCE = 5e-3
# Precision of a `ssig.models.Model` -> type of its autocast.
LOW_PRECISIONS = {"fp16": torch.float16, "bf16": torch.bfloat16}
# Rounding happens in every layer and in many sums, but the last bits of the image change only once.
ABOVE_SENSITIVITY = 30.0
SENSITIVITY_DRAWS = 3
_SEED = 0


@dataclass(frozen=True)
class Independence:
    """The results of the check of a network that treats each image by itself.

    Attributes:
        logits: (p, classes) of a few points that differ in range and texture.
        one_at_a_time: batches of more than one image fail.
    """

    logits: Tensor
    one_at_a_time: bool


def check_modes(network: nn.Module) -> None:
    """Refuses a network with a submodule in training mode, or one that normalises by the batch; changes nothing.

    Raises:
        ModelError: with the name of the submodule.
    """
    fixed: list[str] = []
    for name, module in network.named_modules():
        if mode_is_fixed(module):
            fixed.append(f"{name}." if name else "")
        if module.training and not any(f"{name}.".startswith(prefix) for prefix in fixed):
            raise ModelError(
                f"{_called(name)} is in training mode, in which images of a batch may mix; call .eval() first"
                + (" (and let its train() keep to the mode that it is given)" if not network.training else "")
            )
        if isinstance(module, _BatchNorm) and module.running_mean is None:
            raise ModelError(
                f"{_called(name)} is a {type(module).__name__} without running statistics: it normalises each image "
                "by the others of its batch; use track_running_stats=True, or a norm of each image such as GroupNorm"
            )


def mode_is_fixed(module: nn.Module) -> bool:
    """Whether a module is a program of `torch.export`, which always runs in the mode of its export."""
    return "eval" in vars(module) and isinstance(module, torch.fx.GraphModule)


def check_independence(network: Network, image: Tensor) -> Independence:
    """Evaluates an image twice alone, and in a batch with others; buffers of the network are restored.

    Args:
        network: points (n, C, H, W) -> logits (n, classes) in any form that `logits_of` takes.
        image: (1, C, H, W), on the network's device; sets the shape and the range of points.

    Raises:
        ModelError: the network is random, or mixes the images of a batch; names the submodule if possible.
        torch.OutOfMemoryError: a single point does not fit the device.
        Exception: any error of the network for a single image.
    """
    image = image.detach()
    batch = probes(image)
    subject = batch[:1]
    with torch.no_grad(), torch.random.fork_rng(devices=[]), preserved(network), _uncompiled(network):
        alone, again = (_evaluated(network, subject) for _ in range(2))
        together, one_at_a_time = _in_batch(network, batch)
        outputs = [alone, again] if together is None else [alone, again, together]
        rounding = _Rounding(network, subject, torch.cat(outputs))
        apart = rounding.apart(alone, again)
        if not rounding.within(apart):
            raise ModelError(_random(network, subject, apart))
        rows = () if together is None else (0, len(together) - 1)
        for row in rows:
            apart = rounding.apart(alone, outputs[-1][row : row + 1])
            if not rounding.within(apart) and apart > ABOVE_SENSITIVITY * rounding.sensitivity():
                raise ModelError(_mixed(network, subject, batch, row, apart))
    if together is None:
        return Independence(alone, one_at_a_time)
    return Independence(together[:-1], one_at_a_time)


# id of a network -> weak reference, state and result; weak, so that no network stays in memory.
_RESULTS: dict[int, tuple[Any, tuple[Any, ...], Independence]] = {}


def independent(network: nn.Module, image: Tensor) -> Independence:
    """`check_modes` and `check_independence`, the latter once for the same network, weights and shape of image."""
    check_modes(network)
    state = _state(network, image)
    earlier = _RESULTS.get(id(network))
    if earlier is not None and earlier[0]() is network and earlier[1] == state:
        return earlier[2]
    independence = check_independence(network, image)
    key = id(network)
    _RESULTS[key] = (weakref.ref(network, lambda _: _RESULTS.pop(key, None)), state, independence)
    return independence


def probes(image: Tensor) -> Tensor:
    """(4, C, H, W) from an image (1, C, H, W): it at half contrast, noise, black and white, and the first again.

    The first is the one to compare. The others have another range, mean and variance, so that every kind of
    normalisation by the batch is noticed.
    """
    low, high = image.amin(), image.amax()
    span = high - low if high > low else torch.ones_like(high)
    noise = torch.rand(image.shape, generator=torch.Generator().manual_seed(_SEED)).to(image)
    subject = low + span * (0.25 + 0.5 * (image - low) / span)
    extremes = low + span * (noise > 0.7).to(image.dtype)
    return torch.cat([subject, low + span * noise, extremes, subject])


@contextmanager
def preserved(network: Network) -> Iterator[None]:
    """Restores the buffers that a forward pass in the body changes or replaces."""
    if not isinstance(network, nn.Module):
        yield
        return
    buffers = [
        (module, name, buffer, buffer._version, buffer.clone())
        for module in network.modules()
        for name, buffer in module.named_buffers(recurse=False)
        if not is_lazy(buffer)
    ]
    try:
        yield
    finally:
        with torch.no_grad():
            for module, name, buffer, version, value in buffers:
                # Kernels of batch norm write their statistics without a new version.
                if buffer._version != version or not torch.equal(buffer, value):
                    buffer.copy_(value)
                if getattr(module, name, None) is not buffer and not isinstance(module, torch.jit.ScriptModule):
                    setattr(module, name, buffer)


class _Rounding:
    """The distance of logits, and the part of it that rounding may cause."""

    def __init__(self, network: Network, subject: Tensor, outputs: Tensor) -> None:
        self._network, self._subject = network, subject
        self._scale = max(float(outputs.nan_to_num(posinf=0.0, neginf=0.0).abs().max()), 1e-30)
        kinds = {outputs.dtype, subject.dtype} | (
            {p.dtype for p in network.parameters() if p.is_floating_point()}
            if isinstance(network, nn.Module)
            else set()
        )
        if torch.is_autocast_enabled(subject.device.type):
            kinds.add(torch.get_autocast_dtype(subject.device.type))
        precision = getattr(network, "precision", None)
        kinds |= {LOW_PRECISIONS[precision]} if precision in LOW_PRECISIONS else set()
        self._tolerance = max(TOLERANCES.get(kind, 0.0) for kind in kinds)
        if subject.device.type != "cpu" or precision == "tf32":
            self._tolerance = max(self._tolerance, GPU_TOLERANCE)

    def apart(self, logits: Tensor, others: Tensor) -> float:
        return float((logits.nan_to_num() - others.nan_to_num()).abs().max()) / self._scale

    def within(self, apart: float) -> bool:
        """Whether kernels for other batch sizes may cause such a difference by rounding."""
        return apart <= self._tolerance

    def sensitivity(self) -> float:
        """The largest distance of logits when the last bits of the image change."""
        generator = torch.Generator().manual_seed(_SEED)
        step = 2 * torch.finfo(self._subject.dtype).eps
        base = _evaluated(self._network, self._subject)
        moved = []
        for _ in range(SENSITIVITY_DRAWS):
            signs = torch.randn(self._subject.shape, generator=generator).sign().to(self._subject)
            moved.append(self.apart(base, _evaluated(self._network, self._subject * (1 + step * signs))))
        return max(moved)


def _evaluated(network: Network, points: Tensor) -> Tensor:
    logits = logits_of(network(points.clone()), len(points))
    if logits.ndim != 2 or len(logits) != len(points):
        shape = tuple(logits.shape)
        raise ModelError(f"the network gave {shape} for {len(points)} points; expected (n, classes)")
    return logits.detach()


def _in_batch(network: Network, batch: Tensor) -> tuple[Tensor | None, bool]:
    """The logits of a batch, or None if it fails; and whether the network takes only one image at a time."""
    try:
        return _evaluated(network, batch), False
    except torch.OutOfMemoryError:
        return None, False
    except Exception:  # a network that takes no such batch may raise anything
        return None, True


def _random(network: Network, subject: Tensor, apart: float) -> str:
    where = _culprit(network, subject, subject, 0)
    return (
        f"the network is random in evaluation mode: the same image gives logits {_percent(apart)} apart, from "
        f"{where}; what draws must stop in evaluation mode, such as F.dropout(x, training=self.training)"
    )


def _mixed(network: Network, subject: Tensor, batch: Tensor, row: int, apart: float) -> str:
    where = _culprit(network, subject, batch, row)
    return (
        f"the network mixes the images of a batch: an image alone and beside {len(batch) - 1} others gives logits "
        f"{_percent(apart)} apart, from {where}; normalise by each image, or by statistics of the training set"
    )


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %"


def _culprit(network: Network, subject: Tensor, batch: Tensor, row: int) -> str:
    """The first submodule with equal inputs and different outputs; the network if hooks cannot find one."""
    if not isinstance(network, nn.Module):
        return "the network"
    try:
        first = _record(network, subject)
        second = _record(network, batch)
    except Exception:  # programs take no hooks, and submodules that mix images may raise anything
        return "the network"
    limit = max(TOLERANCES[torch.float32], GPU_TOLERANCE if subject.device.type != "cpu" else 0.0)

    def alike(alone: Tensor, batched: Tensor) -> bool:
        part = batched if alone.shape == batched.shape else batched[row : row + 1]
        if part.shape != alone.shape:
            return True  # no row for each image, so the tensors cannot be compared
        scale = max(float(batched.abs().max()), 1e-30) if batched.numel() else 1.0
        return not alone.numel() or float((alone - part).nan_to_num().abs().max()) <= limit * scale

    for (name, *alone), (other, *batched) in zip(first, second, strict=False):
        if name != other:
            break
        if alike(alone[0], batched[0]) and not alike(alone[1], batched[1]):
            return _called(name)
    return "the network"


def _record(network: nn.Module, points: Tensor) -> list[tuple[str, Tensor, Tensor]]:
    """Name, input and output of each submodule that takes and returns a tensor, in the order in which they finish."""
    records: list[tuple[str, Tensor, Tensor]] = []
    before: dict[str, Tensor] = {}

    def enter(name: str, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        if inputs and isinstance(inputs[0], Tensor):
            before[name] = inputs[0].clone()  # submodules that work in place change it

    def leave(name: str, module: nn.Module, inputs: tuple[Any, ...], output: object) -> None:
        module_input = before.pop(name, None)
        if module_input is not None and isinstance(output, Tensor):
            records.append((name, module_input.float(), output.float().clone()))

    handles = []
    try:
        for name, module in network.named_modules():
            handles.append(module.register_forward_pre_hook(partial(enter, name)))
            handles.append(module.register_forward_hook(partial(leave, name)))
        network(points.clone())
    finally:
        for handle in handles:
            handle.remove()
    return records


def _called(name: str) -> str:
    return f"submodule {name!r}" if name else "the network"


def _state(network: nn.Module, image: Tensor) -> tuple[Any, ...]:
    """The state that a result holds for: the weights by address and version, and the shape of the image."""
    tensors = [tensor for tensor in (*network.parameters(), *network.buffers()) if not is_lazy(tensor)]
    versions = tuple((tensor.data_ptr(), tensor._version, tensor.dtype) for tensor in tensors)
    return (*image.shape[1:], image.dtype, image.device, versions)


def _uncompiled(network: Network) -> AbstractContextManager[Any]:
    """Runs a compiled network without compilation, which would be repeated for each size of batch."""
    if isinstance(network, nn.Module) and any(_is_compiled(module) for module in network.modules()):
        stance: AbstractContextManager[Any] = torch.compiler.set_stance("force_eager")
        return stance
    return nullcontext()


def _is_compiled(module: nn.Module) -> bool:
    return getattr(module, "_compiled_call_impl", None) is not None or type(module).__name__ == "OptimizedModule"
