"""Which page is made by what."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from jobs.reference.citing import citing
from jobs.reference.commands import commands
from jobs.reference.cost import cost
from jobs.reference.entries import methods, metrics
from jobs.reference.job_file import job_file
from jobs.reference.lists import environment, exit_codes, tables

FOLDER = Path(__file__).resolve().parents[2] / "docs"
PAGES: dict[str, Callable[[], str]] = {
    "reference/methods.md": methods,
    "reference/metrics.md": metrics,
    "reference/commands.md": commands,
    "reference/job-file.md": job_file,
    "reference/tables.md": tables,
    "reference/environment.md": environment,
    "reference/exit-codes.md": exit_codes,
    "reference/cost.md": cost,
    "citing.md": citing,
}
