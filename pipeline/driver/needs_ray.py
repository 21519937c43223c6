"""Says what to type where a command needs Ray and Ray is not installed."""

from __future__ import annotations

import sys
from importlib.util import find_spec

from ssig.errors import UsageError


def require_ray(field: str, found: str, instead: str) -> None:
    """Refuses to go on without Ray.

    Args:
        field, found: what asks for Ray.
        instead: what to type to do without.

    Raises:
        UsageError: Ray is not installed.
    """
    if sys.modules.get("ray") is None and ("ray" in sys.modules or find_spec("ray") is None):
        install = "pip install '.[run]' in the source folder of ssig"
        raise UsageError(field, found, f"{instead}, since Ray is not installed here; to install it type {install}")
