"""An `Attribution` as a figure, as arrays, and as an `xarray.Dataset`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from ssig.display.figures import Figure, Panel, Row, save_picture, size_for
from ssig.display.overlays import limit_of, overlay, photograph
from ssig.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from ssig.types.method import Attribution

MOST_SHOWN = 8  # images of one figure
# Fields -> their dimensions in an `xarray.Dataset`.
DIMENSIONS = {
    "values": ("image", "channel", "y", "x"),
    "map": ("image", "y", "x"),
    "standard_error": ("image", "y", "x"),
    "bias": ("image", "y", "x"),
    "score": ("image",),
    "baseline_score": ("image",),
    "completeness_residual": ("image",),
    "reliability": ("image",),
    "gradient_evaluations": ("image",),
}


def figure(attribution: Attribution) -> Figure:
    """Each image with its map, the map's standard error where there is one, its score and its reliability."""
    shown = min(len(attribution), MOST_SHOWN)
    maps = array(attribution.map[:shown])
    palettes = {bool((one < 0).any()) for one in maps}
    palettes |= {False} if attribution.standard_error is not None else set()
    left = len(attribution) - shown
    note = f"{left} more: result.rows(slice({shown}, {min(shown + MOST_SHOWN, shown + left)}))" if left else ""
    return Figure(tuple(_row(attribution, index) for index in range(shown)), frozenset(palettes), note)


def map_overlay(attribution: Attribution, index: int, limit: float | None = None) -> Image.Image:
    """The map of one image over its photograph, or over white where the image is not at hand."""
    values = array(attribution.map[index])
    size = size_for(values.shape)
    return overlay(values, photograph_of(attribution, index), bool((values < 0).any()), size, limit)


def photograph_of(attribution: Attribution, index: int) -> Image.Image | None:
    """One image as a picture of the map's size; None where it is not at hand."""
    if attribution.explained is None:
        return None
    image = array(attribution.explained.images[index])
    return photograph(image, size_for(image.shape[-2:]))


def save(attribution: Attribution, path: str | Path) -> Path:
    """Writes the figure (``.png``) or all arrays (``.npz``).

    Raises:
        UsageError: another suffix.
    """
    target = Path(path)
    suffix = target.suffix.lower()
    if suffix == ".npz":
        np.savez_compressed(target, **arrays(attribution))
    elif suffix == ".png":
        save_picture(figure(attribution), target)
    else:
        raise UsageError("path", str(path), "a file name that ends in .png (the figure) or .npz (the arrays)")
    return target


def arrays(attribution: Attribution) -> dict[str, Any]:
    """Every field that is there; of what was explained `images`, `targets`, `target_names` and `method` too."""
    found = {name: array(value) for name in DIMENSIONS if (value := getattr(attribution, name)) is not None}
    explained = attribution.explained
    if explained is not None:
        found |= {
            "images": array(explained.images),
            "targets": array(explained.targets),
            "target_names": np.array(explained.names),
            "method": np.array(explained.method),
        }
    return found


def dataset(attribution: Attribution) -> Any:
    """An `xarray.Dataset` of every field that is there.

    Raises:
        ImportError: xarray is not installed.
    """
    try:
        import xarray
    except ModuleNotFoundError as error:
        raise ImportError(
            "Attribution.to_xarray needs xarray, which is not installed: pip install xarray", name=error.name
        ) from error
    found = arrays(attribution)
    variables: dict[str, Any] = {name: (DIMENSIONS[name], found[name]) for name in DIMENSIONS if name in found}
    coordinates: dict[str, Any] = {}
    attributes: dict[str, Any] = {}
    if attribution.explained is not None:
        variables["images"] = (DIMENSIONS["values"], found["images"])
        coordinates = {"target": ("image", found["targets"]), "target_name": ("image", found["target_names"])}
        attributes = {"method": attribution.explained.method, "score_name": attribution.explained.score}
    return xarray.Dataset(variables, coordinates, attributes)


def line(attribution: Attribution) -> str:
    """An attribution in one line, as `repr` gives it."""
    explained = attribution.explained
    count, (height, width) = len(attribution), attribution.map.shape[-2:]
    method = f"{explained.method}: " if explained is not None else ""
    scores = ", ".join(f"{value:.4g}" for value in attribution.score[:4].tolist()) + (", …" if count > 4 else "")
    images = "1 image" if count == 1 else f"{count} images"
    there = [name for name in DIMENSIONS if getattr(attribution, name) is not None]
    return f"<Attribution {method}{images}, maps {height} x {width}, score {scores}; has {', '.join(there)}>"


def reliability_line(attribution: Attribution, index: int) -> str:
    """What is known of how far random draws decide one map, in one sentence."""
    if attribution.reliability is not None:
        value = float(attribution.reliability[index])
        return f"Reliability {value:.2f}: the correlation to expect with a second map from as many new samples."
    if attribution.standard_error is not None:
        return "The map has a standard error, and no reliability."
    return "No standard error: the method draws no samples, or its map was smoothed or averaged."


def array(tensor: Tensor) -> Any:
    """A tensor as a NumPy array."""
    return tensor.detach().cpu().numpy()


def _row(attribution: Attribution, index: int) -> Row:
    explained = attribution.explained
    score = float(attribution.score[index])
    named = "score" if explained is None else explained.score
    parts = [] if explained is None else [explained.names[index], explained.method]
    heading = " · ".join([*parts, f"{named} {score:.3g} (baseline {float(attribution.baseline_score[index]):.3g})"])
    values = array(attribution.map[index])
    picture = photograph_of(attribution, index)
    panels = [] if picture is None else [Panel(picture, "image")]
    limit = limit_of(values)
    panels.append(Panel(map_overlay(attribution, index, limit), "map"))
    if attribution.standard_error is not None:
        errors = array(attribution.standard_error[index])
        drawn = overlay(errors, None, False, size_for(errors.shape), limit)
        panels.append(Panel(drawn, "standard error, same scale"))
    return Row(tuple(panels), heading, reliability_line(attribution, index))
