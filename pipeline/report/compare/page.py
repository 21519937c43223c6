"""The comparison as one HTML file in the report's look: it fetches nothing and runs no script."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

from pipeline.report import numbers
from pipeline.report.compare.contents import Comparison
from pipeline.report.compare.differences import Row
from pipeline.report.compare.maps import Likeness, expected
from pipeline.report.exhibits import StoredMap, StoredMaps, photograph_of
from pipeline.report.findings import few
from pipeline.report.outline import Outline
from pipeline.report.styles import custom_properties, line_styles, swatch
from pipeline.report.svg import strip
from pipeline.run.reader import Run
from pipeline.storage.jsontext import to_json
from ssig.display import DIVERGING, PERCENTILE, SEQUENTIAL, data_uri, gradient, overlay, size_for

_ARROWS = {"higher": "\N{NO-BREAK SPACE}↑", "lower": "\N{NO-BREAK SPACE}↓"}
_LONGEST_VALUE = 120


@dataclass(frozen=True)
class Shown:
    """A picture with what stands below it; without a picture, why there is none."""

    picture: str | None
    name: str
    note: str


@dataclass(frozen=True)
class Changed:
    """A sample whose maps differ: the photograph and the map of either run."""

    key: str
    shard: str
    index: int
    method: str
    rank_correlation: float | None
    cosine: float | None
    shown: tuple[Shown, Shown, Shown]


def html(comparison: Comparison, runs: tuple[Run, Run], command: str) -> str:
    """The page.

    Args:
        command: what to type next.
    """
    methods = list(dict.fromkeys(row.pair.method for row in comparison.rows))
    return (
        _environment()
        .get_template("compare.html")
        .render(
            comparison=comparison,
            changed=[_changed(each, comparison, runs) for each in comparison.changed],
            styles=line_styles(methods),
            outline=Outline(),
            command=command,
            custom_properties=custom_properties(),
            diverging=gradient(DIVERGING),
            sequential=gradient(SEQUENTIAL),
            percentile=PERCENTILE,
        )
    )


def _environment() -> Environment:
    environment = Environment(
        loader=ChoiceLoader([PackageLoader("pipeline.report.compare"), PackageLoader("pipeline.report")]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=True,
    )
    environment.filters |= {
        "number": numbers.number,
        "signed": numbers.signed,
        "interval": numbers.interval,
        "integer": numbers.integer,
        "p_value": lambda p: numbers.p_value(p).removeprefix("= "),
        "few": few,
        "arrow": lambda direction: _ARROWS.get(direction, ""),
        "strip": strip,
        "swatch": swatch,
        "value": _value,
        "widest": _widest,
    }
    return environment


def _value(value: Any) -> str:
    """A value of an option."""
    text = "nothing" if value is None else to_json(value, readable=True)
    return text if len(text) <= _LONGEST_VALUE else f"{text[: _LONGEST_VALUE - 1]}…"


def _widest(rows: Sequence[Row], row: Row) -> float:
    """The largest distance from 0 of the intervals of one number."""
    differences = [each.difference for each in rows if each.column.name == row.column.name]
    return max((abs(end) for each in differences for end in (each.low, each.high) if end is not None), default=0.0)


def _changed(each: Likeness, comparison: Comparison, runs: tuple[Run, Run]) -> Changed:
    rows = [
        expected(runs[0], int(comparison.common.first[each.position])),
        expected(runs[1], int(comparison.common.second[each.position])),
    ]
    models = each.pair.first_model, each.pair.second_model
    stored = [
        StoredMaps(run, model, each.pair.method).read(row) for run, model, row in zip(runs, models, rows, strict=True)
    ]
    size = size_for(stored[0].values.shape if stored[0].values is not None else (1, 1))
    photograph = photograph_of(runs[0], rows[0], stored[0].about.get("crop"), size)
    picture = photograph.picture
    shown = [Shown(None if picture is None else data_uri(picture, "WEBP"), "photograph", photograph.missing)]
    for side, run, model, stored_map in zip(comparison.sides, runs, models, stored, strict=True):
        drawn = None
        if stored_map.values is not None:
            drawn = data_uri(overlay(stored_map.values, picture, bool((stored_map.values < 0).any()), size), "WEBP")
        shown.append(Shown(drawn, f"{side.name}: {side.shown}", _classes(run, (model, each.pair.method), stored_map)))
    about = {name: rows[0][name] for name in ("key", "shard", "index")}
    pictures = shown[0], shown[1], shown[2]
    return Changed(
        **about, method=each.pair.method, rank_correlation=each.rank_correlation, cosine=each.cosine, shown=pictures
    )


def _classes(run: Run, label: tuple[str, str], stored: StoredMap) -> str:
    """What the network says of the sample."""
    categories = run.config[label].get("categories") or ()
    target, predicted = (_class(categories, stored.about.get(name)) for name in ("target", "predicted"))
    probability = numbers.number(stored.about.get("probability"))
    same = "" if target == predicted else f", predicted {predicted}"
    return f"{target}, probability {probability}{same}"


def _class(categories: Sequence[str], number: int | None) -> str:
    if number is None:
        return "unknown"
    return str(categories[number]) if 0 <= number < len(categories) else f"class {number}"
