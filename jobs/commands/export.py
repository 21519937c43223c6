"""`ssig export`: a run for other tools."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from ssig.errors import DONE, NOTHING, UsageError

# Format -> what it is.
FORMATS = {
    "parquet": "one tidy table",
    "csv": "the same as CSV",
    "latex": "the tables of the report",
    "figures": "the figures of the report as PDF and SVG",
    "fiftyone": "a data set for FiftyOne, with the photographs",
}
TABLES = ("parquet", "csv")


def export(
    run: Annotated[str, typer.Argument(metavar="RUN", help="Run directory: a path, s3:// or gs://.")],
    form: Annotated[str, typer.Option("--as", metavar="FORMAT", help=f"Format: {', '.join(FORMATS)}.")],
    to: Annotated[str | None, typer.Option(metavar="FOLDER", help="Folder to write to.")] = None,
    wide: Annotated[
        bool, typer.Option("--wide", help="Tables: one row per sample, a column per number (default: a row each).")
    ] = False,
    samples: Annotated[
        list[str] | None,
        typer.Option("--sample", metavar="KEY", help="Figures: also the maps of this sample; may be repeated."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace another export in this folder.")] = False,
) -> int:
    """Write a run for other tools: as a table.

    The run is not changed. The folder appears whole at the end.
    """
    if form not in FORMATS:
        raise UsageError("--as", form, FORMATS)
    if wide and form not in TABLES:
        raise UsageError("--wide", form, f"only beside --as {' or '.join(TABLES)}")
    if samples and form != "figures":
        raise UsageError("--sample", form, "only beside --as figures")
    if to is None:
        raise UsageError("--to", NOTHING, f"a folder to write to; type `ssig export {run} --as {form} --to FOLDER`")
    from pipeline.run.presence import require_run

    require_run(run)
    from pipeline.export.writing import (
        Wanted,  # imports torch
        opened,
    )
    from pipeline.export.writing import export as write

    files = write(opened(run), to, Wanted(form, wide, tuple(samples or ())), tell, overwrite=overwrite)
    for file in files:
        print(f"wrote: {file}")
    return DONE


def tell(line: str) -> None:
    """Prints a note or a warning beside the results."""
    print(line, file=sys.stderr)
