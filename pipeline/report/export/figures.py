"""The report's figures as PDF and SVG, and strips of a photograph with its maps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from matplotlib.figure import Figure
from PIL import Image

from pipeline.report import descriptions
from pipeline.report.contents import ModelReport, Report
from pipeline.report.curves import Curve, score_label
from pipeline.report.drawing import SMALL, SOFT, TEXT, shortened, styled
from pipeline.report.exhibits import StoredMaps, photograph_of
from pipeline.report.export.names import slug
from pipeline.report.export.samples import class_name
from pipeline.report.figures import curve_figure, distribution_figure, forest_figure, tradeoff_figure
from pipeline.report.numbers import number
from pipeline.report.pictures import foremost
from pipeline.report.reference import ordered_methods
from pipeline.report.styles import line_styles
from pipeline.run.reader import Run
from ssig.display import PERCENTILE, overlay, size_for
from ssig.errors import UsageError

CAPTIONS = "captions.md"
KINDS = ("pdf", "svg")
_TILE, _GAP, _TOP, _BOTTOM = 104.0, 6.0, 18.0, 30.0  # points
_MOST_TILES = 8  # in a row
_DOTS = 300  # per inch, of maps in a PDF


def write_figures(run: Run, report: Report, chosen: Sequence[Mapping[str, Any]], folder: Path) -> None:
    """Writes each figure as PDF and SVG, and `captions.md`.

    Args:
        run, report: the run and what its report says.
        chosen: rows of the manifest, of the samples whose maps are drawn.
        folder: where to.
    """
    captions = []
    with styled():
        for position, model in enumerate(report.models, 1):
            prefix = "" if len(report.models) == 1 else f"{position}-{slug(model.model)}-"
            for name, figure, caption in _figures(run, model, chosen):
                for kind in KINDS:
                    about = {"Creator": None, **({"CreationDate": None} if kind == "pdf" else {"Date": None})}
                    figure.savefig(folder / f"{prefix}{name}.{kind}", format=kind, metadata=about, dpi=_DOTS)
                captions.append(f"**{prefix}{name}.** {caption}")
    (folder / CAPTIONS).write_text("\n\n".join(captions) + "\n", encoding="utf-8")


def samples_named(run: Run, names: Sequence[str]) -> list[dict[str, Any]]:
    """The rows of the manifest of samples, each named by its key, or by SHARD:KEY where several have the key.

    Raises:
        UsageError: there is no such sample, or several.
    """
    numbers: dict[str, list[int]] = {name: [] for name in names}
    start = 0
    for piece in run.expected.pieces(["shard", "key"]) if names else ():
        for name, found in numbers.items():
            found += (start + np.flatnonzero(_is_named(piece, name))).tolist()
        start += len(piece)
    chosen = []
    for name in names:
        if not numbers[name]:
            known = [key for piece in run.expected.pieces(["key"]) for key in piece["key"].to_pylist()]
            raise UsageError("--sample", name, "the key of a sample, or SHARD:KEY", known=known)
        rows = [run.expected.row(number) for number in numbers[name][:3]]
        if len(rows) > 1:
            shards = ", ".join(f"{row['shard']}:{row['key']}" for row in rows)
            raise UsageError("--sample", name, f"one of the samples with this key, such as {shards}", known=())
        chosen += rows
    return chosen


def _is_named(samples: pa.RecordBatch, name: str) -> np.ndarray:
    """Which samples have a name: their key, or SHARD:KEY."""
    named = np.asarray(pc.equal(samples["key"], name))
    for place in (place for place, letter in enumerate(name) if letter == ":"):
        in_shard = pc.and_(pc.equal(samples["shard"], name[:place]), pc.equal(samples["key"], name[place + 1 :]))
        named = named | np.asarray(in_shard)
    return named


def _figures(run: Run, model: ModelReport, chosen: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, Figure, str]]:
    """Name, figure and caption of all figures of a model."""
    styles = line_styles(model.methods, model.controls)
    if model.effects:
        yield "forest", forest_figure(model.effects, styles), descriptions.forest_text(model.effects)
    by_metric: dict[str, list[Curve]] = {}
    for curve in model.curves:
        by_metric.setdefault(curve.metric, []).append(curve)
    options = run.config[model.model, model.reference].get("metrics", {})
    for metric, drawn in by_metric.items():
        texts = (metric.capitalize(), score_label(options.get(metric, {})))
        caption = f"{descriptions.curves_text(drawn)} Bands: pointwise 95 % intervals."
        yield f"curves-{slug(metric)}", curve_figure(drawn, styles, foremost(drawn, model.effects), texts), caption
    for distribution in model.distributions:
        figure = distribution_figure(distribution, model.methods, styles)
        yield f"distribution-{slug(distribution.column.name)}", figure, descriptions.distribution_text(distribution)
    for tradeoff in model.tradeoffs:
        figure = tradeoff_figure(tradeoff, styles)
        yield f"cost-{slug(tradeoff.column.name)}", figure, descriptions.tradeoff_text(tradeoff)
    for position, expected in enumerate(chosen, 1):
        figure, caption = strip_figure(run, model.model, expected)
        yield f"maps-{position}-{slug(expected['key'])}", figure, caption


def strip_figure(run: Run, model: str, expected: Mapping[str, Any]) -> tuple[Figure, str]:
    """A photograph with the map of each method, and the caption."""
    config = run.config[model, ordered_methods(run, model)[0]]
    size = size_for(config.get("model", {}).get("input_size", (1, 1)))
    stored = {method: StoredMaps(run, model, method).read(expected) for method in ordered_methods(run, model)}
    about = next((each.about for each in stored.values() if each.about.get("status") == "ok"), {})
    photograph = photograph_of(run, expected, about.get("crop"), size)
    tiles: list[tuple[str, Image.Image | None, str]] = [("photograph", photograph.picture, photograph.missing)]
    for method, each in stored.items():
        picture = None
        if each.values is not None:
            picture = overlay(each.values, photograph.picture, bool((each.values < 0).any()), size)
        tiles.append((method, picture, "no map stored"))
    categories = config.get("categories") or ()
    target = class_name(categories, about.get("target")) or f"class {about.get('target', '?')}"
    words = f"{expected['key']}: {target}, probability {number(about.get('probability'))}"
    caption = (
        f"{expected['shard']}, {expected['key']}: maps of {model} for {target} (probability "
        f"{number(about.get('probability'))}), over the faded photograph. Each map is scaled to the {PERCENTILE} "
        "percentile of its own magnitude, so colours compare within a map, not between maps."
    )
    return _tiled(tiles, words, size), caption


def _tiled(tiles: Sequence[tuple[str, Image.Image | None, str]], words: str, size: tuple[int, int]) -> Figure:
    """Pictures of one size in rows, each with its name above it."""
    rows = -(-len(tiles) // _MOST_TILES)
    across = -(-len(tiles) // rows)
    tall = _TILE * size[1] / size[0]
    width, height = across * (_TILE + _GAP) - _GAP, rows * (tall + _TOP) + _BOTTOM
    figure = Figure(figsize=(width / 72, height / 72))
    for position, (name, picture, missing) in enumerate(tiles):
        row, column = divmod(position, across)
        left, bottom = column * (_TILE + _GAP), height - (row + 1) * (tall + _TOP)
        axes = figure.add_axes((left / width, bottom / height, _TILE / width, tall / height))
        axes.set_axis_off()
        axes.set_title(shortened(name), size=TEXT, pad=3)
        if picture is None:
            axes.text(0.5, 0.5, shortened(missing, 24), size=SMALL, color=SOFT, ha="center", va="center")
        else:
            axes.imshow(picture, interpolation="none")
    figure.text(0, 8 / height, shortened(words, 90), size=SMALL, color=SOFT)
    return figure
