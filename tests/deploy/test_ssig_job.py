"""`deploy/ssig-job`: finished with failed samples is success for a job queue; all else stays as it is."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SUPPORT = ROOT / "tests" / "support"
sys.path.insert(0, str(SUPPORT))

from tests_shards import members, write_tar  # noqa: E402

SCRIPT = ROOT / "deploy" / "ssig-job"


def with_program(folder: Path, text: str) -> dict[str, str]:
    """An environment whose `ssig` is a shell's lines."""
    folder.mkdir()
    (folder / "ssig").write_text(f"#!/bin/bash\n{text}\n")
    (folder / "ssig").chmod(0o755)
    return {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}


@pytest.mark.parametrize(("code", "expected"), [(0, 0), (1, 1), (2, 2), (3, 0), (130, 130)])
def test_exit_code_3_alone_is_changed_and_the_log_says_so(code: int, expected: int, tmp_path: Path) -> None:
    environment = with_program(tmp_path / "bin", f'echo "$@"; exit {code}')
    done = subprocess.run([SCRIPT, "attribute", "a job.yaml"], env=environment, capture_output=True, text=True)
    assert done.returncode == expected
    first, *more = done.stdout.splitlines()
    assert first == "attribute a job.yaml"
    assert [json.loads(line)["ssig_exit_code"] for line in more] == ([3] if code == 3 else [])


@pytest.mark.parametrize("send", [os.kill, os.killpg])
def test_a_signal_is_passed_on_and_its_exit_code_waited_for(send: Callable[[int, int], None], tmp_path: Path) -> None:
    drain = "trap 'sleep 0.3; exit 130' TERM; touch ready; while :; do sleep 0.05; done"
    process = subprocess.Popen(
        [SCRIPT, "attribute"], env=with_program(tmp_path / "bin", drain), cwd=tmp_path, start_new_session=True
    )
    deadline = time.monotonic() + 30
    while not (tmp_path / "ready").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    send(process.pid, signal.SIGTERM)
    assert process.wait(timeout=30) == 130


@pytest.mark.slow
def test_a_run_with_a_damaged_image_is_a_success(tmp_path: Path) -> None:
    broken = dict(members(0, 3))
    name = next(name for name in broken if name.endswith(("jpg", "jpeg", "png")))
    broken[name] = b"no image"
    write_tar(tmp_path / "a.tar", list(broken.items()))
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(SUPPORT)]),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    options = ("--in-process", "--shards", "a.tar", "--model", "networks:tiny", "--method", "ig:steps=4", "--out=run")
    codes = []
    for program in (str(SCRIPT), "ssig"):
        done = subprocess.run([program, "attribute", *options], cwd=tmp_path, env=environment, capture_output=True)
        codes.append(done.returncode)
    assert codes == [0, 3]
