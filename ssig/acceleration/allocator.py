"""Settings of the C library for freed memory, which change the time of a CPU replica by up to a third.

By default glibc returns large blocks to the system, and each micro-batch takes them again, page fault by page fault.
Two thresholds of mallopt(3) control this: blocks above the first are mapped one by one and unmapped when freed, and
free memory above the second is trimmed. Threads that start later share one arena instead of one arena each.
"""

from __future__ import annotations

import ctypes

TRIM_THRESHOLD, MMAP_THRESHOLD, ARENA_MAX = -1, -3, -8
PURGE_ALL_ARENAS = b"arena.4096.purge"  # for jemalloc, if the process was started with it


def keep_memory() -> None:
    """Keeps freed memory for the next micro-batch; does nothing if the C library is not glibc."""
    _set(ARENA_MAX, 1)
    _set(MMAP_THRESHOLD, 2**30)
    _set(TRIM_THRESHOLD, 2**31 - 1)


def usual_memory() -> None:
    """Restores the thresholds that glibc itself reaches in a process with large blocks."""
    _set(MMAP_THRESHOLD, 32 * 2**20)
    _set(TRIM_THRESHOLD, 64 * 2**20)


def return_memory() -> None:
    """Returns unused pages to the system, once, from glibc or jemalloc.

    Freed memory fragments and grows as blocks of many sizes come and go. A call costs as much as the page faults that
    take the pages again, some tenths of a second for a gigabyte: call it between units, not between micro-batches.
    """
    library = ctypes.CDLL(None)
    if hasattr(library, "mallctl"):
        library.mallctl(PURGE_ALL_ARENAS, None, None, None, ctypes.c_size_t(0))
    elif hasattr(library, "malloc_trim"):
        library.malloc_trim(0)


def _set(parameter: int, value: int) -> None:
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(parameter, value)
