"""The library's tests under the arithmetic of other machines: plain kernels, and other rounding in every batch."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
# What the processor of another machine would make torch choose; the threads of a machine with more cores.
SETTINGS = {
    "avx2, two threads": {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "OMP_NUM_THREADS": "2"},
    "other rounding": {"SSIG_TEST_ROUNDING": "other"},
}


@pytest.mark.slow
@pytest.mark.parametrize("setting", SETTINGS)
def test_the_library_is_right_under_other_kernels(setting: str) -> None:
    environment = {**os.environ, **SETTINGS[setting]}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/ssig"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
