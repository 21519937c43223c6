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
from pipeline.job.sections import Actors, ModelChoice, Output, ReportChoice
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
UNIT_SIZE = 64  # samples of a unit, where nothing says what would be better
_INT64 = 2**63
# Fields whose values are text as typed: a label 010 is no number.
TEXTS = frozenset({"label"})

_UnitSize = Annotated[int, Field(ge=1, le=4096, strict=True)]


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
    unit_size: _UnitSize | Literal["auto"] = Field(
        "auto",
        description="samples that are committed at once; auto: as many as take an actor about a minute, measured "
        "before the run begins: a power of two up to 1024; for up to 1,000 images 64, or fewer so that each of "
        "several actors gets four units",
    )
    seed: int = Field(0, ge=0, lt=_INT64, strict=True, description="random seed")

    @property
    def model_label(self) -> str:
        return self.model.title

    @property
    def known_unit_size(self) -> int:
        """Samples of a unit, as far as the job says it: `UNIT_SIZE` where it is to be measured."""
        return UNIT_SIZE if self.unit_size == "auto" else self.unit_size


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
    if job.actors.metrics:
        allowed = (
            "0: `ssig evaluate` makes no maps, so all its actors compute metrics (actors.device: cpu, actors.max)"
        )
        raise UsageError("actors.metrics", job.actors.metrics, allowed)
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
    _check_values(job)
    _check_metrics_actors(job)


def _check_gpus(actors: Actors) -> None:
    """Refuses actors of several GPUs, all but one of which would be idle, and of none that compute on one."""
    if actors.device == "cuda" and actors.num_gpus == 0:
        raise UsageError("actors.num_gpus", 0, "above 0 with actors.device=cuda, or type --set actors.device=cpu")
    if actors.num_gpus != "auto" and actors.num_gpus > 1:
        several = f"--set actors.num_gpus=1 --set actors.max={math.ceil(actors.num_gpus)}"
        allowed = f"at most 1: an actor computes on one GPU; to use several, type {several}"
        found = actors.num_gpus
        raise UsageError("actors.num_gpus", int(found) if found.is_integer() else found, allowed)


def _check_values(job: Job) -> None:
    """Refuses metrics of the values of each channel where a run keeps only their readout."""
    for metric in job.metrics:
        if "values" in metric.spec.needs and not job.output.channels:
            allowed = "a metric of maps; this one needs the values of each channel: type --set output.channels=true"
            raise UsageError("metrics", metric.name, allowed)


def _check_metrics_actors(job: Job) -> None:
    """Refuses actors that only measure where they would have nothing to do, or would have to explain images."""
    why = None
    explaining = [metric.text for metric in job.metrics if "method" in metric.spec.needs]
    if job.actors.executor == "local":
        why = "with actors.executor=local (--in-process): one process has one worker"
    elif job.output.maps == "none":
        why = "with output.maps=none: they read the maps that others store"
    elif not job.metrics:
        why = "without metrics: they would have nothing to do"
    elif explaining:
        why = f"with the metric {explaining[0]}: it explains images again, which is for the actors that make maps"
    if job.actors.metrics and why is not None:
        raise UsageError("actors.metrics", job.actors.metrics, f"0 {why}")


def _check_label(field: str, label: str) -> None:
    """Refuses a label that readers of the run would take for a number, date or null."""
    if reads_as_value(label):
        raise UsageError(field, label, READS_AS_TEXT)
