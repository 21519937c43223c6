"""No method or metric mixes tensors of the host and of a device: tried on a device that is not there.

Where a GPU is found, `tests/gpu` tries all of it again for real.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SUPPORT = ROOT / "tests" / "support"
LEAST = {"mixes": 15, "methods": 60, "metrics": 50, "runs": 12}


def faults(script: str, *arguments: str) -> tuple[dict[str, str], int]:
    """What failed on the pretend device, and how much was tried."""
    path = os.pathsep.join((str(ROOT), str(SUPPORT)))
    done = subprocess.run(
        [sys.executable, str(SUPPORT / script), *arguments],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    tried: dict[str, str] = json.loads(done.stdout)
    return {name: fault for name, fault in tried.items() if fault}, len(tried)


def test_what_a_device_refuses_is_refused() -> None:
    found, tried = faults("on_pretend_device.py", "mixes")
    assert not found
    assert tried >= LEAST["mixes"]


@pytest.mark.parametrize("kind", ["methods", "metrics"])
def test_each_choice_of_an_option_runs_on_a_device(kind: str) -> None:
    found, tried = faults("on_pretend_device.py", kind)
    assert not found
    assert tried >= LEAST[kind]


def test_the_python_surface_and_whole_units_run_on_a_device(tmp_path: Path) -> None:
    found, tried = faults("runs_on_pretend_device.py", str(tmp_path))
    assert not found
    assert tried >= LEAST["runs"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["methods", "metrics"])
def test_every_choice_of_every_method_and_metric_runs_on_a_device(kind: str) -> None:
    found, _ = faults("on_pretend_device.py", kind, "all")
    assert not found


@pytest.mark.slow
def test_whole_units_under_many_methods_run_on_a_device(tmp_path: Path) -> None:
    found, _ = faults("runs_on_pretend_device.py", str(tmp_path), "all")
    assert not found
