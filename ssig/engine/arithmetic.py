"""The arithmetic of a network's float32 operations, independent of the library's defaults and the user's settings.

    fp32              convolutions, recurrent layers and matrix products in float32
    tf32              their factors rounded to 10 bits, on devices that support it
    bf16, fp16        under autocast in those types; operations that autocast leaves in float32 stay there

The library's switches belong to the whole process. They are set during an evaluation and then restored. Evaluations
of one precision may overlap; evaluations of another precision wait.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

# Only the library's new interface is used: it raises an error when both are read.
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
    """The switches of the process: their current setting, their users, and their values before."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._inside = 0
        self._setting = ""
        self._before: list[str] = []
        self._waiting: Counter[str] = Counter()
        self._of_thread = threading.local()

    def enter(self, setting: str) -> None:
        thread_setting = getattr(self._of_thread, "setting", None)
        if thread_setting not in (None, setting):
            raise RuntimeError(f"an evaluation in {thread_setting} arithmetic cannot start one in {setting}")
        with self._changed:
            if thread_setting is None:
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
        self._of_thread.depth = getattr(self._of_thread, "depth", 0) + 1
        self._of_thread.setting = setting

    def leave(self) -> None:
        self._of_thread.depth -= 1
        if self._of_thread.depth == 0:
            self._of_thread.setting = None
        with self._changed:
            self._inside -= 1
            if self._inside == 0:
                for switch, before in zip(_SWITCHES, self._before, strict=True):
                    switch.fp32_precision = before
                self._changed.notify_all()

    def _free(self, setting: str) -> bool:
        """Whether an evaluation may start: none runs, or only ones with its setting, and no other setting waits."""
        others = any(count for waiting, count in self._waiting.items() if waiting != setting)
        return self._inside == 0 or (self._setting == setting and not others)


_switches = _Switches()


@contextmanager
def arithmetic(precision: str | None) -> Iterator[None]:
    """Sets the switches for a precision in the body, and restores them after it.

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
