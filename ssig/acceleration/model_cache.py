"""A cache of ready replicas: a network of `load_model` is made ready at its first call, and again after a change.

Tuning takes seconds, so a network is tuned only when its past and present work would take longer than that. These
changes are detected: a tensor or its values, a module or a plain attribute of one, hooks, mode, device, precision,
and the number of threads.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from itertools import chain
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from ssig.acceleration.accelerator import synchronise
from ssig.acceleration.allocator import keep_memory, usual_memory
from ssig.acceleration.ready_replica import LEAST_IN_LANE, TUNING_SECONDS, fastest, prepared
from ssig.acceleration.tuning import Setting
from ssig.engine.replica import Replica
from ssig.models.model import Model
from ssig.types import SCORE_AND_GRADIENT

# Up to so many micro-batches, tuning is not considered.
FEW = 4
# The types of module attributes whose values can be compared.
_PLAIN = (bool, int, float, complex, str, bytes, type(None))

Timer = Callable[[], float]


class _Ready:
    """A network made ready, for one caller at a time; the caller holds `lock`."""

    def __init__(self, model: Model, layer: str | None) -> None:
        self.lock = threading.Lock()
        self._replica, self._lanes, self._noise = prepared(model, keep=() if layer is None else (layer,))
        lanes = 1 if self._lanes is None else len(self._lanes)
        self._setting = Setting(LEAST_IN_LANE * lanes if lanes > 1 else self._replica.micro_batch, lanes)
        self._tuned = self._replica.takes_batches is False
        self._spent = 0.0

    @contextmanager
    def replica(self, points: int, micro_batch: int | None, timer: Timer) -> Iterator[Replica]:
        """The replica for so many gradients, tuned first if that saves time."""
        replica = self._replica
        if replica.takes_batches is False:
            micro_batch = 1
        if micro_batch is None and not self._tuned and self._worth_tuning(points, timer):
            self._setting = fastest(replica, self._lanes, self._noise, timer)
            self._tuned = True
        self._use(self._setting if micro_batch is None else Setting(micro_batch, self._setting.lanes))
        started = timer()
        try:
            yield replica
        finally:
            self._spent += timer() - started
            if micro_batch is None:  # it may have been halved
                self._setting = Setting(replica.micro_batch, self._setting.lanes)

    def _use(self, setting: Setting) -> None:
        self._replica.micro_batch = setting.micro_batch
        self._replica.lanes = self._lanes if setting.lanes > 1 else None

    def _worth_tuning(self, points: int, timer: Timer) -> bool:
        """Whether all work so far and so many gradients take longer than tuning."""
        count = self._setting.micro_batch
        if self._spent <= TUNING_SECONDS and points <= FEW * count:
            return False
        self._use(self._setting)
        inputs = self._noise.expand(count, -1, -1, -1), torch.zeros(count, dtype=torch.int64)
        seconds = float("inf")
        for _ in range(2):  # the first call includes one-time work
            started = timer()
            self._replica.evaluate(*inputs, "logit", SCORE_AND_GRADIENT)
            synchronise(self._replica.device)
            seconds = min(seconds, timer() - started)
        return self._spent + seconds * points / count > TUNING_SECONDS


_lock = threading.Lock()
_cache: WeakKeyDictionary[Model, tuple[Hashable, _Ready]] = WeakKeyDictionary()


@contextmanager
def cached_replica(
    model: Model,
    points: int,
    *,
    micro_batch: int | None = None,
    layer: str | None = None,
    timer: Timer = time.perf_counter,
) -> Iterator[Replica]:
    """A ready replica of `model` for the body; other threads that need it wait.

    Args:
        model: the network; it is not changed.
        points: number of gradients that the body takes.
        micro_batch: points evaluated at once; by default a usual number, or the fastest after tuning.
        layer: a submodule whose output must not change: no batch norm is folded into it.
        timer: a clock, in seconds.
    """
    state = layer, *_state(model)
    with _lock:
        entry = _cache.get(model)
        ready = entry[1] if entry is not None and entry[0] == state else None
        if ready is None:
            ready = _Ready(model, layer)
            _cache[model] = state, ready
    on_cpu = model.device.type == "cpu"
    with ready.lock:
        if on_cpu:
            keep_memory()
        try:
            with ready.replica(points, micro_batch, timer) as replica:
                yield replica
        finally:
            if on_cpu:
                usual_memory()


def _state(model: Model) -> tuple[Hashable, ...]:
    """The state that a ready network depends on. Values are hashed, since not every change raises a version."""
    tensors = list(chain(model.parameters(), model.buffers()))
    return (
        torch.get_num_threads(),
        tuple(map(_identity, tensors)),
        _content(tensors),
        tuple(map(_module, model.modules())),
    )


def _identity(tensor: Tensor) -> Hashable:
    version = None if tensor.is_inference() else tensor._version
    return id(tensor), version, tensor.data_ptr(), tensor.device, tensor.dtype, tensor.shape, tensor.stride()


def _content(tensors: list[Tensor]) -> tuple[int, ...]:
    values = [torch.view_as_real(tensor) if tensor.is_complex() else tensor for tensor in tensors if tensor.numel()]
    hashes = [torch.hash_tensor(value.detach()) for value in values]
    return tuple(torch.stack(hashes).tolist()) if hashes else ()


def _module(module: nn.Module) -> Hashable:
    attributes = vars(module)
    hooks = (attributes.get("_forward_hooks"), attributes.get("_forward_pre_hooks"), attributes.get("_backward_hooks"))
    return (
        id(module),
        type(module),
        tuple(tuple(hook) for hook in hooks if hook),
        tuple((name, value) for name, value in attributes.items() if _comparable(value)),
        id(attributes.get("forward")),
    )


def _comparable(value: object) -> bool:
    return isinstance(value, _PLAIN) or (isinstance(value, tuple) and all(map(_comparable, value)))
