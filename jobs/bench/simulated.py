"""An actor that sleeps where a real one computes. Nothing heavy is imported: dozens of them fit a small machine."""

from __future__ import annotations

import os
import sys
import threading
import time
from typing import Any

from pipeline.unit.messages import Done, Task


class SimulatedActor:
    """Answers the calls of `pipeline.driver.actor.AttributionActor`, but for those after a failure: it never fails.

    Args:
        seconds: for each sample. As on a real device one unit is under way at a time, and another waits behind it.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._device = threading.Lock()

    def ready(self) -> dict[str, Any]:
        return {"pid": os.getpid(), "has_torch": "torch" in sys.modules}

    def process(self, task: Task) -> Done:
        seconds = len(task.rows) * self._seconds
        with self._device:
            time.sleep(seconds)
        statuses = {label: {"ok": len(task.rows)} for label in task.labels}
        return Done(task.unit, task.attempt, statuses, seconds)

    def under_way(self) -> float:
        return 0.0

    def watch(self) -> None:
        threading.Event().wait()
