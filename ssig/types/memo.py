"""A cache of results."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

Result = TypeVar("Result")


class Memo:
    """Results by key, each made once for all threads.

    Args:
        most: largest number of results; the least recently used is dropped first. None for no limit.
    """

    def __init__(self, most: int | None = None) -> None:
        self._most = most
        # Reentrant, because making one result may need another.
        self._lock = threading.RLock()
        self._results: OrderedDict[Hashable, Any] = OrderedDict()

    def __call__(self, key: Hashable, make: Callable[[], Result]) -> Result:
        """The stored result of a key, or else `make()`. Other threads wait meanwhile."""
        with self._lock:
            if key not in self._results:
                # Dropped before `make`, so that at most `most` are in memory.
                while self._most is not None and self._results and len(self._results) >= self._most:
                    self._results.popitem(last=False)
                self._results[key] = make()
            self._results.move_to_end(key)
            result: Result = self._results[key]
            return result
