"""The sections of a job: the network, what is stored, how the work is spread, and the report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from pipeline.job.choices import Frozen
from ssig.registry.sources import FILE

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
    channels: bool = Field(
        False, strict=True, description="store the values of each channel too, which `diffid_channels` needs"
    )
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
    metrics: int = Field(
        0,
        ge=0,
        strict=True,
        description="further actors, without a GPU, that compute the metrics of maps which the others have made; 0: "
        "each actor computes the metrics of its own maps",
    )
    metrics_cpus: Annotated[_Real, Field(gt=0)] = Field(1.0, description="CPU cores of each of these")
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
