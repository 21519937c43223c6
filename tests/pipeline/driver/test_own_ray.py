"""What a Ray of the command's own needs of this machine: a short folder, shared memory, a token; and what is said."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from ray._private import services

from pipeline.driver.own_ray import LONGEST_SOCKET, SOCKET, RayStartError, prepared

LONG = "a" * 100


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_TMPDIR", "TMPDIR", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_AUTH_MODE"):
        monkeypatch.delenv(name, raising=False)


def options() -> dict[str, Any]:
    with prepared() as found:
        return dict(found)


def test_a_folder_that_will_do_is_left_to_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    assert options() == {}
    monkeypatch.setenv("TMPDIR", "/var/tmp")
    assert options() == {}


def test_a_long_folder_is_replaced_by_a_short_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long = tmp_path / LONG
    long.mkdir()
    monkeypatch.setenv("TMPDIR", str(long))
    with prepared() as found:
        folder = Path(found["_temp_dir"])
        assert folder.is_dir()
        assert folder.stat().st_mode & 0o077 == 0
        assert len(os.fsencode(folder / SOCKET)) <= LONGEST_SOCKET
    assert not folder.exists()
    assert list(long.iterdir()) == []


@pytest.mark.parametrize("parent", ["/proc", "/dev/null/below"])
def test_a_folder_that_cannot_be_written_is_replaced(parent: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", parent)
    assert set(options()) == {"_temp_dir"}


@pytest.mark.parametrize("folder", [f"/tmp/{LONG}", "/proc"])
def test_a_folder_that_the_user_names_is_not_replaced(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_TMPDIR", folder)
    with pytest.raises(RayStartError, match=f"could not be started here: {folder}.*RAY_TMPDIR"):
        options()


def test_shared_memory_that_cannot_be_written_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.driver.own_ray.SHARED_MEMORY", "/proc")
    with pytest.raises(RayStartError, match="/proc, where it keeps its objects, cannot be written"):
        options()


def test_a_token_of_its_own_only_where_the_home_cannot_hold_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    options()
    assert "RAY_AUTH_TOKEN" not in os.environ
    monkeypatch.setenv("HOME", "/proc")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", "/given")
    options()
    assert "RAY_AUTH_TOKEN" not in os.environ
    monkeypatch.delenv("RAY_AUTH_TOKEN_PATH")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "")  # so that what is set here is undone
    monkeypatch.delenv("RAY_AUTH_TOKEN")
    options()
    assert len(os.environ["RAY_AUTH_TOKEN"]) == 64
    monkeypatch.delenv("RAY_AUTH_TOKEN")


def test_ray_starts_processes_as_before_afterwards() -> None:
    popen = services.ConsolePopen
    options()
    assert services.ConsolePopen is popen


def test_a_process_that_outlives_the_one_which_started_it_is_ended() -> None:
    """As Ray's agents outlive a raylet that dies before they have looked for it."""
    with prepared():
        process = services.ConsolePopen(["sh", "-c", "sleep 600 & echo $!; exit"], stdout=subprocess.PIPE, text=True)
        agent = int(process.stdout.readline())
        assert os.getsid(agent) == process.pid
        os.kill(agent, 0)
    deadline = time.monotonic() + 10
    while is_alive(agent) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_alive(agent)


def is_alive(process: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
