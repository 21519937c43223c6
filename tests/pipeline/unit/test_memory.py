"""What a process holds of the machine's memory."""

from __future__ import annotations

import mmap
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pipeline.unit.memory import memory

pytestmark = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="sizes are read from /proc")


def test_what_is_taken_shows_and_the_peak_stays() -> None:
    before = memory()
    assert before is not None
    size = 2**29
    taken = mmap.mmap(-1, size)  # beside the allocator, which may keep what it is given back
    np.frombuffer(taken, dtype=np.uint8)[:] = 1  # every page of it written
    during = memory(os.getpid())
    assert during is not None
    assert during.resident >= before.resident + size // 2
    taken.close()
    after = memory()
    assert after is not None
    slack = 2**24  # the kernel counts pages in batches
    assert after.peak + slack >= during.resident > after.resident


def test_a_process_that_is_gone_holds_nothing() -> None:
    process = subprocess.Popen([sys.executable, "-c", "pass"])
    while process.poll() is None:
        pass
    assert memory(process.pid) is None
