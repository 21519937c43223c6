"""The memory of processes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple


class Memory(NamedTuple):
    """What a process holds of the machine's memory, and the most that it ever held, in bytes."""

    resident: int
    peak: int


def memory(pid: int | None = None) -> Memory | None:
    """The memory of this or another process of this machine; None if it is gone or the system has no ``/proc``."""
    try:
        status = Path(f"/proc/{pid or 'self'}/status").read_text()
    except OSError:
        return None
    sizes = dict(re.findall(r"^(VmRSS|VmHWM):\s*(\d+) kB$", status, re.MULTILINE))
    # A process that has ended and is not yet collected has no sizes.
    return Memory(1024 * int(sizes["VmRSS"]), 1024 * int(sizes["VmHWM"])) if len(sizes) == 2 else None
