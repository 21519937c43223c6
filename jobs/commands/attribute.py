"""`ssig attribute`, `ssig demo` and `ssig evaluate`: the commands that compute."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jobs.commands.choices import assignment, choice, scalar
from jobs.commands.completion import methods as method_names
from jobs.commands.completion import metrics as metric_names
from jobs.commands.ending import conclude, link
from jobs.commands.wrong_use import named_as_typed
from ssig.errors import DONE, FAILED_SAMPLES, NOTHING, UsageError

if TYPE_CHECKING:
    from pipeline.job.configuration import Job

DEMO_METHODS = ("ssig", "ssig-signed", "ig", "smoothgrad", "gradient")
_METRIC_HELP = (
    "Metric: NAME or NAME:option=value,…, such as insertion:steps=64. Repeat for several; see ssig metrics. For code "
    "of your own type ./FILE.py:NAME, such as ./mine.py:my_metric."
)
Labels = Annotated[
    str | None, typer.Option(metavar="FILE", help="CSV of two columns, image and class (a name or a number).")
]
Boxes = Annotated[str | None, typer.Option(metavar="FILE", help="Boxes of the objects: COCO annotations.")]
Masks = Annotated[
    str | None, typer.Option(metavar="DIR", help="Masks of the objects: PNG files with the names of the images.")
]
Run = Annotated[str, typer.Argument(metavar="RUN", help="Run directory: a path, s3:// or gs://.")]
InProcess = Annotated[
    bool,
    typer.Option(
        "--in-process",
        help="Compute in this process, without Ray: for a debugger, a notebook, or a machine where Ray cannot be. An "
        "image that kills the process ends the command.",
    ),
]
TrustShards = Annotated[
    bool,
    typer.Option(
        "--trust-shards",
        help="Go on though shards have another time of change or ETag than when the run began, if their sizes are the "
        "same: for shards that were copied.",
    ),
]
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

    overrides = {
        "dataset.shards": [str(write_photographs(Path(out).expanduser().parent / "photographs"))],
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


# Fields of a job that an option of `ssig attribute` gives.
_OPTIONS = {
    "dataset.shards": "--shards",
    "dataset.images": "--images",
    "dataset.labels": "--labels",
    "dataset.boxes": "--boxes",
    "dataset.masks": "--masks",
    "dataset.shards_out": "--shards-out",
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
    "actors.executor": "--in-process",
}


def attribute(
    job: Annotated[Path | None, typer.Argument(metavar="JOB.yaml", help="Job file; options override it.")] = None,
    shards: Annotated[
        list[str] | None,
        typer.Option(metavar="PATTERN", help="Shards: paths or URLs, with braces or wildcards. Repeat for several."),
    ] = None,
    images: Annotated[
        str | None,
        typer.Option(
            metavar="DIR",
            help="In place of shards: a folder of images, one folder per class, or any tree with --labels. It is "
            "packed once, into RUN/shards.",
        ),
    ] = None,
    labels: Labels = None,
    boxes: Boxes = None,
    masks: Masks = None,
    shards_out: Annotated[
        str | None,
        typer.Option(metavar="FOLDER", help="Folder to pack the images into: a path, s3:// or gs://."),
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
            autocompletion=method_names,
            help="Method: NAME or NAME:option=value,…,label=LABEL, such as ig:steps=64,label=ig-64. Repeat for "
            "several; see ssig methods. For code of your own type ./FILE.py:NAME, such as "
            "./mine.py:my_method:scale=2.",
        ),
    ] = None,
    metric: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", autocompletion=metric_names, help=_METRIC_HELP),
    ] = None,
    out: Annotated[
        str | None, typer.Option(metavar="FOLDER", help="Run directory to write: a path, s3:// or gs://.")
    ] = None,
    seed: Annotated[int | None, typer.Option(metavar="N", help="Random seed.")] = None,
    field: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="FIELD=VALUE", help="Any other field of a job file, such as actors.max=4."),
    ] = None,
    in_process: InProcess = False,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Compute failed images again.")] = False,
    trust_shards: TrustShards = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> int:
    """Run a job, or resume one that was stopped."""
    values: dict[str, Any] = {
        "dataset.shards": shards,
        "dataset.images": images,
        "dataset.labels": labels,
        "dataset.boxes": boxes,
        "dataset.masks": masks,
        "dataset.shards_out": shards_out,
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
        "actors.executor": "local" if in_process else None,
    }
    overrides = {name: value for name, value in values.items() if value is not None}
    typed_options = {name: _OPTIONS[name] for name in overrides}
    typed_options["out"] = "--out" if shards_out is None else "--shards-out"
    overrides |= _assigned(field, in_process)
    if job is None:
        _require_options(overrides)
    from pipeline.job.configuration import load_job

    with named_as_typed({**typed_options, **_kinds(overrides, job)}):
        checked = load_job(job, overrides, check_early=_refuse_missing_data)
        return _attribute(checked, retry_failed=retry_failed, trust_shards=trust_shards, quiet=quiet, as_json=as_json)


def _assigned(field: list[str] | None, in_process: bool) -> dict[str, Any]:
    """The fields that `--set` gives.

    Raises:
        UsageError: one of them contradicts `--in-process`.
    """
    assigned = dict(assignment(text) for text in field or [])
    if in_process and assigned.get("actors.executor", "local") != "local":
        raise UsageError(
            "actors.executor", assigned["actors.executor"], "local with --in-process: leave out one of them"
        )
    return assigned


_HOW_TO_START = (
    "images and a folder for the results. Type `ssig attribute --images FOLDER --out RUN`, or with shards "
    "`--shards 'FOLDER/*.tar'`; or `ssig init`, which writes job.yaml, then `ssig attribute job.yaml`; or "
    "`ssig demo`, which brings eight photographs"
)


def _require_options(overrides: Mapping[str, Any]) -> None:
    """Refuses options without a job file that lack a required field."""
    if not overrides:
        raise UsageError("job", NOTHING, _HOW_TO_START)
    for field, allowed in (
        ("dataset.shards", "shards (type --shards PATTERN), a folder of images (--images DIR), or a job file"),
        ("output.path", "a folder for the results (type --out FOLDER, or name a job file)"),
    ):
        instead = {"dataset.images"} if field == "dataset.shards" else set()
        if not {field, field.partition(".")[0], *instead} & overrides.keys():
            raise UsageError(_OPTIONS[field], NOTHING, allowed)


def _kinds(overrides: Mapping[str, Any], job: Path | None) -> dict[str, str]:
    """field -> option, to name options in errors. Fields `method` and `metric` count if no file gives them."""
    return {kind: f"--{kind}" for kind in ("method", "metric") if job is None or f"{kind}s" in overrides}


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


def _refuse_missing_data(job: Job) -> None:
    """Refuses shards or images on a disk that are not there. Object stores are asked later: that takes long."""
    from pipeline.run.layout import SHARDS
    from pipeline.shards.names import SOURCE
    from pipeline.shards.patterns import expand
    from pipeline.shards.presence import require_data, require_shards
    from pipeline.storage.base import is_url

    if job.dataset.shards and not any(is_url(pattern) for pattern in job.dataset.shards):
        require_shards(expand(job.dataset.shards, Path.cwd()))
    data = job.dataset
    packed = data.shards_out or f"{job.output.path}/{SHARDS}"
    # Images that were packed before are compared with their record, later.
    if data.images is not None and not is_url(packed) and not Path(packed, SOURCE).exists():
        require_data(data.images, data.labels, data.boxes, data.masks)


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
        typer.Option(metavar="NAME", autocompletion=metric_names, help=_METRIC_HELP),
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
    in_process: InProcess = False,
    trust_shards: TrustShards = False,
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
        **_assigned(field, in_process),
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
