"""A Ray of the command's own on this machine: what it needs here, and why it could not be started.

Ray writes sockets and logs below ``$TMPDIR/ray``, objects into /dev/shm, and a token into the home. The path of a
socket ends at 107 bytes, which the temporary folders of batch systems exceed. Its processes get a session of their
own: a signal for the whole process group (`timeout`, a terminal) would else take Ray from a driver that drains.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ray._private import services

from ssig.errors import SsigError

# Of a Unix socket's path, in bytes; and of what Ray puts behind its folder, with the longest process id.
LONGEST_SOCKET = 107
SOCKET = "session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store"
SHARED_MEMORY = "/dev/shm"
FALLBACKS = ("/tmp", "/var/tmp")


class RayStartError(SsigError):
    """Ray could not be started on this machine."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"Ray could not be started here: {reason}")


@contextmanager
def prepared() -> Iterator[dict[str, Any]]:
    """Options of `ray.init` for this machine.

    Ray's processes start in their own sessions meanwhile. None of them is left afterwards.

    Raises:
        RayStartError: something that Ray needs is not to be had here.
    """
    _check_shared_memory()
    _have_a_token()
    with _folder() as options, _own_sessions():
        yield options


def _check_shared_memory() -> None:
    if not sys.platform.startswith("linux"):
        return
    try:
        with tempfile.TemporaryFile(dir=SHARED_MEMORY):
            pass
    except OSError as error:
        raise RayStartError(
            f"{SHARED_MEMORY}, where it keeps its objects, cannot be written ({error.strerror}); "
            "mount it writable, in a container with --shm-size"
        ) from None


def _have_a_token() -> None:
    """A token for this Ray alone, where Ray has none and cannot write the one that it makes."""
    given = os.environ.keys() & {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"}
    if given or os.environ.get("RAY_AUTH_MODE", "token").lower() != "token":
        return
    folder = Path.home() / ".ray"
    if (folder / "auth_token").exists():
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError:
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)


@contextmanager
def _folder() -> Iterator[dict[str, Any]]:
    """Where Ray's sockets and logs go: Ray's own choice if that will do, else a short path that can be written."""
    named = os.environ.get("RAY_TMPDIR")
    chosen = named or os.environ.get("TMPDIR") or "/tmp"
    problem = _problem(os.path.join(chosen, "ray"))
    if problem is None:
        yield {}
        return
    if named is None:
        for parent in FALLBACKS:
            if _problem(os.path.join(parent, "ray-12345678")) is None:
                folder = tempfile.mkdtemp(prefix="ray-", dir=parent)
                try:
                    yield {"_temp_dir": folder}
                finally:
                    shutil.rmtree(folder, ignore_errors=True)
                return
    raise RayStartError(f"{problem}; name a short folder that can be written in RAY_TMPDIR")


def _problem(folder: str) -> str | None:
    """Why a folder is none for Ray's sockets; None if it is one."""
    if len(os.fsencode(os.path.join(os.path.abspath(folder), SOCKET))) > LONGEST_SOCKET:
        return f"{folder} is too long for the path of a socket"
    there = folder
    while not os.path.lexists(there):
        there = os.path.dirname(os.path.abspath(there))
    try:
        with tempfile.TemporaryFile(dir=there):
            return None
    except OSError as error:
        return f"{there} cannot be written ({error.strerror})"


@contextmanager
def _own_sessions() -> Iterator[None]:
    """Lets Ray start each process in its own session, which it has no option for, and ends what is left of them.

    A raylet that dies while its agents start leaves them behind: they look for it only later. They are in its process
    group, whose number is the raylet's process id.
    """
    popen = services.ConsolePopen
    leaders: list[int] = []

    def start(*arguments: Any, **options: Any) -> Any:
        process = popen(*arguments, **options, start_new_session=True)
        leaders.append(process.pid)
        return process

    services.ConsolePopen = start  # type: ignore[misc, assignment]
    try:
        yield
    finally:
        services.ConsolePopen = popen  # type: ignore[misc]
        for leader in leaders:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(leader, signal.SIGKILL)
