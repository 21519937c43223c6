"""A command of ssig in another process, and the log of the run that it made."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

Event = Mapping[str, Any]


def ssig(*arguments: str) -> str:
    """What the command prints.

    Raises:
        RuntimeError: its exit code is not 0.
    """
    command = [str(Path(sys.executable).with_name("ssig")), *arguments]
    process = subprocess.run(command, check=False, capture_output=True, text=True)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}: {process.stderr or process.stdout}")
    return process.stdout


def events_of(run: Path) -> list[Event]:
    """The events in the log of a run."""
    return [json.loads(line) for log in (run / "logs").glob("*.jsonl") for line in log.read_text().splitlines()]


def times(events: Iterable[Event], kind: str) -> list[datetime]:
    """When events of a kind happened."""
    return [datetime.fromisoformat(event["time"]) for event in events if event["event"] == kind]
