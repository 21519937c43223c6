"""Random schedules of faults over real images: `chaos.py` for a few seeds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from disturbed import record

pytestmark = [pytest.mark.data, pytest.mark.ray, pytest.mark.slow]


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_random_schedule_of_faults_loses_nothing(seed: int, dev_shards: list[Path]) -> None:
    command = [sys.executable, str(Path(__file__).with_name("chaos.py")), str(seed)]
    environment = {**os.environ, "SSIG_DEV_SHARDS": str(dev_shards[0].parent)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    found = json.loads(done.stdout.splitlines()[-1])
    times = sum(found["injected"].values())
    lost, twice, redone = found["lost"], found["duplicated"], found["redone"]
    record(fault=f"chaos, seed {seed}", step="random", injected=times, lost=lost, duplicated=twice, redone=redone)
    assert times, found
    assert (lost, twice, found["problems"]) == (0, 0, [])
    assert found["rows"] == 2 * found["images"]
    assert done.returncode == 0
