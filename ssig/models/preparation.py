"""The preprocessing of a network's input, stated by the job, the network, its callable, transforms or timm.

Normalisation (mean, std) and geometry (size, resize, interpolation, crop) are each taken as a whole from the first
source that states a part of it, so that numbers of two sources do not mix; only the job changes single fields. Without
any statement, images stay in [0, 1] and are resized to 8/7 of the input.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torchvision import transforms as v1
from torchvision.transforms import InterpolationMode, v2

from ssig.errors import ModelError, SsigError, UsageError
from ssig.models.geometry import CENTER, SQUASH, Geometry

# A usual value for evaluation: 224 of 256 pixels.
DEFAULT_CROP_FRACTION = 0.875
DEFAULT_SIZE = 224
CHANNELS = 3
NOBODY = "none: images in [0, 1]"
INPUT_FIELDS = ("size", "resize", "interpolation", "crop")
CROPS = (CENTER, SQUASH)
INTERPOLATIONS = tuple(mode.value for mode in InterpolationMode)

Values = tuple[float, ...]
Size = tuple[int, int]


@dataclass(frozen=True)
class Prepared:
    """The preprocessing of a network: mean and std per channel in pixel space, geometry, and their source."""

    mean: Values
    std: Values
    geometry: Geometry
    source: str


@dataclass(frozen=True)
class Stated:
    """The statements of one source; None for values that it does not state.

    Attributes:
        source: its name, for messages.
        mean, std: per channel in pixel space.
        size: (H, W) of the input.
        resize: (height, width) before the crop.
        interpolation: for resizing, the value of an `InterpolationMode`.
        crop: ``center`` or ``squash``, see `Geometry`.
        antialias: from transforms.
    """

    source: str
    mean: Values | None = None
    std: Values | None = None
    size: Size | None = None
    resize: Size | None = None
    interpolation: str | None = None
    crop: str | None = None
    antialias: bool | None = None

    @property
    def normalises(self) -> bool:
        return self.mean is not None or self.std is not None

    @property
    def resizes(self) -> bool:
        return any(value is not None for value in (self.size, self.resize, self.interpolation, self.crop))


def combined(sources: Iterable[Stated]) -> Prepared:
    """Normalisation and geometry, each from the first source that states a part of it."""
    statements = list(sources)
    normal = next((stated for stated in statements if stated.normalises), Stated(NOBODY))
    shape = next((stated for stated in statements if stated.resizes), Stated(NOBODY))
    size = shape.size or (DEFAULT_SIZE, DEFAULT_SIZE)
    height, width = size
    geometry = Geometry(
        resize=shape.resize or (size if shape.crop == SQUASH else _around(height, width, DEFAULT_CROP_FRACTION)),
        crop=size,
        interpolation=shape.interpolation or "bilinear",
        antialias=shape.antialias is not False,
        mode=shape.crop or CENTER,
    )
    mean, std = normal.mean or (0.0,) * CHANNELS, normal.std or (1.0,) * CHANNELS
    return Prepared(mean, std, geometry, _together(normal.source, shape.source))


def overridden(prepared: Prepared, job: Stated) -> Prepared:
    """Replaces single fields by a job's statements; with another size, the crop keeps its share of the image."""
    if not job.normalises and not job.resizes:
        return prepared
    old = prepared.geometry
    size, mode = job.size or old.crop, job.crop or old.mode
    geometry = Geometry(
        resize=job.resize or (size if job.crop == SQUASH else _scaled(old, size)),
        crop=size,
        interpolation=job.interpolation or old.interpolation,
        antialias=old.antialias,
        mode=mode,
    )
    whole = job.mean is not None and job.std is not None and job.size is not None
    source = job.source if whole else f"{job.source}, else {prepared.source}"
    return Prepared(job.mean or prepared.mean, job.std or prepared.std, geometry, source)


def by_job(
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
    input: Geometry | Mapping[str, Any] | int | Sequence[int] | None,
) -> Stated:
    """The statements of a caller or a job.

    Args:
        mean, std: three numbers each.
        input: a geometry; or any of `INPUT_FIELDS`: ``size`` H or (H, W), ``resize`` one number or (height, width),
            ``interpolation`` and ``crop`` (center or squash) by name; or the size alone.

    Raises:
        UsageError: an unknown field, or a value that is not allowed.
    """
    if isinstance(input, Geometry):
        fields: Mapping[str, Any] = {
            "size": input.crop,
            "resize": input.resize,
            "interpolation": input.interpolation,
            "crop": input.mode,
        }
    else:
        fields = input if isinstance(input, Mapping) else {} if input is None else {"size": input}
    for name in fields:
        if name not in INPUT_FIELDS:
            raise UsageError(f"model.input.{name}", fields[name], INPUT_FIELDS)

    def refuse(name: str, found: object, allowed: str) -> SsigError:
        return UsageError(f"model.{name}" if name in ("mean", "std") else f"model.input.{name}", found, allowed)

    values = {"mean": mean, "std": std, **fields}
    return _checked("the job", {name: value for name, value in values.items() if value is not None}, refuse)


def by_attributes(owner: object, what: str, name: str) -> Stated:
    """The statements in attributes of a network or a callable: mean, std, input_size, resize, interpolation, crop.

    Methods and submodules of these names are ignored.

    Raises:
        ModelError: a value that is not allowed, with the attribute.
    """
    values = {}
    for attribute in ("mean", "std", "input_size", "resize", "interpolation", "crop"):
        value = getattr(owner, attribute, None)
        if value is not None and (not callable(value) or isinstance(value, InterpolationMode)):
            values["size" if attribute == "input_size" else attribute] = value

    def refuse(field: str, found: object, allowed: str) -> SsigError:
        attribute = "input_size" if field == "size" else field
        return ModelError(f"{name}: its attribute {attribute} is {found!r}; expected {allowed}")

    return _checked(what, values, refuse)


def by_transforms(transforms: object, what: str, name: str) -> Stated:
    """The statements of torchvision's transforms: a preset of weights, weights, or a `Compose` for evaluation.

    Raises:
        ModelError: transforms of another type, or an unsupported step.
    """
    make_preset = getattr(transforms, "transforms", None)
    if callable(make_preset) and hasattr(transforms, "meta"):  # weights
        transforms = make_preset()
    if all(hasattr(transforms, field) for field in ("crop_size", "resize_size", "mean", "std")):
        preset: Any = transforms
        values = {
            "mean": tuple(preset.mean),
            "std": tuple(preset.std),
            "size": preset.crop_size[0] if len(preset.crop_size) == 1 else tuple(preset.crop_size),
            "resize": preset.resize_size[0] if len(preset.resize_size) == 1 else tuple(preset.resize_size),
            "interpolation": preset.interpolation,
        }
        return replace(_checked(what, values, _refusing(name, what)), antialias=bool(preset.antialias))
    steps = getattr(transforms, "transforms", None)
    if isinstance(steps, (list, tuple)):
        return _by_steps(steps, what, name)
    kind = type(transforms).__name__
    raise ModelError(f"{name}: returned a {kind} beside the network; expected the transforms of torchvision weights")


def by_timm(network: nn.Module) -> Stated | None:
    """The statements of timm's `pretrained_cfg` (in older versions `default_cfg`); None if the network has none."""
    config = getattr(network, "pretrained_cfg", None) or getattr(network, "default_cfg", None)
    if not isinstance(config, Mapping) and not hasattr(config, "crop_pct"):
        return None
    # Imported late: it takes seconds.
    from timm.data.config import resolve_data_config

    values = dict(config) if isinstance(config, Mapping) else vars(config)
    resolved: Any = resolve_data_config(pretrained_cfg=values)  # type: ignore[no-untyped-call]
    size = resolved["input_size"][1:]
    return Stated(
        source="pretrained_cfg of timm",
        mean=tuple(resolved["mean"]),
        std=tuple(resolved["std"]),
        size=tuple(size),
        resize=tuple(math.floor(edge / resolved["crop_pct"]) for edge in size),
        interpolation=resolved["interpolation"],
        crop=resolved["crop_mode"],
    )


def input_warnings(mean: Iterable[float], std: Iterable[float]) -> tuple[str, ...]:
    """Warnings about a normalisation of images in [0, 1]."""
    shown = ", ".join(f"{value:g}" for value in mean)
    if any(not 0 <= value <= 1 for value in mean):
        advice = "divide mean and std for 0 to 255 by 255"
        return (f"mean is outside [0, 1]: images are in [0, 1] (found {shown}; {advice})",)
    if any(value > 1 for value in std):
        shown = ", ".join(f"{value:g}" for value in std)
        return (f"std is above 1: images are in [0, 1] (found {shown}; divide mean and std for 0 to 255 by 255)",)
    return ()


Refusal = Callable[[str, object, str], SsigError]


def _checked(source: str, values: Mapping[str, Any], refuse: Refusal) -> Stated:
    """The values of one source in their types; raises `refuse(field, found, allowed)` for a wrong value."""
    typed: dict[str, Any] = {}
    for name, value in values.items():
        if name in ("mean", "std"):
            typed[name] = _per_channel(value)
            if typed[name] is None:
                raise refuse(name, value, "three numbers, per channel of images in [0, 1]")
            if name == "std" and not all(deviation > 0 for deviation in typed[name]):
                raise refuse(name, value, "numbers above 0")
        elif name in ("size", "resize"):
            typed[name] = _edges(value)
            if typed[name] is None:
                raise refuse(name, value, "(H, W) in pixels, or one number for both")
        else:
            allowed = INTERPOLATIONS if name == "interpolation" else CROPS
            typed[name] = value.value if isinstance(value, InterpolationMode) else value
            if typed[name] not in allowed:
                raise refuse(name, value, f"one of {', '.join(allowed)}")
    return Stated(source, **typed)


def _refusing(name: str, what: str) -> Refusal:
    return lambda field, found, allowed: ModelError(f"{name}: {what} state {field} {found!r}; expected {allowed}")


def _per_channel(value: Any) -> Values | None:
    try:
        values = torch.as_tensor(value, dtype=torch.float64).detach().flatten()
        red, green, blue = (values.expand(CHANNELS) if len(values) == 1 else values).tolist()
    except (TypeError, ValueError, RuntimeError):
        return None
    return (red, green, blue) if all(map(math.isfinite, (red, green, blue))) else None


def _edges(value: Any) -> Size | None:
    if isinstance(value, Tensor):
        value = value.tolist()
    try:
        height, width = (int(edge) for edge in ((value, value) if isinstance(value, int) else value))
    except (TypeError, ValueError):
        return None
    return (height, width) if height > 0 and width > 0 and not isinstance(value, (bool, str)) else None


def _around(height: int, width: int, fraction: float) -> Size:
    return math.floor(height / fraction), math.floor(width / fraction)


def _scaled(old: Geometry, size: Size) -> Size:
    """The size after resizing for an input of another size, with the same ratio to the crop as before."""
    if size == old.crop:
        return old.resize
    tall, wide = (max(edge * to // of, to) for edge, to, of in zip(old.resize, size, old.crop, strict=True))
    return tall, wide


def _together(normalisation: str, geometry: str) -> str:
    """The sources of normalisation and geometry; one name if they are the same."""
    if normalisation == geometry or geometry == NOBODY:
        return normalisation
    if normalisation == NOBODY:
        return f"{NOBODY}; size by {geometry}"
    return f"{normalisation}; size by {geometry}"


# Steps of a `Compose` that change no pixel value beyond the conversion to [0, 1].
_CONVERSIONS = (
    "ToTensor",
    "PILToTensor",
    "ToImage",
    "MaybeToTensor",
    "MaybePILToTensor",
    "ToDtype",
    "ConvertImageDtype",
)


def _by_steps(steps: Sequence[object], what: str, name: str) -> Stated:
    values: dict[str, Any] = {}
    for step in steps:
        transform: Any = step
        if isinstance(step, (v1.Resize, v2.Resize)):
            size = transform.size
            shorter_edge = isinstance(size, (list, tuple)) and len(size) == 1
            values.update(resize=size[0] if shorter_edge else size, interpolation=transform.interpolation)
        elif isinstance(step, (v1.CenterCrop, v2.CenterCrop)):
            values["size"] = transform.size
        elif isinstance(step, (v1.Normalize, v2.Normalize)):
            values.update(mean=transform.mean, std=transform.std)
        elif type(step).__name__ not in _CONVERSIONS:
            supported = "Resize, CenterCrop, ToTensor and Normalize"
            raise ModelError(f"{name}: {what} have a step {type(step).__name__}; those of evaluation are {supported}")
    if "size" not in values and "resize" in values:
        if isinstance(values["resize"], int):
            raise ModelError(f"{name}: {what} resize the shorter edge alone; a CenterCrop must follow")
        values["size"] = values["resize"]
    if isinstance(values.get("resize"), (list, tuple)):
        values["crop"] = SQUASH  # to exactly that rectangle
    return _checked(what, values, _refusing(name, what))
