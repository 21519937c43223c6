"""Whether the actors of all nodes write to the same run directory."""

from __future__ import annotations

from pipeline.driver.executor import Executor, Member, RunError
from pipeline.storage.base import is_object_url


def check_shared(executor: Executor, member: Member, root: str, name: str) -> None:
    """Refuses a local output path that an actor on another node does not share.

    Args:
        executor, member: the actor that is asked.
        root: URL or path of the run.
        name: a file in it that this process has just written.

    Raises:
        RunError: the actor does not see the file.
    """
    if is_object_url(root) or executor.sees(member, name):
        return
    host = (member.info or {}).get("host")
    raise RunError(
        f"output.path: {root} is a local path that {host} does not see; give a shared file system or an s3:// or "
        "gs:// URL"
    )
