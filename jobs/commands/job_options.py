"""The options that name a job: those of `ssig attribute` and `ssig plan`, and the job that they give."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jobs.commands.choices import assignment, choice, scalar
from jobs.commands.completion import methods as method_names
from jobs.commands.completion import metrics as metric_names
from jobs.commands.wrong_use import named_as_typed
from ssig.errors import NOTHING, UsageError

if TYPE_CHECKING:
    from pipeline.job.configuration import Job

METRIC_HELP = (
    "Metric: NAME or NAME:option=value,…, such as insertion:steps=64. Repeat for several; see ssig metrics. For code "
    "of your own type ./FILE.py:NAME, such as ./mine.py:my_metric."
)
JobFile = Annotated[Path | None, typer.Argument(metavar="JOB.yaml", help="Job file; options override it.")]
Shards = Annotated[
    list[str] | None,
    typer.Option(metavar="PATTERN", help="Shards: paths or URLs, with braces or wildcards. Repeat for several."),
]
Images = Annotated[
    str | None,
    typer.Option(
        metavar="DIR",
        help="In place of shards: a folder of images, one folder per class, or any tree with --labels. It is "
        "packed once, into RUN/shards.",
    ),
]
Labels = Annotated[
    str | None, typer.Option(metavar="FILE", help="CSV of two columns, image and class (a name or a number).")
]
Boxes = Annotated[str | None, typer.Option(metavar="FILE", help="Boxes of the objects: COCO annotations.")]
Masks = Annotated[
    str | None, typer.Option(metavar="DIR", help="Masks of the objects: PNG files with the names of the images.")
]
ShardsOut = Annotated[
    str | None, typer.Option(metavar="FOLDER", help="Folder to pack the images into: a path, s3:// or gs://.")
]
Limit = Annotated[int | None, typer.Option(metavar="N", help="Use the first N images only.")]
Model = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Network: timm:NAME, torchvision:NAME, module:callable or the name of an installed plug-in. For code "
        "of your own type ./FILE.py:NAME, such as ./mynet.py:network.",
    ),
]
Weights = Annotated[str | None, typer.Option(metavar="NAME", help="Weights: a name, 'random', or a checkpoint file.")]
Precision = Annotated[
    str | None, typer.Option(metavar="NAME", help="Precision of the network: fp32, tf32, fp16 or bf16.")
]
Score = Annotated[
    str | None, typer.Option(metavar="NAME", help="Score to explain: logit, log-probability or probability.")
]
Target = Annotated[
    str | None, typer.Option(metavar="CLASS", help="Class to explain: label, predicted, or a class number.")
]
Method = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME",
        autocompletion=method_names,
        help="Method: NAME or NAME:option=value,…,label=LABEL, such as ig:steps=64,label=ig-64. Repeat for "
        "several; see ssig methods. For code of your own type ./FILE.py:NAME, such as "
        "./mine.py:my_method:scale=2.",
    ),
]
Metric = Annotated[list[str] | None, typer.Option(metavar="NAME", autocompletion=metric_names, help=METRIC_HELP)]
Out = Annotated[str | None, typer.Option(metavar="FOLDER", help="Run directory to write: a path, s3:// or gs://.")]
Seed = Annotated[int | None, typer.Option(metavar="N", help="Random seed.")]
Field = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="FIELD=VALUE", help="Any other field of a job file, such as actors.max=4."),
]
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

# Fields of a job that an option of `ssig attribute` and `ssig plan` gives.
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


@contextmanager
def typed_job(options: Mapping[str, Any]) -> Iterator[Job]:
    """The job of a command's options, for the body; errors in it name the options that the user gave.

    Args:
        options: parameter -> value, as typer gives them.

    Raises:
        UsageError: the job is wrong.
    """
    job, target = options["job"], options["target"]
    values: dict[str, Any] = {
        "dataset.shards": options["shards"],
        "dataset.images": options["images"],
        "dataset.labels": options["labels"],
        "dataset.boxes": options["boxes"],
        "dataset.masks": options["masks"],
        "dataset.shards_out": options["shards_out"],
        "dataset.limit": options["limit"],
        "model.name": options["model"],
        "model.weights": options["weights"],
        "model.precision": options["precision"],
        "model.score": options["score"],
        "model.target": None if target is None else scalar("--target", target),
        "methods": [choice("--method", text) for text in options["method"] or ()],
        "metrics": [choice("--metric", text) for text in options["metric"] or ()],
        "output.path": options["out"],
        "seed": options["seed"],
        "actors.executor": "local" if options["in_process"] else None,
    }
    overrides = {name: value for name, value in values.items() if value not in (None, [], ())}
    names = {name: _OPTIONS[name] for name in overrides}
    names["out"] = "--out" if options["shards_out"] is None else "--shards-out"
    overrides |= assigned(options["field"], options["in_process"])
    if job is None:
        _require_options(overrides)
    from pipeline.job.configuration import load_job

    with named_as_typed({**names, **_kinds(overrides, job)}):
        yield load_job(job, overrides, check_early=_refuse_missing_data)


def assigned(field: list[str] | None, in_process: bool) -> dict[str, Any]:
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
