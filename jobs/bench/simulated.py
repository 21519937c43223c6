"""An actor that sleeps instead of computing. It imports little, so that dozens fit on a small machine."""

from __future__ import annotations

import os
import sys
import threading
import time
from typing import Any

from pipeline.unit.messages import Done, Task


class SimulatedActor:
    """Has the methods of `pipeline.driver.actor.AttributionActor` except those for failures, since it never fails.

    Args:
        seconds: sleep per sample. Units run one at a time, as on a real device.
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
