"""Figures and page of `pipeline.paper.measure`: certainty by method, alignment by sampler, saturation by strength."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from pipeline.report.drawing import STYLE
from pipeline.report.numbers import NONE
from pipeline.report.numbers import number as plain
from pipeline.report.styles import GREY, TONES
from pipeline.storage.jsontext import to_json

COLOURS = [tone.light for tone in TONES]
KINDS = {"suppression": COLOURS[0], "noise": COLOURS[1], "rival": COLOURS[2], "control": GREY.light}
LAW_STYLES: Mapping[str, tuple[str, Any, str]] = {
    "noise": (COLOURS[1], "-", "o"),
    "uniform": (COLOURS[0], "-", "s"),
    "uniform-channel": (COLOURS[5], "--", "^"),
    "fade": (COLOURS[3], ":", "D"),
}
FEW = 100  # images; below, the page says that the numbers are no findings
_PIXELS_PER_INCH = 150
_ROUNDING = 1e-6  # of float32 features and pixels

Line = Mapping[str, Any]


def write(record: Mapping[str, Any], folder: Path) -> list[Path]:
    """Writes the figures as SVG and PNG, the record as JSON and the page; the files, in this order."""
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for name, draw in FIGURES.items():
        with mpl.rc_context(STYLE):
            canvas = draw(record)
            for suffix, about in (("svg", {"Date": None, "Creator": None}), ("png", {"Software": None})):
                files.append(folder / f"{name}.{suffix}")
                canvas.savefig(files[-1], format=suffix, metadata=about, dpi=_PIXELS_PER_INCH, facecolor="white")
    texts = {"claims.json": to_json(record, indent=1, readable=True), "claims.md": page(record)}
    for name, text in texts.items():
        files.append(folder / name)
        files[-1].write_text(text + "\n", encoding="utf-8")
    return files


# Figures


def certainty_figure(record: Mapping[str, Any]) -> Figure:
    """Information between map and features by method: in each image, and between images."""
    lines = sorted(record["certainty"], key=lambda line: _or_least(line["certainty"]["mean"]))
    canvas = Figure(figsize=(9.0, 0.32 * len(lines) + 1.6), layout="constrained")
    first, second = canvas.subplots(1, 2, sharey=True)
    _dots(first, lines, lambda line: line["certainty"])
    _dots(second, lines, lambda line: _spread(line["certainty_nce_nats"], line["certainty_nce_error"]))
    _names(first, [line["name"] for line in lines])
    ceiling = next((line["certainty_nce_ceiling"] for line in lines if line["certainty_nce_ceiling"]), None)
    if ceiling is not None:
        second.axvline(ceiling, color="#8a8a86", linewidth=0.8, linestyle=(0, (4, 3)))
        second.set_title(f"between images: InfoNCE, at most {ceiling:.2f} (dashed)", loc="left", fontsize=10)
    first.set_title("in each image: best feature, chance taken off", loc="left", fontsize=10)
    first.set_xlabel("nats, mean with 95 % interval")
    second.set_xlabel("nats, bound with its standard error")
    _legend(canvas, lines)
    return canvas


def alignment_figure(record: Mapping[str, Any]) -> Figure:
    """Distances of each sampler's points from the natural images."""
    lines = sorted(record["alignment"], key=lambda line: -_or_least(line["alignment_kid"]))
    canvas = Figure(figsize=(9.0, 0.32 * len(lines) + 1.6), layout="constrained")
    axes = canvas.subplots(1, 3, sharey=True)
    _dots(axes[0], lines, lambda line: _spread(line["alignment_kid"], line["alignment_kid_error"]))
    _dots(axes[1], lines, lambda line: _spread(line["alignment_frechet"], None))
    _dots(axes[2], lines, lambda line: _spread(line["alignment_spectrum_distance"], None))
    _names(axes[0], [line["sampler"] for line in lines])
    for panel, title, unit in zip(
        axes,
        ("kernel distance (KID)", "Fréchet distance", "power spectra"),
        ("with standard error", "of features", "RMS difference of ln P"),
        strict=True,
    ):
        panel.set_title(title, loc="left", fontsize=10)
        panel.set_xlabel(unit)
    _legend(canvas, lines)
    return canvas


def saturation_figure(record: Mapping[str, Any]) -> Figure:
    """What the network answers and passes back, by how much the samples differ from the image."""
    panels = {
        "probability": "target probability",
        "relative_gradient": "mean |gradient| / that at the image",
        "dead": "share of dead ReLU units",
    }
    shown = {name: title for name, title in panels.items() if any(_has(line, name) for line in record["saturation"])}
    canvas = Figure(figsize=(9.0, 3.4), layout="constrained")
    for axes, (name, title) in zip(canvas.subplots(1, len(shown), squeeze=False)[0], shown.items(), strict=True):
        for law, (colour, dash, marker) in LAW_STYLES.items():
            lines = [line for line in record["saturation"] if line["law"] == law and _has(line, name)]
            across, means = ([line[column]["mean"] for line in lines] for column in ("change", name))
            low, high = ([_bound(line[name], end) for line in lines] for end in ("low", "high"))
            axes.fill_between(across, low, high, color=colour, alpha=0.13, linewidth=0)
            axes.plot(across, means, color=colour, linestyle=dash, marker=marker, markersize=3.5, linewidth=1.5)
        axes.set_title(title, loc="left", fontsize=10)
        axes.set_xlabel("RMS change of a pixel")
        axes.grid(axis="y", color="#e6e6e2", linewidth=0.7)
        axes.spines[["top", "right"]].set_visible(False)
    handles = [
        Line2D([], [], color=colour, linestyle=dash, marker=marker, markersize=4, label=law)
        for law, (colour, dash, marker) in LAW_STYLES.items()
    ]
    canvas.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False)
    return canvas


FIGURES: Mapping[str, Callable[[Mapping[str, Any]], Figure]] = {
    "certainty": certainty_figure,
    "alignment": alignment_figure,
    "saturation": saturation_figure,
}


def _dots(axes: Axes, lines: Sequence[Line], estimate: Callable[[Line], Mapping[str, float | None]]) -> None:
    for height, line in enumerate(lines):
        interval, colour = estimate(line), KINDS[line["kind"]]
        if interval["mean"] is not None:
            axes.plot([_bound(interval, "low"), _bound(interval, "high")], [height, height], color=colour, linewidth=2)
            axes.plot(interval["mean"], height, "o", color=colour, markersize=6)
    axes.axvline(0, color="#b9b9b3", linewidth=0.8, zorder=0)
    axes.grid(axis="x", color="#e6e6e2", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _names(axes: Axes, names: Sequence[str]) -> None:
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(-0.6, len(names) - 0.4)


def _legend(canvas: Figure, lines: Iterable[Line]) -> None:
    present = {line["kind"] for line in lines}
    handles = [
        Line2D([], [], color=colour, marker="o", linewidth=2, label=kind)
        for kind, colour in KINDS.items()
        if kind in present
    ]
    canvas.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False)


def _spread(value: float | None, error: float | None) -> dict[str, float | None]:
    if value is None or error is None:
        return {"mean": value, "low": value, "high": value}
    return {"mean": value, "low": value - error, "high": value + error}


def _bound(estimate: Mapping[str, Any], end: str) -> float:
    """The end of an interval, or the mean where there is none."""
    return float(estimate["mean"] if estimate[end] is None else estimate[end])


def _has(line: Line, name: str) -> bool:
    return line[name]["mean"] is not None


def _or_least(value: float | None) -> float:
    return -float("inf") if value is None else value


# Page


def page(record: Mapping[str, Any]) -> str:
    """The tables, what they rest on, and what they do and do not show, in Markdown."""
    return "\n\n".join(
        [
            "# Certainty, alignment, saturation",
            _rests_on(record),
            "## Certainty by method",
            "![](certainty.svg)",
            _certainty_table(record["certainty"]),
            "## Alignment by sampler",
            "![](alignment.svg)",
            _alignment_table(record["alignment"]),
            "## Saturation by strength",
            "![](saturation.svg)",
            _saturation_table(record["saturation"]),
            "## What this shows, and what not",
            _limits(record),
        ]
    )


def _rests_on(record: Mapping[str, Any]) -> str:
    failed = ", ".join(f"{count} {status}" for status, count in record["failed"].items()) or "none"
    lines = [
        f"{record['images']} images (left out: {failed}); network {record['model']}, weights "
        f"{record['weights_hash'][:12]}; target {record['target']}, score {record['score']}, baseline "
        f"{record['baseline']}; {record['samples']} gradient evaluations a map (`gradient` 1, controls 0); "
        f"samples at each strength: {record['draws']}; features of alignment: {record['features']}; seed "
        f"{record['seed']}. Means over images with 95 % intervals."
    ]
    if record["images"] < FEW:
        lines.append(
            f"**{record['images']} images are few: intervals are wide, InfoNCE ends at the logarithm of half of them, "
            "Fréchet distances are biased. Read this as a check that all runs, not as a finding.**"
        )
    return "\n\n".join(lines)


def _certainty_table(lines: Sequence[Line]) -> str:
    header = ("method", "certainty", "above random", "mean of features", "bound", "InfoNCE", "ceiling", "top-1", "N")
    rows = [
        (
            line["name"],
            _estimate(line["certainty"]),
            _estimate(line["above_random"]),
            _estimate(line["certainty_mean"]),
            number(line["certainty_bound"]["mean"]),
            _with_error(line["certainty_nce_nats"], line["certainty_nce_error"]),
            number(line["certainty_nce_ceiling"]),
            number(line["certainty_nce_top1"]),
            str(line["certainty"]["count"]),
        )
        for line in sorted(lines, key=lambda line: -_or_least(line["certainty"]["mean"]))
    ]
    return _table(header, rows)


def _alignment_table(lines: Sequence[Line]) -> str:
    header = ("sampler", "KID", "Fréchet", "spectra", "relative distance to its image", "N")
    rows = [
        (
            line["sampler"],
            _with_error(line["alignment_kid"], line["alignment_kid_error"]),
            number(line["alignment_frechet"]),
            number(line["alignment_spectrum_distance"]),
            _estimate(line["alignment"]),
            str(line["alignment"]["count"]),
        )
        for line in sorted(lines, key=lambda line: _or_least(line["alignment_kid"]))
    ]
    return _table(header, rows)


def _saturation_table(lines: Sequence[Line]) -> str:
    header = ("law", "strength", "RMS change", "target probability", "mean gradient, relative", "dead ReLU units")
    rows = [
        (
            line["law"],
            f"{line['strength']:g}",
            number(line["change"]["mean"]),
            _estimate(line["probability"]),
            _estimate(line["relative_gradient"]),
            _estimate(line["dead"]),
        )
        for line in lines
    ]
    return _table(header, rows)


def _limits(record: Mapping[str, Any]) -> str:
    bins = record["metrics"]["certainty"]["bins"]
    return "\n".join(
        [
            "- **Certainty** is an estimate of a lower bound: what a map's ranks tell of the best of five hand-made "
            f"features (edges at three scales, luminance, colour contrast) cell by cell, at most ln {bins}; the bound "
            f"is exp(I) / {bins}. It rewards maps that look like edges, whatever the network does: `sobel` knows "
            "nothing of the network and shows how far that goes, `centre` what a position is worth, `random` the "
            "floor.",
            "- **InfoNCE** tells how well a map picks its image among the others with a fitted linear critic; it says "
            "nothing of what lies above the bound, and compares only at the same N.",
            "- **Alignment** is seen by the explained network itself: a sample that fools it looks near. KID and "
            "Fréchet distances hold for this network and this N only. `identity`, the image itself, is 0 by "
            "definition and so no rival: nearness alone is no merit.",
            "- **Saturation** compares laws at equal RMS change of the pixels, which is equal energy and not equal "
            "distance to natural images. A lower probability may be a loss of evidence as well as saturation; the "
            "dead share counts all ReLU units alike, so early layers weigh most.",
            "- None of the three says that a map is faithful; that is what insertion, deletion and their kin are for. "
            "That they move together over samplers would be correlation over a handful of laws, not a cause.",
        ]
    )


def number(value: float | None) -> str:
    """A number; one that is rounding alone is 0."""
    return plain(0.0 if value is not None and abs(value) < _ROUNDING else value)


def _estimate(estimate: Mapping[str, Any]) -> str:
    if estimate["mean"] is None:
        return NONE
    return f"{number(estimate['mean'])} [{number(estimate['low'])}, {number(estimate['high'])}]"


def _with_error(value: float | None, error: float | None) -> str:
    return number(value) if error is None else f"{number(value)} ± {number(error)}"


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
