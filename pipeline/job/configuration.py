"""The job: one YAML file, every field overridable, validated whole before any work.

Errors name the field, what was found and what is allowed. Relative paths in a file resolve against the file, those of
overrides against the working directory.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationError

from pipeline.job.choices import (
    Frozen,
    MethodChoice,
    MetricChoice,
    check_names,
    chosen,
    find_methods,
    find_metrics,
    named,
)
from pipeline.job.dataset import Dataset, check_dataset, drop_other_data, resolve_images
from pipeline.job.wrong_values import usage_error
from pipeline.run.layout import READS_AS_TEXT, encoded, reads_as_value
from pipeline.run.trust import refuse_code_of_a_run, refuse_foreign_code
from pipeline.storage import yaml12
from pipeline.storage.base import check_url, is_url
from ssig.errors import UsageError
from ssig.models.weight_files import is_weight_file
from ssig.registry.sources import FILE

LONGEST_TITLE = 64  # of an evaluation that is named after its metrics
# Needs of metrics that no file of a run meets.
NOT_STORED = frozenset({"method", "samples"})
# Bytes of a model's and a method's label together, percent-encoded: both are part of file names, which end at 255.
LONGEST_LABELS = 160
_INT64 = 2**63
# Fields whose values are text as typed: a label 010 is no number.
TEXTS = frozenset({"label"})


# Strict: a number is written as one, and `yes` is no 1.
_Count = Annotated[int, Field(ge=1, strict=True)]
_Real = Annotated[float, Field(strict=True, allow_inf_nan=False)]
_Positive = Annotated[_Real, Field(gt=0)]
_Edges = _Count | tuple[_Count, _Count]


def _sized(value: Any) -> Any:
    """Turns a number or a pair of numbers into an input of this size; other values are left alone."""
    return {"size": value} if isinstance(value, (int, list, tuple)) and not isinstance(value, bool) else value


class InputChoice(Frozen):
    """How an image becomes an input; what is not given is the network's own."""

    size: _Edges | None = Field(None, description="H or [H, W] of the input")
    resize: _Edges | None = Field(None, description="before the crop: the shorter edge, or [height, width] to cover")
    interpolation: Literal["nearest", "nearest-exact", "bilinear", "bicubic", "box", "hamming", "lanczos"] | None = (
        Field(None, description="interpolation of resizing")
    )
    crop: Literal["center", "squash"] | None = Field(
        None, description="center: the aspect ratio is kept; squash: resized to exactly `resize`, then cropped"
    )


class ModelChoice(Frozen):
    """What is explained."""

    name: str = Field(
        "efficientnet-lite0",
        description="timm:NAME, torchvision:NAME, module:callable, ./FILE.py:callable, or a name of a package",
    )
    weights: str | None = Field(None, description="weights by name, 'random', or a checkpoint file")
    precision: Literal["fp32", "tf32", "fp16", "bf16"] = Field("fp32", description="arithmetic of the network")
    score: Literal["logit", "log-probability", "probability"] = Field("logit", description="what is explained")
    target: Literal["label", "predicted"] | Annotated[int, Field(ge=0, strict=True)] = Field(
        "label", description="class that is explained: the sample's label, the prediction, or a given class"
    )
    label: str | None = Field(None, min_length=1, description="name in the results; by default the model's name")
    mean: tuple[_Real, _Real, _Real] | None = Field(
        None, description="mean of the normalisation, per channel of images in [0, 1]; by default the network's own"
    )
    std: tuple[_Positive, _Positive, _Positive] | None = Field(
        None, description="standard deviation of the normalisation, likewise"
    )
    input: Annotated[InputChoice | None, BeforeValidator(_sized)] = Field(
        None, description="size, resize, interpolation and crop of images; by default the network's own"
    )

    @property
    def title(self) -> str:
        """The label of its results."""
        file = FILE.fullmatch(self.name)
        return self.label or (self.name if file is None else file["name"])

    @property
    def recorded_name(self) -> str:
        """The name as a run records it: of a file without its folder, which may change."""
        file = FILE.fullmatch(self.name)
        return self.name if file is None else f"{Path(file['path']).name}:{file['name']}"

    @property
    def input_options(self) -> dict[str, Any]:
        """What is given of the input: mean, std and the geometry, as `load_model` takes them."""
        geometry = None if self.input is None else self.input.model_dump(exclude_none=True)
        return {"mean": self.mean, "std": self.std, "input": geometry}


class Output(Frozen):
    """Where results go and how maps are stored."""

    path: str = Field(min_length=1, description="run directory: a path, s3:// or gs://")
    maps: Literal["none", "float16", "float32"] = Field("float16", description="how maps are stored")
    channels: bool = Field(False, strict=True, description="store the values of each channel too")
    compact: Literal["auto", "all", "none"] = Field(
        "auto",
        description="which tables of finished methods become few large files: auto: those of numbers, of a run with "
        "more than 1,000 units; all: maps too; none: no table",
    )


class Actors(Frozen):
    """How the work is spread; changes no result."""

    executor: Literal["ray", "local"] = Field(
        "ray",
        description="ray: actors on the Ray cluster that RAY_ADDRESS names, or on one of this command's own; local: "
        "one worker in this process, without Ray (--in-process); an image that kills it ends the command",
    )
    min: int = Field(1, ge=1, strict=True, description="fewest actors to wait for")
    max: _Count | Literal["auto"] = Field("auto", description="most actors")
    device: Literal["auto", "cuda", "cpu"] = Field(
        "auto",
        description="auto: cuda for an actor that has a GPU, and the job is refused where CUDA cannot be used there; "
        "cuda: a GPU is demanded; cpu: computes on the CPU, even where Ray sets a GPU aside",
    )
    num_gpus: Annotated[_Real, Field(ge=0)] | Literal["auto"] = Field(
        "auto", description="GPUs of each actor: 1, 0, or a fraction, so that actors share a GPU"
    )
    num_cpus: Annotated[_Real, Field(gt=0)] | Literal["auto"] = Field("auto", description="CPU cores of each actor")
    accelerator_type: str | None = Field(
        None,
        min_length=1,
        description="type of the GPU that each actor must have, as Ray names it: A100, H100; null for any",
    )
    wait: Annotated[_Real, Field(ge=0)] = Field(
        600.0,
        description="seconds to wait for a node that has a place for an actor, where this is given, max and num_gpus "
        "are numbers, or Ray's autoscaler tells which nodes it adds: actors that wait for a place make it add them",
    )
    micro_batch: _Count | Literal["auto"] = Field("auto", description="points evaluated at once")
    compile: Literal["none", "default", "cuda-graphs"] = Field(
        "none",
        description="default: torch.compile makes the network; cuda-graphs: a GPU records passes where that is faster",
    )
    unit_timeout: Annotated[_Real, Field(gt=0)] | Literal["auto"] | None = Field(
        "auto",
        description="seconds that a unit may take before its actor is killed: 20 times what units take, at least 600, "
        "and no limit before the first is done; or a number; or null, for ever",
    )


class ReportChoice(Frozen):
    """How the report compares; changes no result."""

    reference: str | None = Field(
        None,
        min_length=1,
        description="label of the method that the others are compared with; by default the first that is no control",
    )


class Job(Frozen):
    """A whole job."""

    dataset: Dataset = Field(default_factory=lambda: Dataset.model_validate({}))
    model: ModelChoice = Field(default_factory=lambda: ModelChoice.model_validate({}))
    methods: tuple[Annotated[MethodChoice, BeforeValidator(named)], ...] = Field(
        default_factory=lambda: (MethodChoice(name="ssig"),),
        min_length=1,
        description="methods with their options, each under its name or a label: {name: ig, steps: 64, label: ig-64}",
    )
    metrics: tuple[Annotated[MetricChoice, BeforeValidator(named)], ...] = Field(
        (), description="metrics with their options: {name: insertion, steps: 64}"
    )
    output: Output
    actors: Actors = Field(default_factory=lambda: Actors.model_validate({}))
    report: ReportChoice = Field(default_factory=lambda: ReportChoice.model_validate({}))
    unit_size: int = Field(64, ge=1, le=4096, strict=True, description="samples that are committed at once")
    seed: int = Field(0, ge=0, lt=_INT64, strict=True, description="random seed")

    @property
    def model_label(self) -> str:
        return self.model.title


class EvaluationJob(Frozen):
    """Metrics to be added to a run."""

    metrics: tuple[Annotated[MetricChoice, BeforeValidator(named)], ...] = Field(min_length=1)
    model: str | None = Field(None, description="label of the model; needed where the run has several")
    methods: tuple[str, ...] = Field((), description="labels of the methods; by default all")
    trust: str | None = Field(None, description="the module:callable to import, where the run is not the user's own")
    name: str | None = Field(None, min_length=1, description="name of the evaluation; by default its metrics")
    actors: Actors = Field(default_factory=lambda: Actors.model_validate({}))

    @property
    def title(self) -> str:
        names = "+".join(metric.name for metric in self.metrics)
        # Of many metrics, a name that still fits a file system.
        digest = hashlib.sha256(names.encode()).hexdigest()[:8]
        return self.name or (names if len(names) <= LONGEST_TITLE else f"{len(self.metrics)} metrics {digest}")


def load_evaluation(fields: Mapping[str, Any]) -> EvaluationJob:
    """The evaluation of dotted fields, such as ``{"metrics": ["gini"], "actors.max": 2}``.

    Raises:
        UsageError: an unknown field or metric, a value that is not allowed, or a metric that must be there while the
            method runs.
    """
    values: dict[str, Any] = {}
    for dotted, value in fields.items():
        _set(values, dotted, value)
    _resolve(values, Path.cwd())
    try:
        job = EvaluationJob.model_validate(values)
    except ValidationError as error:
        raise usage_error(error, EvaluationJob, None) from None
    _check_gpus(job.actors)
    find_metrics(job.metrics)
    _check_label("name", job.title)
    if len(encoded(job.title)) > LONGEST_LABELS:
        raise UsageError("name", job.title, f"a name of at most {LONGEST_LABELS} bytes: it is part of file names")
    for metric in job.metrics:
        unstored = sorted(metric.spec.needs & NOT_STORED)
        if unstored:
            needed = " and the ".join(unstored)
            allowed = f"a metric of stored maps; this one needs the {needed}: give it to `ssig attribute`"
            raise UsageError("metrics", metric.name, allowed)
    return job


def load_job(
    path: Path | None,
    overrides: Mapping[str, Any] | None = None,
    *,
    check_early: Callable[[Job], None] = lambda job: None,
) -> Job:
    """The job of a YAML file with overrides on top.

    Args:
        path: the job file, or None for overrides alone.
        overrides: dotted field -> value, such as ``{"dataset.shards": [...], "output.path": "runs/a"}``.
        check_early: further checks of the job, before methods and torch are imported, which takes seconds.

    Raises:
        UsageError: an unreadable file, an unknown field, a value that is not allowed, or a network that would run code
            and is named in somebody else's file.
    """
    values, owner = ({}, None) if path is None else _read_file(path)
    if path is not None:
        _resolve(values, path.resolve().parent)
    fields = dict(overrides or {})
    drop_other_data(values, fields)
    for dotted, value in fields.items():
        _set(values, dotted, value)
    _resolve(values, Path.cwd())
    try:
        job = Job.model_validate(values)
    except ValidationError as error:
        raise usage_error(error, Job, None if path is None else path.name) from None
    _check_gpus(job.actors)
    check_dataset(job.dataset, None if path is None else path.name)
    if path is not None and not {"model", "model.name"} & fields.keys():
        advice = f"if you trust it, name it yourself: --model {job.model.name}"
        refuse_foreign_code(f"{path.name}: model.name", job.model.name, owner, advice)
    for field, choices in (("methods", job.methods), ("metrics", job.metrics)):
        for choice in choices:
            if path is not None and field not in fields and choice.file is not None:
                advice = f"if you trust it, name it yourself: --{field[:-1]} {choice.text}"
                refuse_foreign_code(f"{path.name}: {field}", choice.text, owner, advice)
            refuse_code_of_a_run(field, choice.text, job.output.path)
    refuse_code_of_a_run("model.name", job.model.name, job.output.path)
    _check_choices(job, check_early)
    return job


def _read_file(path: Path) -> tuple[dict[str, Any], int]:
    """The content of a job file, and the user id that it belongs to."""
    if path.is_dir() or path.suffix.lower() == ".tar":
        data = f"images in a folder are --images {path}, shards in it --shards '{path}/*.tar'"
        allowed = data if path.is_dir() else f"a shard is --shards {path}"
        raise UsageError("job file", str(path), f"a YAML file; {allowed}")
    try:
        with path.open(encoding="utf-8") as file:
            owner = os.fstat(file.fileno()).st_uid
            values = yaml12.load(file, TEXTS)
    except FileNotFoundError:
        raise UsageError("job file", str(path), "an existing YAML file") from None
    except (OSError, UnicodeDecodeError, yaml12.YAMLError) as error:
        raise UsageError("job file", str(path), f"a readable YAML file ({yaml12.explained(error)})") from None
    if values is None:
        return {}, owner
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise UsageError("job file", str(path), "a YAML mapping of " + ", ".join(Job.model_fields))
    return values, owner


def _set(values: dict[str, Any], dotted: str, value: Any) -> None:
    *parents, name = dotted.split(".")
    for parent in parents:
        inner = values.setdefault(parent, {})
        if not isinstance(inner, dict):
            raise UsageError(parent, inner, "a mapping")
        values = inner
    values[name] = value


def _resolve(values: dict[str, Any], base: Path) -> None:
    """Makes the paths of a job absolute, in place: relative ones, and those in a home (``~``, ``~user``).

    URLs, names and wrong types are left alone. Files that are named alone become mappings.
    """

    def absolute(text: Any) -> Any:
        if not isinstance(text, str) or not text or is_url(text):
            return text
        return os.path.abspath(base / os.path.expanduser(text))

    dataset, output, model = (values.get(name) for name in ("dataset", "output", "model"))
    for owner in (model, *chosen(values, "methods"), *chosen(values, "metrics")):
        if isinstance(owner, dict) and isinstance(owner.get("name"), str) and FILE.fullmatch(owner["name"]):
            owner["name"] = absolute(owner["name"])
    if isinstance(values.get("trust"), str) and FILE.fullmatch(values["trust"]):
        values["trust"] = absolute(values["trust"])
    if isinstance(dataset, dict) and isinstance(dataset.get("shards"), str):
        dataset["shards"] = [dataset["shards"]]
    if isinstance(dataset, dict) and isinstance(dataset.get("shards"), (list, tuple)):
        for shard in filter(_has_plain_bucket, dataset["shards"]):
            check_url("dataset.shards", shard)
        dataset["shards"] = [absolute(shard) for shard in dataset["shards"]]
    if isinstance(dataset, dict):
        resolve_images(dataset, absolute)
    if isinstance(output, dict) and "path" in output:
        if isinstance(output["path"], str):
            check_url("output.path", output["path"])
        output["path"] = absolute(output["path"])
    if isinstance(model, dict) and is_weight_file(str(model.get("weights"))):
        model["weights"] = absolute(model["weights"])


def _has_plain_bucket(shard: Any) -> bool:
    """Whether a shard is a URL whose bucket is no pattern."""
    return isinstance(shard, str) and is_url(shard) and "{" not in shard.partition("://")[2].partition("/")[0]


def _check_choices(job: Job, check_early: Callable[[Job], None]) -> None:
    """Checks every name and option against the registries, and that labels are distinct."""
    check_names(job.methods, job.metrics)
    labels = [method.title for method in job.methods]
    _check_label("model.label", job.model_label)
    for label in labels:
        _check_label("methods.label", label)
        if labels.count(label) > 1:
            raise UsageError("methods", label, "each label once; give one of them a label of its own")
        if len(encoded(job.model_label)) + len(encoded(label)) > LONGEST_LABELS:
            allowed = f"labels of model and method of {LONGEST_LABELS} bytes together: they are part of file names"
            raise UsageError("model.label", [job.model_label, label], allowed)
    check_early(job)
    find_methods(job.methods)
    find_metrics(job.metrics)


def _check_gpus(actors: Actors) -> None:
    """Refuses actors of several GPUs, all but one of which would be idle, and of none that compute on one."""
    if actors.device == "cuda" and actors.num_gpus == 0:
        raise UsageError("actors.num_gpus", 0, "above 0 with actors.device=cuda, or type --set actors.device=cpu")
    if actors.num_gpus != "auto" and actors.num_gpus > 1:
        several = f"--set actors.num_gpus=1 --set actors.max={math.ceil(actors.num_gpus)}"
        allowed = f"at most 1: an actor computes on one GPU; to use several, type {several}"
        found = actors.num_gpus
        raise UsageError("actors.num_gpus", int(found) if found.is_integer() else found, allowed)


def _check_label(field: str, label: str) -> None:
    """Refuses a label that readers of the run would take for a number, date or null."""
    if reads_as_value(label):
        raise UsageError(field, label, READS_AS_TEXT)
