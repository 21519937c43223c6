"""How the C library treats freed memory, which costs or saves a CPU replica up to a third of its time.

By default glibc hands large blocks back to the system, and each micro-batch takes them again, page fault by page
fault. The two thresholds of mallopt(3) decide: blocks above the first are mapped one by one and unmapped when freed,
and free memory above the second is trimmed. Threads that start later share one arena, or each would keep its own.
"""

from __future__ import annotations

import ctypes

TRIM_THRESHOLD, MMAP_THRESHOLD, ARENA_MAX = -1, -3, -8
PURGE_ALL_ARENAS = b"arena.4096.purge"  # of jemalloc, where the process was started with it


def keep_memory() -> None:
    """Keeps freed memory for the next micro-batch; does nothing where the C library is not glibc."""
    _set(ARENA_MAX, 1)
    _set(MMAP_THRESHOLD, 2**30)
    _set(TRIM_THRESHOLD, 2**31 - 1)


def usual_memory() -> None:
    """Goes back to what glibc's own thresholds grow to in a process that uses large blocks."""
    _set(MMAP_THRESHOLD, 32 * 2**20)
    _set(TRIM_THRESHOLD, 64 * 2**20)


def return_memory() -> None:
    """Hands the pages that hold nothing back to the system, once, whether glibc or jemalloc keeps them.

    What is kept gets holes as blocks of many sizes come and go, and grows with them. A call costs as much as faulting
    those pages in again, some tenths of a second for a gigabyte: right between units, wrong between micro-batches.
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
