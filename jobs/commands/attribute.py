"""`ssig attribute`, `ssig demo` and `ssig evaluate`: the commands that compute."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jobs.commands.choices import assignment, choice, scalar
from jobs.commands.printing import counts
from jobs.commands.wrong_use import named_as_typed
from ssig.errors import NOTHING, UsageError

if TYPE_CHECKING:
    from pipeline.driver.ending import Summary
    from pipeline.job.configuration import Job

DEMO_METHODS = ("ssig", "ssig-signed", "ig", "smoothgrad", "gradient")
_METRIC_HELP = (
    "Metric: NAME or NAME:option=value,…, such as insertion:steps=64. Repeat for several; see ssig metrics. For code "
    "of your own type ./FILE.py:NAME, such as ./mine.py:my_metric."
)
Run = Annotated[str, typer.Argument(metavar="RUN", help="Run directory: a path, s3:// or gs://.")]


def demo(out: Annotated[str, typer.Option(metavar="FOLDER", help="Run directory.")] = "runs/demo") -> int:
    """Run a small job on bundled photographs."""
    from pipeline.job.configuration import load_job
    from pipeline.shards.photographs import write_photographs

    overrides = {
        "dataset.shards": [str(write_photographs(Path(out).expanduser().parent / "photographs"))],
        "model.target": "predicted",
        "methods": list(DEMO_METHODS),
        "metrics": ["insertion", "deletion", "insertion_deletion_gap", "diffid", "roc_auc", "pointing", "energy"],
        "output.path": out,
        "unit_size": 2,  # so that eight photographs keep a few cores busy
    }
    return _attribute(load_job(None, overrides))


# Fields of a job that an option of `ssig attribute` gives.
_OPTIONS = {
    "dataset.shards": "--shards",
    "dataset.limit": "--limit",
    "model.name": "--model",
    "model.weights": "--weights",
    "model.precision": "--precision",
    "model.score": "--score",
    "model.target": "--target",
    "methods": "--method",
    "metrics": "--metric",
    "output.path": "--out",
    "seed": "--seed",
}


def attribute(
    job: Annotated[Path | None, typer.Argument(metavar="JOB.yaml", help="Job file; options override it.")] = None,
    shards: Annotated[
        list[str] | None,
        typer.Option(metavar="PATTERN", help="Shards: paths or URLs, with braces or wildcards. Repeat for several."),
    ] = None,
    limit: Annotated[int | None, typer.Option(metavar="N", help="Use the first N images only.")] = None,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Network: timm:NAME, torchvision:NAME, module:callable or the name of an installed plug-in. For code "
            "of your own type ./FILE.py:NAME, such as ./mynet.py:network.",
        ),
    ] = None,
    weights: Annotated[
        str | None, typer.Option(metavar="NAME", help="Weights: a name, 'random', or a checkpoint file.")
    ] = None,
    precision: Annotated[
        str | None, typer.Option(metavar="NAME", help="Precision of the network: fp32, tf32, fp16 or bf16.")
    ] = None,
    score: Annotated[
        str | None, typer.Option(metavar="NAME", help="Score to explain: logit, log-probability or probability.")
    ] = None,
    target: Annotated[
        str | None, typer.Option(metavar="CLASS", help="Class to explain: label, predicted, or a class number.")
    ] = None,
    method: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Method: NAME or NAME:option=value,…,label=LABEL, such as ig:steps=64,label=ig-64. Repeat for "
            "several; see ssig methods. For code of your own type ./FILE.py:NAME, such as "
            "./mine.py:my_method:scale=2.",
        ),
    ] = None,
    metric: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help=_METRIC_HELP),
    ] = None,
    out: Annotated[
        str | None, typer.Option(metavar="FOLDER", help="Run directory to write: a path, s3:// or gs://.")
    ] = None,
    seed: Annotated[int | None, typer.Option(metavar="N", help="Random seed.")] = None,
    field: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="FIELD=VALUE", help="Any other field of a job file, such as actors.max=4."),
    ] = None,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Compute failed images again.")] = False,
) -> int:
    """Run a job, or resume one that was stopped."""
    from pipeline.job.configuration import load_job

    values: dict[str, Any] = {
        "dataset.shards": shards,
        "dataset.limit": limit,
        "model.name": model,
        "model.weights": weights,
        "model.precision": precision,
        "model.score": score,
        "model.target": None if target is None else scalar("--target", target),
        "methods": method and [choice("--method", text) for text in method],
        "metrics": metric and [choice("--metric", text) for text in metric],
        "output.path": out,
        "seed": seed,
    }
    overrides = {name: value for name, value in values.items() if value is not None}
    typed_options = {name: _OPTIONS[name] for name in overrides}
    overrides |= dict(assignment(text) for text in field or [])
    if job is None:
        _require_options(overrides)
    with named_as_typed({**typed_options, **_kinds(overrides, job)}):
        return _attribute(load_job(job, overrides), retry_failed=retry_failed)


def _require_options(overrides: Mapping[str, Any]) -> None:
    """Refuses options without a job file that lack a required field."""
    for field, allowed in (
        ("dataset.shards", "shards with images (type --shards PATTERN, or name a job file)"),
        ("output.path", "a folder for the results (type --out FOLDER, or name a job file)"),
    ):
        if not {field, field.partition(".")[0]} & overrides.keys():
            raise UsageError(_OPTIONS[field], NOTHING, allowed)


def _kinds(overrides: Mapping[str, Any], job: Path | None) -> dict[str, str]:
    """field -> option, to name options in errors. Fields `method` and `metric` count if no file gives them."""
    return {kind: f"--{kind}" for kind in ("method", "metric") if job is None or f"{kind}s" in overrides}


def _attribute(job: Job, *, retry_failed: bool = False) -> int:
    from jobs.commands.progress import Display
    from pipeline.driver.attribute import attribute as run_job
    from pipeline.run.trust import import_from_working_folder
    from ssig.models.sources import runs_code

    if runs_code(job.model.name):
        import_from_working_folder(job.output.path, job.model.name)
    with Display() as display:
        summary = run_job(job, display, retry_failed=retry_failed)
    return _conclude(summary)


def _conclude(summary: Summary) -> int:
    """Prints how a job ended and returns the exit code."""
    print(f"{summary.units_to_do} units to do, {summary.units_done} done")
    for label, statuses in summary.statuses.items():
        print(f"  {label}: {summary.expected} samples expected, {counts(statuses)}")
    for unit, reason in summary.given_up.items():
        print(f"  unit {unit} is left undone: {reason}")
    for note in summary.notes:
        print(f"  {note}")
    if summary.shard_faults:
        print(f"  {summary.shard_faults} faults in shards; see {summary.run}/quarantine")
    if summary.report is not None:
        print(f"report: {summary.report}")
    return summary.exit_code


def evaluate(
    run: Run,
    metric: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help=_METRIC_HELP),
    ] = None,
    method: Annotated[
        list[str] | None,
        typer.Option(metavar="LABEL", help="Evaluate only the method with this label. Repeat for several."),
    ] = None,
    model: Annotated[
        str | None, typer.Option(metavar="LABEL", help="Label of the model, if the run has several.")
    ] = None,
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="Name of this evaluation (default: its metrics).")
    ] = None,
    trust: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Allow running this model code: the module:callable of someone else's run, or the file of the "
            "network where it has moved, such as ./mynet.py:network.",
        ),
    ] = None,
    field: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="FIELD=VALUE", help="Any field of actors, such as actors.max=4."),
    ] = None,
) -> int:
    """Add metrics to a finished run, or resume adding them."""
    from jobs.commands.progress import Display
    from pipeline.job.configuration import load_evaluation

    if not metric:
        raise UsageError("--metric", NOTHING, "a metric (type --metric NAME; `ssig metrics` lists them)")
    values: dict[str, Any] = {
        "metrics": [choice("--metric", text) for text in metric],
        "methods": method,
        "model": model,
        "name": name,
        "trust": trust,
        **dict(assignment(text) for text in field or []),
    }
    values = {name: value for name, value in values.items() if value is not None}
    options = {field: f"--{field.rstrip('s')}" for field in ("methods", "metrics", "metric", "model", "name")}
    with named_as_typed(options):
        job = load_evaluation(values)
        from pipeline.driver.added_metrics import add_metrics  # imports torch

        with Display() as display:
            return _conclude(add_metrics(run, job, display))
