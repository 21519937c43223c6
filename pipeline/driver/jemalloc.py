"""The memory allocator of actors on the CPU: jemalloc, where Ray brings it along, in place of the C library's.

An actor has blocks of all sizes come and go on several threads. glibc spreads them over an arena that is two to three
times as large as what it holds, and grows; jemalloc keeps them together, on large pages. It must be loaded when
a process starts, so it is set in the environment of an actor.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

# Pages are kept until `ssig.acceleration.allocator.return_memory`, and are large; all threads share what is free, and
# a small block may be cut from any free one (by default of 64 times its size at most, so that what is kept grows
# without a bound).
SETTINGS = "dirty_decay_ms:-1,muzzy_decay_ms:-1,narenas:1,lg_extent_max_active_fit:20,thp:always"


def preloaded(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The environment variables that load jemalloc; none where it is missing, or the user preloads something.

    On a node with Ray in another folder than on the driver's, the loader prints a warning and goes on without it.
    """
    ray = find_spec("ray")
    if not sys.platform.startswith("linux") or "LD_PRELOAD" in environment or ray is None or ray.origin is None:
        return {}
    library = Path(ray.origin).parent / "core" / "libjemalloc.so"
    if not library.exists():
        return {}
    return {"LD_PRELOAD": str(library), "MALLOC_CONF": environment.get("MALLOC_CONF", SETTINGS)}
