"""A copy of a network for hooks: each step that Captum has a rule for is a module of its own.

Captum works on modules, each of them used once. So in the copy each use of a module without parameters and each ReLU
has a module of its own, in the order of the network's steps, and nothing is computed in place.

LRP         doubles the relevance at a sum of two branches. So each sum of two tensors is a module, too.
DeepLift    hooks the tensor between two steps for both: a pool behind a ReLU gets what the other has not yet changed.
            So each step gets a tensor of its own. And of windows that overlap it keeps one for each point. So those of
            a pool stand side by side (`ssig.extend.windows`).

A network whose output would change by that is copied as it is.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ssig.extend.windows import SideBySide, overlaps
from ssig.models.outputs import logits_of

_RELUS = frozenset({nn.functional.relu, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_})
_SUMS = frozenset({torch.add, Tensor.add, Tensor.add_})
_SAME = 1e-4  # of the largest logit: how far the copy may be off, by rounding
_RELU, _SUM = "relu()", "+"  # steps that are functions, beside those that have the names of modules
# Step -> how often one pass takes it; None for a network that is copied as it is.
_Uses = Mapping[str, int] | None


@dataclass(frozen=True)
class Manner:
    """What a copy needs beside a module for each step.

    Attributes:
        summing: a module of two tensors that gives their sum; without it sums stay what they are.
        apart: whether each step gets a tensor of its own, and pools windows that do not overlap.
    """

    summing: type[nn.Module] | None = None
    apart: bool = False


PLAIN = Manner()
_known: WeakKeyDictionary[nn.Module, dict[Manner, _Uses]] = WeakKeyDictionary()


def hookable(network: nn.Module, point: Tensor, manner: Manner = PLAIN) -> nn.Module:
    """A copy of a network for hooks, with the same parameters.

    Args:
        network: points (n, C, H, W) -> logits (n, classes).
        point: (1, C, H, W), one that the network takes. It is evaluated there when it is copied for the first time.
        manner: what the copy needs beside a module for each step.
    """
    known = _known.setdefault(network, {})
    if manner not in known:
        known[manner] = _uses(network, point, manner)
    uses = known[manner]
    return _copied(network) if uses is None else _Separated(network, uses, manner)


class _InTurn(nn.Module):
    """Several modules in place of one: each call of a pass goes to the next.

    Attributes:
        parts: the modules.
        turn: how many calls there were since the pass began.
        busy: how many such modules are being called; shared by those of a network.
        apart: as in `Manner`.
    """

    def __init__(self, part: nn.Module, count: int, busy: list[int], *, apart: bool) -> None:
        super().__init__()
        if apart and isinstance(part, nn.MaxPool2d) and overlaps(part):
            part = SideBySide(part)
        self.apart = apart
        self.parts = nn.ModuleList([part, *(copy.deepcopy(part) for _ in range(count - 1))])
        self.turn = 0
        self.busy = busy

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        part = self.parts[min(self.turn, len(self.parts) - 1)]
        self.turn += 1
        if self.apart:
            args = tuple(each.clone() if isinstance(each, Tensor) else each for each in args)
        with _counted(self.busy):
            return part(*args, **kwargs)


class _Separated(nn.Module):
    """A copy of a network in which each step is a module of its own.

    Args:
        network: what is copied.
        uses: of each step, how many modules it becomes.
        manner: as in `hookable`.
        counting: whether passes may take another number of steps, as when they are counted.
    """

    def __init__(
        self,
        network: nn.Module,
        uses: Mapping[str, int],
        manner: Manner,
        *,
        counting: bool = False,
    ) -> None:
        super().__init__()
        busy = [0]
        self.network = _copied(network)
        self.counting = counting
        functions: dict[str, type[nn.Module] | None] = {_RELU: nn.ReLU, _SUM: manner.summing}
        steps = {
            name: _InTurn(part(), uses[name], busy, apart=manner.apart)
            for name, part in functions.items()
            if part is not None and uses.get(name)
        }
        if steps:  # Captum takes an empty collection for a step without a rule
            self.functions = nn.ModuleDict(steps)
        parts = dict(self.network.named_modules(remove_duplicate=False))
        made: dict[int, _InTurn] = {}  # a module may have several names
        for name, part in parts.items():
            if uses.get(name):
                made[id(part)] = _InTurn(part, uses[name], busy, apart=manner.apart)
        for name, part in parts.items():
            if id(part) in made:
                parent, _, own = name.rpartition(".")
                setattr(parts[parent], own, made[id(part)])
        self.mode = _Functions(steps, busy)

    def forward(self, points: Tensor) -> Any:
        steps = self.turns()
        for step in steps.values():
            step.turn = 0
        with self.mode:
            outputs = self.network(points)
        if not self.counting and any(step.turn != len(step.parts) for step in steps.values()):
            raise RuntimeError("the network takes another number of steps at another point")
        return outputs

    def turns(self) -> dict[str, _InTurn]:
        """What stands for each step, by its name."""
        found = {**self.mode.steps, **dict(self.network.named_modules())}
        return {name: part for name, part in found.items() if isinstance(part, _InTurn)}


class _Functions(TorchFunctionMode):
    """Gives functions to the modules that stand for them, outside of all of these. Its effect is one thread's."""

    def __init__(self, steps: Mapping[str, _InTurn], busy: list[int]) -> None:
        super().__init__()
        self.steps = steps
        self._busy = busy

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if not self._busy[0]:
            if function in _RELUS and _RELU in self.steps:
                return self.steps[_RELU](args[0])
            if function in _SUMS and _SUM in self.steps and not kwargs and _are_alike(args):
                return self.steps[_SUM](*args)
        return function(*args, **(kwargs or {}))


def _uses(network: nn.Module, point: Tensor, manner: Manner) -> _Uses:
    """How often a pass takes each step that needs modules of its own; None where they would change the output."""
    try:
        steps = {name: 1 for name, part in network.named_modules() if _is_step(part)}
        functions = {_RELU: 1, _SUM: 1}
        counting = _Separated(network, {**steps, **functions}, manner, counting=True)
        with torch.no_grad():
            # A network may change the point itself.
            expected = logits_of(_copied(network)(point.clone()), 1)
            counting(point.clone())
            uses = {
                name: step.turn
                for name, step in counting.turns().items()
                if step.turn > 1
                or (step.turn and (manner.apart or name in functions or isinstance(step.parts[0], nn.ReLU)))
            }
            off = (logits_of(_Separated(network, uses, manner)(point.clone()), 1) - expected).abs().max()
    except (torch.OutOfMemoryError, MemoryError):
        raise
    except Exception:  # what a network's own code raises where it finds other modules
        return None
    return uses if off <= _SAME * expected.abs().max() else None


def _is_step(part: nn.Module) -> bool:
    """Whether a module is torch's own and has neither parts nor parameters, so that copies of it are the same."""
    is_torchs = type(part).__module__.startswith("torch.nn.modules.")
    return is_torchs and next(part.children(), None) is None and next(_tensors(part), None) is None


def _are_alike(args: tuple[Any, ...]) -> bool:
    """Whether these are two tensors that a network has computed, of one shape for each image."""
    computed = [each for each in args if isinstance(each, Tensor) and not isinstance(each, nn.Parameter)]
    return len(args) == len(computed) == 2 and args[0].ndim == args[1].ndim and args[0].shape[1:] == args[1].shape[1:]


@contextmanager
def _counted(busy: list[int]) -> Iterator[None]:
    busy[0] += 1
    try:
        yield
    finally:
        busy[0] -= 1


def _tensors(network: nn.Module) -> Iterator[Tensor]:
    return itertools.chain(network.parameters(), network.buffers())


def _copied(network: nn.Module) -> nn.Module:
    """A copy with the same parameters in which nothing is computed in place."""
    copied = copy.deepcopy(network, {id(tensor): tensor for tensor in _tensors(network)})
    for part in copied.modules():
        if getattr(part, "inplace", False) is True:
            setattr(part, "inplace", False)  # noqa: B010  not every module has it
    return copied
