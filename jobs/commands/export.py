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
    "mlflow": "an experiment of MLflow",
    "wandb": "a project of Weights & Biases",
}
TABLES = ("parquet", "csv")
TRACKERS = ("mlflow", "wandb")


def export(
    run: Annotated[str, typer.Argument(metavar="RUN", help="Run directory: a path, s3:// or gs://.")],
    form: Annotated[str, typer.Option("--as", metavar="FORMAT", help=f"Format: {', '.join(FORMATS)}.")],
    to: Annotated[
        str | None, typer.Option(metavar="FOLDER", help="Folder to write to; tracking URI of MLflow.")
    ] = None,
    wide: Annotated[
        bool, typer.Option("--wide", help="Tables: one row per sample, with a column per number.")
    ] = False,
    samples: Annotated[
        list[str] | None,
        typer.Option("--sample", metavar="KEY", help="Figures: also the maps of this sample; may be repeated."),
    ] = None,
    project: Annotated[
        str | None, typer.Option(metavar="NAME", help="MLflow, W&B: experiment or project (default: ssig).")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace another export in this folder.")] = False,
) -> int:
    """Write tables, figures or data sets for other tools.

    The run is not changed. A folder appears whole at the end.
    """
    _check(run, form, to, wide=wide, samples=samples, project=project)
    from pipeline.run.presence import require_run

    require_run(run)
    from pipeline.report.export import writing  # imports torch

    if form in TRACKERS:
        from pipeline.report.export import trackers

        trackers.package(form)
        warned = writing.opened_with_warnings(run, tell)
        where = trackers.log(warned, form, to, project or trackers.PROJECT, tell, again=overwrite)
        print(f"wrote: {where}")
        return DONE
    assert to is not None
    wanted = writing.Wanted(form, wide, tuple(samples or ()))
    for file in writing.export(writing.opened(run), to, wanted, tell, overwrite=overwrite):
        print(f"wrote: {file}")
    return DONE


def _check(run: str, form: str, to: str | None, *, wide: bool, samples: list[str] | None, project: str | None) -> None:
    """Refuses options that do not belong together, before anything is imported."""
    if form not in FORMATS:
        raise UsageError("--as", form, FORMATS)
    for option, given, forms in (
        ("--wide", wide, TABLES),
        ("--sample", samples, ("figures",)),
        ("--project", project, TRACKERS),
    ):
        if given and form not in forms:
            raise UsageError(option, given, f"only beside --as {' or '.join(forms)}")
    if to is None and form not in TRACKERS:
        raise UsageError("--to", NOTHING, f"a folder to write to; type `ssig export {run} --as {form} --to FOLDER`")


def tell(line: str) -> None:
    """Prints a note or a warning beside the results."""
    print(line, file=sys.stderr)
