"""How a command on a run ends: its report, its exit code, and its summary.

0  everything done      3  finished, some samples failed or were quarantined      130  interrupted, to be resumed
1  units are left       2  wrong use, nothing was begun
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pipeline.driver.progress import Listener, Progress
from pipeline.report import is_report_of, write_report
from pipeline.run.directory import RunDirectory
from pipeline.run.labels import Label
from pipeline.run.layout import REPORT_PAGE
from pipeline.run.reader import Run
from pipeline.shards.manifest import Manifest
from pipeline.shards.samples import Status
from pipeline.shards.survey import Kind
from pipeline.storage import fault_points
from ssig.errors import DONE, FAILED_SAMPLES, INTERRUPTED, UNFINISHED, UsageError

NOTES = 3  # shards that are named


@dataclass(frozen=True)
class Ending:
    """What became of a command's units: how many there were to do, how many are done, which stay undone and why."""

    to_do: int = 0
    done: int = 0
    given_up: Mapping[str, str] = field(default_factory=dict)
    interrupted: bool = False


@dataclass(frozen=True)
class Summary:
    """How a run ended.

    Attributes:
        exit_code: 0 all attributed and reported, 1 unfinished, 3 some samples failed or are in quarantine,
            130 interrupted.
        run, report: the run, and its report; None if that could not be written.
        units_to_do, units_done: of this command.
        expected: samples of the manifest.
        statuses: committed rows by status under each method label.
        given_up: units that stay undone, with the reason.
        shard_faults: faults of shards that the manifest recorded.
        notes: what a person should know of the shards, one line each.
    """

    exit_code: int
    run: str
    report: str | None
    units_to_do: int
    units_done: int
    expected: int
    statuses: Mapping[str, Mapping[str, int]]
    given_up: Mapping[str, str] = field(default_factory=dict)
    shard_faults: int = 0
    notes: tuple[str, ...] = ()


def finish(
    directory: RunDirectory,
    labels: Sequence[Label],
    listener: Listener,
    progress: Progress,
    ending: Ending | None = None,
    reference: str | None = None,
) -> Summary:
    """Updates the report, and summarises from the commit records what is done under labels of a run.

    Args:
        directory: the run; it is refreshed.
        labels: those that were worked on.
        listener: receives `progress`.
        progress: the state that the listener receives.
        ending: how this command's work ended; None if there was nothing to do.
        reference: the method that the report compares with; None for the present report's, or the default.
    """
    ending = ending or Ending()
    fault_points.point("before-report", directory.root)
    directory.refresh()
    report: str | None = f"{directory.root}/{REPORT_PAGE}"
    if directory.unsealed is not None:  # a report is of all samples, and these are not known
        return _unlisted(directory, labels, ending)
    try:
        if not is_report_of(directory.storage, directory.digest(), reference):
            progress.phase = "writing the report"
            listener(progress, None)
            report = write_report(Run(directory), reference)
    # Storage failed: the same command, or `ssig report`, writes the report later.
    except (OSError, UsageError) as error:
        report = None
        listener(progress, f"the report could not be written: {error}")
    fault_points.point("after-report", directory.root)
    manifest = directory.manifest
    statuses = directory.statuses(labels)
    failed = any(status != Status.OK and count for counts in statuses.values() for status, count in counts.items())
    undone_count = len(directory.remaining(labels))
    if undone_count and ending.interrupted:
        code = INTERRUPTED
    elif undone_count or report is None:
        code = UNFINISHED
    else:
        code = FAILED_SAMPLES if failed or manifest.quarantine else DONE
    return Summary(
        exit_code=code,
        run=directory.root,
        report=report,
        units_to_do=ending.to_do,
        units_done=ending.done,
        expected=len(manifest),
        statuses=statuses,
        given_up=ending.given_up,
        shard_faults=len(manifest.quarantine),
        notes=shard_notes(manifest),
    )


def _unlisted(directory: RunDirectory, labels: Sequence[Label], ending: Ending) -> Summary:
    """How a command ended before all shards were listed."""
    manifest = directory.manifest
    return Summary(
        exit_code=INTERRUPTED if ending.interrupted else UNFINISHED,
        run=directory.root,
        report=None,
        units_to_do=ending.to_do,
        units_done=ending.done,
        expected=len(manifest),
        statuses=directory.statuses(labels),
        given_up=ending.given_up,
        shard_faults=len(manifest.quarantine),
        notes=(*shard_notes(manifest), *([directory.unsealed] if directory.unsealed else [])),
    )


def shard_notes(manifest: Manifest) -> tuple[str, ...]:
    """A line for each of the first shards without images."""
    imageless = [f"{record.shard}: {record.reason}" for record in manifest.quarantine if record.kind is Kind.IMAGELESS]
    further = [f"{len(imageless) - NOTES} more shards have no image"] if len(imageless) > NOTES else []
    return (*imageless[:NOTES], *further)
