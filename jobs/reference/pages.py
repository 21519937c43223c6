"""Which page is made by what."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from jobs.reference.commands import commands
from jobs.reference.entries import methods, metrics
from jobs.reference.job_file import job_file
from jobs.reference.lists import environment, exit_codes, tables

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "reference"
PAGES: dict[str, Callable[[], str]] = {
    "methods.md": methods,
    "metrics.md": metrics,
    "commands.md": commands,
    "job-file.md": job_file,
    "tables.md": tables,
    "environment.md": environment,
    "exit-codes.md": exit_codes,
}
