"""In what arithmetic a network's float32 operations run, whatever the library's defaults and the user's settings are.

    fp32              convolutions, recurrent layers and matrix products in float32
    tf32              their factors rounded to 10 bits, where the device has units for that
    bf16, fp16        under autocast in those types; what autocast leaves in float32, in float32

The library's switches belong to the whole process. They are set for the time of an evaluation and then put back;
evaluations of one precision may overlap, those of another wait.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

# The library's new interface alone: it refuses to be read through both.
_backends: Any = torch.backends
_SWITCHES: tuple[Any, ...] = (
    _backends.cudnn.conv,
    _backends.cudnn.rnn,
    _backends.cuda.matmul,
    _backends.mkldnn.conv,
    _backends.mkldnn.rnn,
    _backends.mkldnn.matmul,
)


class _Switches:
    """The switches of the process: who has set them to what, and what they were before."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._inside = 0
        self._setting = ""
        self._before: list[str] = []
        self._waiting: Counter[str] = Counter()
        self._own = threading.local()

    def enter(self, setting: str) -> None:
        own = getattr(self._own, "setting", None)
        if own not in (None, setting):
            raise RuntimeError(f"an evaluation in {own} arithmetic cannot ask for one in {setting}")
        with self._changed:
            if own is None:
                self._waiting[setting] += 1
                try:
                    self._changed.wait_for(lambda: self._free(setting))
                finally:
                    self._waiting[setting] -= 1
            if self._inside == 0:
                self._before = [switch.fp32_precision for switch in _SWITCHES]
                self._setting = setting
                for switch in _SWITCHES:
                    switch.fp32_precision = setting
            self._inside += 1
        self._own.depth = getattr(self._own, "depth", 0) + 1
        self._own.setting = setting

    def leave(self) -> None:
        self._own.depth -= 1
        if self._own.depth == 0:
            self._own.setting = None
        with self._changed:
            self._inside -= 1
            if self._inside == 0:
                for switch, before in zip(_SWITCHES, self._before, strict=True):
                    switch.fp32_precision = before
                self._changed.notify_all()

    def _free(self, setting: str) -> bool:
        """Whether an evaluation may begin: nobody is inside, or only those of its kind and nobody else waits."""
        others = any(count for waiting, count in self._waiting.items() if waiting != setting)
        return self._inside == 0 or (self._setting == setting and not others)


_switches = _Switches()


@contextmanager
def arithmetic(precision: str | None) -> Iterator[None]:
    """The switches are set in the body as a precision asks, and put back after it.

    Args:
        precision: one of `ssig.models.model.PRECISIONS`; None leaves the switches as they are.
    """
    if precision is None:
        yield
        return
    _switches.enter("tf32" if precision == "tf32" else "ieee")
    try:
        yield
    finally:
        _switches.leave()
