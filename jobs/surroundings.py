"""What a command needs of the process that it is started in, mended where it can be, before anything is imported.

Notebooks, batch systems, containers and services leave something out, or set it for themselves: standard streams that
are closed or not UTF-8, a home that cannot be written, matplotlib's window, a proxy that is asked for this machine.
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
    """Whether a descriptor is open; one that is to be written may be the file of a shell's script, read-only."""
    try:
        access = fcntl.fcntl(number, fcntl.F_GETFL) & os.O_ACCMODE
    except OSError:
        return False
    return not writing or access != os.O_RDONLY


def _open_null(number: int) -> None:
    """Makes a descriptor the null device, for processes that are started too."""
    opened = os.open(os.devnull, os.O_RDWR)
    if opened != number:
        os.dup2(opened, number)
        os.close(opened)
    os.set_inheritable(number, True)


def ask_loopback_directly() -> None:
    """Keeps requests to this machine from a proxy, which has another `localhost`."""
    if not any(os.environ.get(name) for name in PROXIES):
        return
    # Some libraries read the one, some the other.
    entries = [host for name in ("no_proxy", "NO_PROXY") for host in os.environ.get(name, "").split(",")]
    hosts = [host.strip() for host in entries if host.strip()]
    text = ",".join(dict.fromkeys([*hosts, *(host for host in LOOPBACK if host not in hosts)]))
    os.environ["no_proxy"] = os.environ["NO_PROXY"] = text


def find_a_home() -> None:
    """A folder of temporary files stands in for a home that is not known, and for caches in one that is read-only."""
    try:
        home = Path.home()
    except RuntimeError:  # no HOME, and the user has no entry: a container with a user id of its own
        os.environ["HOME"] = _private_folder()
        os.environ.setdefault("USER", f"uid-{os.geteuid()}")  # torch asks for a name
        return
    with suppress(OSError), tempfile.TemporaryFile(dir=home):
        return
    for variable, name in (("MPLCONFIGDIR", "matplotlib"), ("TRITON_CACHE_DIR", "triton")):
        if variable not in os.environ:
            os.environ[variable] = os.path.join(_private_folder(), name)


def _private_folder() -> str:
    """A folder of temporary files that is this user's alone, the same for each command if nobody else has made it."""
    folder = os.path.join(tempfile.gettempdir(), f"ssig-{os.geteuid()}")
    with suppress(FileExistsError):
        os.mkdir(folder, 0o700)
    entry = os.lstat(folder)
    is_private = stat.S_ISDIR(entry.st_mode) and entry.st_uid == os.geteuid() and not entry.st_mode & 0o077
    return folder if is_private else tempfile.mkdtemp(prefix="ssig-")
