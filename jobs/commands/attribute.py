"""`ssig attribute`, `ssig demo` and `ssig evaluate`: the commands that compute."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jobs.commands import job_options as given
from jobs.commands.choices import choice
from jobs.commands.completion import metrics as metric_names
from jobs.commands.ending import conclude, link
from jobs.commands.wrong_use import named_as_typed
from ssig.errors import DONE, FAILED_SAMPLES, NOTHING, UsageError

if TYPE_CHECKING:
    from pipeline.job.configuration import Job

DEMO_METHODS = ("ssig", "ssig-signed", "ig", "smoothgrad", "gradient")
Run = Annotated[str, typer.Argument(metavar="RUN", help="Run directory: a path, s3:// or gs://.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the outcome as JSON.")]


def demo(
    out: Annotated[str, typer.Option(metavar="FOLDER", help="Run directory.")] = "runs/demo",
    open_report: Annotated[bool, typer.Option("--open", help="Open the report in a browser.")] = False,
) -> int:
    """Run a small job on bundled photographs."""
    from pipeline.job.configuration import load_job
    from pipeline.run.layout import REPORT_PAGE
    from pipeline.shards.photographs import write_photographs

    with named_as_typed({"out": "--out"}):
        shard = write_photographs(Path(out).expanduser().parent / "photographs")
    overrides = {
        "dataset.shards": [str(shard)],
        "model.target": "predicted",
        "methods": list(DEMO_METHODS),
        "metrics": ["insertion", "deletion", "insertion_deletion_gap", "diffid", "roc_auc", "pointing", "energy"],
        "output.path": out,
        "unit_size": 2,  # so that eight photographs keep a few cores busy
    }
    job = load_job(None, overrides)
    code = _attribute(job)
    if open_report and code in (DONE, FAILED_SAMPLES):
        _open(f"{job.output.path}/{REPORT_PAGE}")
    return code


def _open(page: str) -> None:
    """Opens a page in the user's browser; where there is none, the link that was printed has to do."""
    import webbrowser

    if not webbrowser.open(link(page)):
        print("no browser could be opened: open the link of the report yourself", file=sys.stderr)


def attribute(
    context: typer.Context,
    job: given.JobFile = None,
    shards: given.Shards = None,
    images: given.Images = None,
    labels: given.Labels = None,
    boxes: given.Boxes = None,
    masks: given.Masks = None,
    shards_out: given.ShardsOut = None,
    limit: given.Limit = None,
    model: given.Model = None,
    weights: given.Weights = None,
    precision: given.Precision = None,
    score: given.Score = None,
    target: given.Target = None,
    method: given.Method = None,
    metric: given.Metric = None,
    out: given.Out = None,
    seed: given.Seed = None,
    field: given.Field = None,
    in_process: given.InProcess = False,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Compute failed images again.")] = False,
    trust_shards: given.TrustShards = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> int:
    """Run a job, or resume one that was stopped."""
    with given.typed_job(context.params) as checked:
        return _attribute(checked, retry_failed=retry_failed, trust_shards=trust_shards, quiet=quiet, as_json=as_json)


def _attribute(
    job: Job,
    *,
    retry_failed: bool = False,
    trust_shards: bool = False,
    quiet: bool = False,
    as_json: bool = False,
) -> int:
    from jobs.commands.progress import Display
    from pipeline.driver.attribute import attribute as run_job  # imports torch
    from pipeline.run.trust import import_from_working_folder
    from ssig.models.sources import runs_code

    if runs_code(job.model.name):
        import_from_working_folder(job.output.path, job.model.name)
    with Display(quiet=quiet) as display:
        summary = run_job(job, display, retry_failed=retry_failed, trust_shards=trust_shards)
    return conclude(summary, quiet=quiet, as_json=as_json)


def _check_own_metrics(metrics: list[dict[str, Any]]) -> None:
    """Refuses names and options that no metric has, before any metric is imported."""
    from ssig.registry.catalogue import METRIC, check
    from ssig.registry.sources import FILE

    for entry in metrics:
        if not FILE.fullmatch(entry["name"]):
            check(METRIC, entry["name"], {name: value for name, value in entry.items() if name != "name"})


def evaluate(
    run: Run,
    metric: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", autocompletion=metric_names, help=given.METRIC_HELP),
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
    in_process: given.InProcess = False,
    trust_shards: given.TrustShards = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> int:
    """Add metrics to a finished run, or resume adding them."""
    from jobs.commands.progress import Display
    from pipeline.job.configuration import load_evaluation
    from pipeline.run.presence import require_run

    if not metric:
        raise UsageError("--metric", NOTHING, "a metric (type --metric NAME; `ssig metrics` lists them)")
    values: dict[str, Any] = {
        "metrics": [choice("--metric", text) for text in metric],
        "methods": method,
        "model": model,
        "name": name,
        "trust": trust,
        "actors.executor": "local" if in_process else None,
        **given.assigned(field, in_process),
    }
    values = {name: value for name, value in values.items() if value is not None}
    options = {field: f"--{field.rstrip('s')}" for field in ("methods", "metrics", "metric", "model", "name")}
    with named_as_typed(options):
        _check_own_metrics(values["metrics"])
        require_run(run)
        job = load_evaluation(values)
        from pipeline.driver.added_metrics import add_metrics  # imports torch

        with Display(quiet=quiet) as display:
            summary = add_metrics(run, job, display, trust_shards=trust_shards)
    return conclude(summary, quiet=quiet, as_json=as_json)
