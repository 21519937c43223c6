"""What `attribute`, `demo` and `evaluate` print last: results, leaders, the report, and what to type next."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobs.commands.leaderboard import entries, verdicts
from jobs.commands.printing import counts, print_json
from ssig.errors import DONE, FAILED_SAMPLES

if TYPE_CHECKING:
    from pipeline.driver.ending import Summary


def conclude(summary: Summary, *, quiet: bool = False, as_json: bool = False) -> int:
    """Prints how a job ended and returns the exit code."""
    if as_json:
        print_json(record(summary))
    elif not quiet:
        print(*_lines(summary), sep="\n")
    return summary.exit_code


def record(summary: Summary) -> dict[str, Any]:
    """How a job ended, for a program."""
    return {
        "exit_code": summary.exit_code,
        "run": summary.run,
        "report": summary.report,
        "expected": summary.expected,
        "labels": list(summary.statuses),
        "counts": {label: dict(statuses) for label, statuses in summary.statuses.items()},
        "units_to_do": summary.units_to_do,
        "units_done": summary.units_done,
        "given_up": dict(summary.given_up),
        "shard_faults": summary.shard_faults,
        "notes": list(summary.notes),
        "leaderboard": [] if summary.report is None else entries(report_of(summary.run)),
    }


def link(path: str) -> str:
    """The address of a file that a terminal opens at a click; an object's URL as it is."""
    return path if "://" in path else Path(path).absolute().as_uri()


def _lines(summary: Summary) -> list[str]:
    printed = [_headline(summary)]
    printed += [
        f"  {label}: {summary.expected} samples expected, {counts(s)}" for label, s in summary.statuses.items()
    ]
    printed += [f"  unit {unit} is left undone: {reason}" for unit, reason in summary.given_up.items()]
    printed += [f"  {note}" for note in summary.notes]
    if summary.shard_faults:
        printed.append(f"  {summary.shard_faults} faults in shards; see {summary.run}/quarantine")
    complete = summary.exit_code in (DONE, FAILED_SAMPLES)
    if summary.report is not None:
        report = report_of(summary.run)
        printed += [*(verdicts(report) if complete or entries(report) else []), f"report: {link(summary.report)}"]
    if complete:
        printed.append(f"next: ssig browse {shlex.quote(summary.run)}")
    else:
        printed.append("next: type the same command again; it goes on where this one stopped")
    return printed


def _headline(summary: Summary) -> str:
    methods = len(summary.statuses)
    size = f"{summary.expected} images x {methods} method{'' if methods == 1 else 's'}"
    if summary.exit_code in (DONE, FAILED_SAMPLES):
        return f"{size}: complete" + ("" if summary.units_to_do else " before; nothing was left to do")
    return f"{size}: incomplete, {summary.units_done} of {summary.units_to_do} units done"


def report_of(run: str) -> Mapping[str, Any]:
    """The `report.json` of a run."""
    from pipeline.run.layout import REPORT_RECORD
    from pipeline.storage import open_storage

    record: Mapping[str, Any] = json.loads(open_storage(run).read(REPORT_RECORD))
    return record
