"""The job: one YAML file, every field overridable, validated whole before any work.

Errors name the field, what was found and what is allowed. Relative paths in a file resolve against the file, those of
overrides against the working directory.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

import ssig.methods
import ssig.metrics  # noqa: F401
from ssig.errors import UsageError
from ssig.options import as_dict
from ssig.registry import METHODS, METRICS, MethodSpec, MetricSpec


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Dataset(_Frozen):
    """What is attributed."""

    shards: tuple[str, ...] = Field(
        min_length=1, description="WebDataset shards: paths or URLs, brace and glob patterns"
    )
    limit: int | None = Field(None, ge=1, description="only the first n samples")


class ModelChoice(_Frozen):
    """What is explained."""

    name: str = Field(
        "efficientnet-lite0", description="timm:NAME, torchvision:NAME, module:callable or a packaged name"
    )
    weights: str | None = Field(None, description="weights by name, 'random', or a checkpoint file")
    precision: Literal["fp32", "bf16", "fp16"] = Field("fp32", description="arithmetic of the network")
    score: Literal["logit", "log-probability", "probability"] = Field("logit", description="what is explained")
    target: Literal["label", "predicted"] | Annotated[int, Field(ge=0)] = Field(
        "label", description="class that is explained: the sample's label, the prediction, or a given class"
    )
    label: str | None = Field(None, min_length=1, description="name in the results; by default the model's name")


def _named(value: Any) -> Any:
    """A bare name as a mapping; options of a mapping gathered under `options`."""
    if isinstance(value, str):
        return {"name": value}
    if isinstance(value, Mapping) and "options" not in value:
        kept = {key: value[key] for key in ("name", "label") if key in value}
        return {**kept, "options": {key: value[key] for key in value if key not in ("name", "label")}}
    return value


class MethodChoice(_Frozen):
    """A method with its options, under a label of its own."""

    name: str
    label: str | None = Field(None, min_length=1)
    options: dict[str, Any] = Field(default_factory=dict)

    @property
    def title(self) -> str:
        return self.label or self.name

    @property
    def spec(self) -> MethodSpec:
        return METHODS[self.name]

    def parsed(self) -> Any:
        return self.spec.parse(self.options)


class MetricChoice(_Frozen):
    """A metric with its options."""

    name: str
    options: dict[str, Any] = Field(default_factory=dict)

    @property
    def spec(self) -> MetricSpec:
        return METRICS[self.name]

    def parsed(self) -> Any:
        return self.spec.parse(self.options)


class Output(_Frozen):
    """Where results go and how maps are stored."""

    path: str = Field(min_length=1, description="run directory: a path, s3:// or gs://")
    maps: Literal["none", "float16", "float32"] = Field("float16", description="how maps are stored")
    channels: bool = Field(False, description="store the values of each channel too")


class Actors(_Frozen):
    """How the work is spread; changes no result."""

    min: int = Field(1, ge=1, description="fewest actors to wait for")
    max: Annotated[int, Field(ge=1)] | Literal["auto"] = Field("auto", description="most actors")
    num_gpus: Annotated[float, Field(ge=0)] | Literal["auto"] = Field("auto", description="GPUs of each actor")
    num_cpus: Annotated[float, Field(gt=0)] | Literal["auto"] = Field("auto", description="CPU cores of each actor")
    micro_batch: Annotated[int, Field(ge=1)] | Literal["auto"] = Field("auto", description="points evaluated at once")
    compile: Literal["none", "default", "cuda-graphs"] = Field(
        "none", description="whether torch.compile makes the network, and whether it records CUDA graphs"
    )


class Job(_Frozen):
    """A whole job."""

    dataset: Dataset
    model: ModelChoice = Field(default_factory=lambda: ModelChoice.model_validate({}))
    methods: tuple[Annotated[MethodChoice, BeforeValidator(_named)], ...] = Field(
        default_factory=lambda: (MethodChoice(name="ssig"),), min_length=1
    )
    metrics: tuple[Annotated[MetricChoice, BeforeValidator(_named)], ...] = ()
    output: Output
    actors: Actors = Field(default_factory=lambda: Actors.model_validate({}))
    unit_size: int = Field(64, ge=1, le=4096, description="samples of a unit: what is committed at once")
    seed: int = Field(0, ge=0, description="of all random draws")

    @property
    def model_label(self) -> str:
        return self.model.label or self.model.name


def load_job(path: Path | None, overrides: Mapping[str, Any] | None = None) -> Job:
    """The job of a YAML file with overrides on top.

    Args:
        path: the job file, or None for overrides alone.
        overrides: dotted field -> value, such as ``{"dataset.shards": [...], "output.path": "runs/a"}``.

    Raises:
        UsageError: an unreadable file, an unknown field, or a value that is not allowed.
    """
    values = {} if path is None else _read(path)
    if path is not None:
        _resolve(values, path.resolve().parent)
    given = dict(overrides or {})
    for dotted, value in given.items():
        _set(values, dotted, value)
    _resolve(values, Path.cwd())
    try:
        job = Job.model_validate(values)
    except ValidationError as error:
        raise _usage_error(error, path) from None
    _check_choices(job)
    return job


def _read(path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError("job file", str(path), "an existing YAML file") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError("job file", str(path), f"a readable YAML file ({_one_line(error)})") from None
    if values is None:
        return {}
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise UsageError("job file", str(path), "a YAML mapping of " + ", ".join(Job.model_fields))
    return values


def _set(values: dict[str, Any], dotted: str, value: Any) -> None:
    *parents, name = dotted.split(".")
    for parent in parents:
        inner = values.setdefault(parent, {})
        if not isinstance(inner, dict):
            raise UsageError(parent, inner, "a mapping")
        values = inner
    values[name] = value


def _resolve(values: dict[str, Any], base: Path) -> None:
    """Makes the relative paths of a job absolute, in place; URLs, names and wrong types are left alone."""

    def absolute(text: Any) -> Any:
        return os.path.abspath(base / text) if isinstance(text, str) and text and "://" not in text else text

    dataset, output, model = (values.get(name) for name in ("dataset", "output", "model"))
    if isinstance(dataset, dict) and isinstance(dataset.get("shards"), str):
        dataset["shards"] = [dataset["shards"]]
    if isinstance(dataset, dict) and isinstance(dataset.get("shards"), (list, tuple)):
        dataset["shards"] = [absolute(shard) for shard in dataset["shards"]]
    if isinstance(output, dict) and "path" in output:
        output["path"] = absolute(output["path"])
    if isinstance(model, dict) and str(model.get("weights")).endswith((".pt", ".pth", ".safetensors")):
        model["weights"] = absolute(model["weights"])


def _check_choices(job: Job) -> None:
    """Checks every name and option against the registries, and that labels are distinct."""
    for kind, choices in (("methods", [m.title for m in job.methods]), ("metrics", [m.name for m in job.metrics])):
        for name in choices:
            if choices.count(name) > 1:
                raise UsageError(kind, name, "each label once; give one of them a label of its own")
    for method in job.methods:
        method.parsed()
    for metric in job.metrics:
        metric.parsed()


def _usage_error(error: ValidationError, path: Path | None) -> UsageError:
    problems = error.errors()
    first = problems[0]
    location = [
        part
        for part in first["loc"]
        if not isinstance(part, str) or part in _FIELDS or first["type"] == "extra_forbidden"
    ]
    field = ".".join(str(part) for part in location)
    allowed = first["msg"]
    found: Any = first["input"]
    if first["type"] == "extra_forbidden":
        owner = _model_at(list(first["loc"][:-1]))
        allowed = "one of " + ", ".join(owner.model_fields)
    elif first["type"] == "missing":
        allowed, found = "a value (it has no default)", None
    where = f"{path.name}: {field}" if path is not None else field
    if len(problems) > 1:
        allowed += f" (and {len(problems) - 1} more)"
    return UsageError(where, found, allowed)


def _models() -> Iterator[type[BaseModel]]:
    yield from (Job, Dataset, ModelChoice, MethodChoice, MetricChoice, Output, Actors)


_FIELDS = {name for model in _models() for name in model.model_fields}
_BY_FIELD: dict[str, type[BaseModel]] = {
    "dataset": Dataset,
    "model": ModelChoice,
    "methods": MethodChoice,
    "metrics": MetricChoice,
    "output": Output,
    "actors": Actors,
}


def _model_at(location: list[Any]) -> type[BaseModel]:
    return _BY_FIELD.get(str(location[0]), Job) if location else Job


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def method_config(choice: MethodChoice) -> dict[str, Any]:
    """What is recorded of a method: name, options with defaults, paper, equation, cost."""
    spec, options = choice.spec, choice.parsed()
    return {
        "name": spec.name,
        "options": as_dict(options),
        "paper": spec.paper,
        "equation": spec.equation,
        "evaluations": spec.evaluations(options),
        "complete": spec.complete,
    }


def metrics_config(choices: tuple[MetricChoice, ...]) -> dict[str, dict[str, Any]]:
    """Each metric's options, defaults included."""
    return {choice.name: as_dict(choice.parsed()) for choice in choices}
