"""Writes an export of a run: one function for each format that is a folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipeline.report.contents import contents
from pipeline.report.export.coverage import warnings
from pipeline.report.export.fiftyone import write_fiftyone
from pipeline.report.export.figures import samples_named, write_figures
from pipeline.report.export.latex import write_latex
from pipeline.report.export.table import write_table
from pipeline.report.reference import requested_reference
from pipeline.run.reader import Run, open_run
from pipeline.storage.folders import RECORD, check_folder, whole_folder
from ssig.errors import UsageError

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Wanted:
    """What is to be exported.

    Attributes:
        form: name of the format.
        wide: for tables, a row per sample in place of a row per number.
        samples: for figures, the keys of samples whose maps are drawn.
    """

    form: str
    wide: bool = False
    samples: tuple[str, ...] = ()


def opened(path: str) -> Run:
    """A run that has something to export.

    Raises:
        UsageError: there is no run, it was never configured, or its records cannot be read.
    """
    run = open_run(path)
    if not run.config:
        raise UsageError("run", run.root, "a run with at least one configured method")
    return run


def opened_with_warnings(path: str, tell: Tell) -> Run:
    """The same; what the run lacks is told."""
    run = opened(path)
    for line in warnings(run):
        tell(f"warning: {line}")
    return run


def export(run: Run, to: str, wanted: Wanted, tell: Tell, *, overwrite: bool = False) -> list[Path]:
    """Writes a folder and returns what it holds.

    Args:
        run: the run.
        to: the folder, which appears whole at the end.
        tell: takes each warning and note.
        overwrite: whether another export in this folder is replaced.

    Raises:
        UsageError: the folder holds something else, an option fits no sample of the run, or the run cannot be read.
    """
    about: Mapping[str, Any] = {"made_by": "ssig export", "run": run.root, **asdict(wanted)}
    folder = check_folder("--to", to, about, overwrite=overwrite)
    for line in warnings(run):
        tell(f"warning: {line}")
    with whole_folder(folder, about) as staged:
        _WRITERS[wanted.form](run, staged, wanted, tell)
    return sorted(path for path in folder.iterdir() if path.name != RECORD)


def _table(run: Run, folder: Path, wanted: Wanted, tell: Tell) -> None:
    rows = write_table(run, folder, wanted.form, in_rows=wanted.wide)
    tell(f"{rows:,} rows")


def _latex(run: Run, folder: Path, wanted: Wanted, tell: Tell) -> None:
    write_latex(contents(run, requested_reference(run, None)), folder)


def _figures(run: Run, folder: Path, wanted: Wanted, tell: Tell) -> None:
    chosen = samples_named(run, wanted.samples)
    write_figures(run, contents(run, requested_reference(run, None)), chosen, folder)


def _fiftyone(run: Run, folder: Path, wanted: Wanted, tell: Tell) -> None:
    write_fiftyone(run, folder, tell)


_WRITERS: Mapping[str, Callable[[Run, Path, Wanted, Tell], None]] = {
    "parquet": _table,
    "csv": _table,
    "latex": _latex,
    "figures": _figures,
    "fiftyone": _fiftyone,
}
FORMS = tuple(_WRITERS)
