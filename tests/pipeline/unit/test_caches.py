"""Sizes that one process tunes, the others read: no two measure on one device at once."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from pipeline.unit.caches import SIZES_FILE, StoredSizes, locked
from ssig.acceleration.tuning import Setting, TuningKey

KEY = TuningKey("net", "a GPU", "fp32", (224, 224))

# Measures for a while if it must; writes what it did.
PROCESS = """
import sys, time
from pathlib import Path
from pipeline.unit.caches import StoredSizes
from ssig.acceleration.tuning import Setting, TuningKey

folder, device, network = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
key = TuningKey(network, "a GPU", "fp32", (224, 224))
sizes = StoredSizes(folder)
(folder / f"{sys.argv[4]}-started").touch()
while len(list(folder.glob("*-started"))) < 2:  # both have read the file before one of them stores
    time.sleep(0.01)

def measure():
    with (folder / "measured").open("a") as file:
        file.write("begin\\n")
    time.sleep(1.0)
    with (folder / "measured").open("a") as file:
        file.write("end\\n")
    return Setting(64)

assert sizes.find(key, device, measure) == Setting(64)
"""


def both(folder: Path, devices: tuple[str, str], networks: tuple[str, str]) -> list[str]:
    """Runs two processes at once; returns when measurements began and ended, in order."""
    processes = [
        subprocess.Popen([sys.executable, "-c", PROCESS, str(folder), device, network, str(number)])
        for number, (device, network) in enumerate(zip(devices, networks, strict=True))
    ]
    assert [process.wait(120) for process in processes] == [0, 0]
    return (folder / "measured").read_text().split()


def test_of_two_processes_on_one_device_one_tunes_and_the_other_reads(tmp_path: Path) -> None:
    assert both(tmp_path, ("GPU-1", "GPU-1"), ("net", "net")) == ["begin", "end"]
    assert StoredSizes(tmp_path).get(KEY) == Setting(64)


def test_two_networks_on_one_device_are_tuned_one_after_the_other(tmp_path: Path) -> None:
    assert both(tmp_path, ("GPU-1", "GPU-1"), ("net", "other")) == ["begin", "end", "begin", "end"]
    assert len(StoredSizes(tmp_path).dump()) == 2


def test_two_devices_are_tuned_at_once_and_both_are_stored(tmp_path: Path) -> None:
    assert both(tmp_path, ("GPU-1", "GPU-2"), ("net", "other")).count("begin") == 2
    assert len(StoredSizes(tmp_path).dump()) == 2


def test_a_device_that_stays_locked_is_not_waited_for_for_ever(tmp_path: Path) -> None:
    with locked(tmp_path / "GPU-1.lock", 1.0):
        assert StoredSizes(tmp_path, patience=0.2).find(KEY, "GPU-1", lambda: Setting(8)) == Setting(8)
    assert StoredSizes(tmp_path).get(KEY) == Setting(8)


def test_a_folder_that_cannot_be_used_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    sizes = StoredSizes(tmp_path / "file")
    assert sizes.find(KEY, "GPU-1", lambda: Setting(8)) == Setting(8)
    assert sizes.find(KEY, "GPU-1", lambda: Setting(16)) == Setting(8)


def test_a_damaged_file_and_one_of_another_version_count_as_none(tmp_path: Path) -> None:
    for text in ("{", json.dumps([{"network": "net"}])):
        (tmp_path / SIZES_FILE).write_text(text)
        assert not StoredSizes(tmp_path).dump()
    assert StoredSizes(tmp_path).find(KEY, None, lambda: Setting(8)) == Setting(8)
    assert StoredSizes(tmp_path).get(KEY) == Setting(8)
