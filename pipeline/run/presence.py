"""Whether there is a run at a path, asked before anything large is imported."""

from __future__ import annotations

from pipeline.run.layout import RUN
from pipeline.storage import open_storage
from pipeline.storage.base import is_object_url
from ssig.errors import UsageError


def require_run(path: str) -> None:
    """Refuses a local path that holds no run. Object stores are not asked: that takes long, and is done later.

    Raises:
        UsageError: there is no run.
    """
    if is_object_url(path):
        return
    storage = open_storage(path)
    if storage.entry(RUN) is None:
        raise UsageError("run", storage.root, f"a run directory, one that holds {RUN}")
