"""Compaction at the end of a driver, as `output.compact` asks for it.

It changes no result. Where it fails, the run is done all the same, and a later command goes on with it.
"""

from __future__ import annotations

from typing import Literal

from pipeline.driver.progress import Listener, Progress
from pipeline.run.compaction import compact, is_pending, planned, settle_all
from pipeline.run.directory import RunDirectory
from pipeline.run.lease import Lease, LeaseHeldError
from pipeline.run.records import RefusedError

Choice = Literal["auto", "all", "none"]
# A run of so many units is read well as it is: `auto` leaves its tables alone.
FEW_UNITS = 1000


def compact_at_end(
    directory: RunDirectory, lease: Lease, choice: Choice, listener: Listener, progress: Progress
) -> None:
    """Compacts the tables of finished labels.

    Args:
        directory: the run; it is refreshed.
        lease: of the run.
        choice: ``auto``: metrics of labels with many units; ``all``: every table; ``none``.
        listener: receives `progress` and what could not be done.
        progress: the state that the listener receives.

    Raises:
        LeaseHeldError: another driver has taken the run over.
    """
    if choice == "none":
        return

    def begin() -> None:
        progress.phase = "compacting tables"
        listener(progress, None)

    try:
        result = compact(directory, lease, maps=choice == "all", more_than=_few(choice), begin=begin)
    except (OSError, RefusedError) as error:
        listener(progress, f"the tables could not be compacted: {error}; `ssig compact {directory.root}` goes on")
        return
    for table, reason in result.failed.items():
        listener(progress, f"{table} was not compacted: {reason}")


def compact_finished(directory: RunDirectory, choice: Choice, listener: Listener, progress: Progress) -> None:
    """The same for a run in which nothing else is to do; takes its lease only if there is something to compact."""
    if not is_pending(directory) and not _has_plans(directory, choice):
        return
    try:
        with Lease(directory.storage) as lease:
            # What was cut off is finished even by a job that asks for no compaction.
            settle_all(directory, lease)
            compact_at_end(directory, lease, choice, listener, progress)
    except LeaseHeldError as error:
        listener(progress, f"the tables are compacted by a later command: {error}")


def _has_plans(directory: RunDirectory, choice: Choice) -> bool:
    if choice == "none":
        return False
    return bool(planned(directory, maps=choice == "all", more_than=_few(choice)).tables)


def _few(choice: Choice) -> int:
    return 1 if choice == "all" else FEW_UNITS
