"""Mends the environment of the process, where it can, before anything else is imported.

Notebooks, batch systems, containers and services start commands with standard streams that are closed or not UTF-8,
with a home that is missing or read-only, with another matplotlib backend, or with a proxy for requests to localhost.
"""

from __future__ import annotations

import fcntl
import io
import os
import stat
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

LOOPBACK = ("localhost", "127.0.0.1", "::1")
PROXIES = ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")


def prepare() -> None:
    """Mends streams, proxies, the home and matplotlib's backend; calling it again changes nothing."""
    open_streams()
    ask_loopback_directly()
    find_a_home()
    os.environ["MPLBACKEND"] = "Agg"  # figures are files, whatever a notebook has set


def open_streams() -> None:
    """Opens standard streams that are closed, and lets the others print any text.

    A file that is opened while descriptor 2 is free becomes 2, and libraries then write their messages into it. What
    a stream's encoding lacks is printed as an escape.
    """
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        if not _is_open(number, writing=mode == "w"):
            _open_null(number)
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _is_open(number: int, writing: bool) -> bool:
    """Whether a descriptor is open, and open for writing if `writing`: a shell may have its script open there."""
    try:
        access = fcntl.fcntl(number, fcntl.F_GETFL) & os.O_ACCMODE
    except OSError:
        return False
    return not writing or access != os.O_RDONLY


def _open_null(number: int) -> None:
    """Opens the null device under this descriptor. Child processes inherit it."""
    opened = os.open(os.devnull, os.O_RDWR)
    if opened != number:
        os.dup2(opened, number)
        os.close(opened)
    os.set_inheritable(number, True)


def ask_loopback_directly() -> None:
    """Keeps requests to this machine from a proxy, which has another `localhost`."""
    if not any(os.environ.get(name) for name in PROXIES):
        return
    # Some libraries read the lower-case name, some the upper-case one.
    entries = [host for name in ("no_proxy", "NO_PROXY") for host in os.environ.get(name, "").split(",")]
    hosts = [host.strip() for host in entries if host.strip()]
    text = ",".join(dict.fromkeys([*hosts, *(host for host in LOOPBACK if host not in hosts)]))
    os.environ["no_proxy"] = os.environ["NO_PROXY"] = text


def find_a_home() -> None:
    """Sets the home to a temporary folder if it is unknown. Puts caches into one if the home is read-only."""
    try:
        home = Path.home()
    except RuntimeError:  # no HOME and no entry in the user database, as in containers that set a user id
        os.environ["HOME"] = _private_folder()
        os.environ.setdefault("USER", f"uid-{os.geteuid()}")  # torch asks for a name
        return
    with suppress(OSError), tempfile.TemporaryFile(dir=home):
        return
    for variable, name in (("MPLCONFIGDIR", "matplotlib"), ("TRITON_CACHE_DIR", "triton")):
        if variable not in os.environ:
            os.environ[variable] = os.path.join(_private_folder(), name)


def _private_folder() -> str:
    """A temporary folder that only this user can open: the same for every command, unless its name is taken."""
    folder = os.path.join(tempfile.gettempdir(), f"ssig-{os.geteuid()}")
    with suppress(FileExistsError):
        os.mkdir(folder, 0o700)
    entry = os.lstat(folder)
    is_private = stat.S_ISDIR(entry.st_mode) and entry.st_uid == os.geteuid() and not entry.st_mode & 0o077
    return folder if is_private else tempfile.mkdtemp(prefix="ssig-")
