"""Two folders swap their names in one step, where the system can do that.

Linux can: `renameat2` with `RENAME_EXCHANGE`, which Python does not offer, on ext4, XFS, Btrfs, tmpfs and others. Who
reads either name sees the one folder or the other, whole, at every instant.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import os
import sys
from collections.abc import Callable
from pathlib import Path

_AT_FDCWD = -100  # paths are relative to the working folder, as usual
_RENAME_EXCHANGE = 2
# The C library, the system, or the file system does not know the call.
_CANNOT = frozenset({errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EPERM})


def exchanged(one: Path, other: Path) -> bool:
    """Swaps two folders of one file system; False where the system cannot, and they are as they were.

    Raises:
        OSError: one of them is not there, or may not be renamed.
    """
    call = _renameat2()
    if call is None:
        return False
    if call(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number in _CANNOT:
        return False
    raise OSError(number, os.strerror(number), str(one), None, str(other))


@functools.cache
def _renameat2() -> Callable[..., int] | None:
    """The call; None where the C library has none."""
    if not sys.platform.startswith("linux"):
        return None
    call = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if call is not None:
        path = ctypes.c_char_p
        call.argtypes = (ctypes.c_int, path, ctypes.c_int, path, ctypes.c_uint)
    return call
