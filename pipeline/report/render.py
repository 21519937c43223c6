"""The report's data as HTML and Markdown. Every string that comes from the run is escaped on its way out."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from pipeline.report import numbers
from pipeline.report.accounts import Account
from pipeline.report.attributed import coverage_groups
from pipeline.report.classes import SHOWN_CLASSES
from pipeline.report.columns import Column
from pipeline.report.comparison import Grouping
from pipeline.report.contents import ModelReport, Report
from pipeline.report.curves import Curve
from pipeline.report.definitions import anchor, merged
from pipeline.report.descriptions import photograph_text, tile_text
from pipeline.report.distributions import MOST_MARKS
from pipeline.report.effort import DEFINITIONS, FORWARD_DEFINITION, PHASES
from pipeline.report.findings import few, grouping_sentence, shortfall
from pipeline.report.measurements import Failure
from pipeline.report.outline import Outline
from pipeline.report.pictures import pictures
from pipeline.report.statistics import FEWEST
from pipeline.report.styles import custom_properties, swatch
from pipeline.report.svg import strip
from pipeline.report.whole import MOST_IMAGES
from pipeline.run.reader import Run
from ssig.display import DIVERGING, PERCENTILE, SEQUENTIAL, SMOOTHING, gradient
from ssig.registry.titles import title

SECTIONS_OF_A_MODEL = (
    *("findings", "ranks", "comparison", "distributions", "curves", "gallery", "tradeoff", "effort", "classes"),
    *("whole", "quality", "accounts"),
)
SECTIONS_OF_A_RUN = ("coverage", "provenance", "definitions")
SHOWN_FAILURES = 200
SHARED_SECONDS = (
    "Shared work is charged to the first method or metric that needs it: what depends on the image alone (blurred "
    "images, predictions, sweeps) to the first method of a unit, the passes of aic and sic to aic, the curves of "
    "insertion and deletion to them and not to their gap."
)
WHOLE_NOTE = (
    "Numbers that are no means over images: each is made at once from the images that all methods with that number "
    "have. Intervals are paired percentile intervals: the same resampled images for every method. Of few images they "
    "are too narrow, so no verdict is made of them. Distances and bounds that compare every image with all others "
    "have no interval, nor have more curves than can be drawn again in reasonable time. Of more than "
    f"{MOST_IMAGES:,} images, as many are taken, drawn at random."
)
_ARROWS = {"higher": "\N{NO-BREAK SPACE}↑", "lower": "\N{NO-BREAK SPACE}↓"}
_TARGETS = {"label": "labelled class", "predicted": "predicted class"}
# Signs of Markdown: anywhere, an underscore inside a word aside; what begins a heading, a list, a quotation or a rule
# where it begins a line; and what readers make links of without any sign (`://`, `www.`, `@`).
_MARKDOWN = re.compile(
    r"[\\|`*~@\[\]]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])|(?<!\S)#|^[-+=>]|:(?=//)|(?<=www)\.", re.IGNORECASE
)
_NUMBERED = re.compile(r"^(\d+)([.)])(?!\S)")


def html(run: Run, report: Report) -> str:
    """The page: one file that fetches nothing. It reads without its script, which sorts and filters tables."""
    environment = _environment(autoescape=True)
    return environment.get_template("report.html").render(
        report=report,
        outline=Outline(),
        script=_script(environment),
        sections_of_a_model=SECTIONS_OF_A_MODEL,
        sections_of_a_run=SECTIONS_OF_A_RUN,
        definitions=merged(model.definitions for model in report.models),
        pictures={model.model: pictures(run, model, number) for number, model in enumerate(report.models, 1)},
        custom_properties=custom_properties(),
        most_marks=MOST_MARKS,
        diverging=gradient(DIVERGING),
        sequential=gradient(SEQUENTIAL),
        percentile=PERCENTILE,
        smoothing=SMOOTHING,
        **_constants(),
    )


def markdown(report: Report) -> str:
    """The same numbers without pictures."""
    environment = _environment(autoescape=False, finalize=_markdown_text)
    return environment.get_template("report.md").render(
        report=report,
        definitions=merged(model.definitions for model in report.models),
        bold=Markup("**"),
        comma=Markup(", "),
        **_constants(),
    )


def _environment(**settings: Any) -> Environment:
    environment = Environment(
        loader=PackageLoader("pipeline.report"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        **settings,
    )
    environment.filters |= {
        **{
            name: _without_escape(getattr(numbers, name))
            for name in (
                *("number", "signed", "interval", "percent", "percent_interval", "integer", "count_number", "size"),
            )
        },
        "anchor": anchor,
        "arrow": lambda direction: Markup(_ARROWS.get(direction, "")),
        "breakable": _breakable,
        "by_account": _by_account,
        "coverage_groups": coverage_groups,
        "few": lambda count: Markup(f" ({few(count)})" if few(count) else ""),
        "images": _images,
        "p_value": numbers.p_value,
        "grouping_sentence": grouping_sentence,
        "metric_title": title,
        "photograph_text": photograph_text,
        "letters": _letters,
        "rank": _rank,
        "counts": _counts,
        "explained": _explained,
        "setting": _setting,
        "shared_count": _shared_count,
        "shortfall": shortfall,
        "strip": strip,
        "swatch": swatch,
        "tile_text": tile_text,
        "text": lambda value: numbers.NONE if value is None else str(value),
        "verbatim": lambda value: Markup(str(value).replace("```", "'''")),
        "who": _who,
        "widest": _widest,
    }
    return environment


@dataclass(frozen=True)
class Script:
    """A script of the page.

    Attributes:
        text: what stands between its tags.
        source: its hash, by which the page's policy allows it.
    """

    text: Markup
    source: Markup


def _script(environment: Environment) -> Script:
    if environment.loader is None:
        raise RuntimeError("the templates have no loader")
    text = environment.loader.get_source(environment, "tables.js")[0]
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return Script(Markup(text), Markup(f"sha256-{digest}"))


def _constants() -> dict[str, Any]:
    return {
        "shown_failures": SHOWN_FAILURES,
        "phases": PHASES,
        "shown_classes": SHOWN_CLASSES,
        "fewest": FEWEST,
        "effort_definitions": DEFINITIONS,
        "forward_definition": FORWARD_DEFINITION,
        "shared_seconds": SHARED_SECONDS,
        "whole_note": WHOLE_NOTE,
    }


def _without_escape(function: Any) -> Any:
    # Made of digits alone, so it needs no escape; Markdown would otherwise show \[ for the intervals.
    return lambda value: Markup(function(value))


def _breakable(name: str) -> Markup:
    """A long column name that may break after its underscores."""
    return Markup("_<wbr>").join(name.split("_"))


def _markdown_text(value: Any) -> Any:
    """Markdown's own signs, and HTML's, as text."""
    if isinstance(value, Markup | int | float):
        return value
    escaped = _NUMBERED.sub(r"\1\\\2", _MARKDOWN.sub(r"\\\g<0>", " ".join(str(value).split())))
    return escaped.replace("&", "&amp;").replace("<", "&lt;")


def _images(count: int) -> Markup:
    """The N of a number, with a warning where N is small."""
    note = few(count)
    return Markup(f"N {numbers.integer(count)}{f' ({note})' if note else ''}")


def _rank(model: ModelReport, method: str, column: Column) -> Markup:
    """The ranks that a method may have in a column; empty where methods are not ranked."""
    lead = model.comparison.leads.get(column.name)
    if lead is None or method not in lead.ranks:
        return Markup("")
    rank = lead.ranks[method]
    return Markup(f"rank {rank.low}" if rank.low == rank.high else f"rank {rank.low} to {rank.high}")


def _letters(grouping: Grouping, method: str) -> Markup:
    """A letter for each group that a method is in: methods that share one are not told apart."""
    return Markup(" ".join(_letter(number) for number, group in enumerate(grouping.groups) if method in group))


def _letter(number: int) -> str:
    return chr(ord("a") + number) if number < 26 else f"a{number - 25}"


def _by_account(accounts: Iterable[Account]) -> list[tuple[list[str], Account]]:
    """Accounts with the columns of one metric that share them, in order."""
    groups: dict[Account, list[str]] = {}
    for row in accounts:
        groups.setdefault(replace(row, column=""), []).append(row.column)
    return [(columns, row) for row, columns in groups.items()]


def _counts(curves: Sequence[Curve]) -> str:
    counts = sorted({curve.count for curve in curves})
    note = f" ({few(counts[0])})" if few(counts[0]) else ""
    return f"{counts[0]:,}{note}" if len(counts) == 1 else f"{counts[0]:,} to {counts[-1]:,}{note}"


def _explained(model: ModelReport) -> str:
    facts = model.provenance.model
    target = facts.get("target", "target")
    return f"{facts.get('score', 'score')} of the {_TARGETS.get(target, f'class {target}')}"


def _setting(model: ModelReport) -> str:
    facts = model.provenance.model
    return (
        f"model {facts.get('name', model.model)}, weights {facts.get('weights_hash', numbers.NONE)[:16]}, "
        f"precision {facts.get('precision', numbers.NONE)}; {_explained(model)}; N as shown; gradient evaluations, "
        "readout, sign and the protocol of each metric as listed under Provenance"
    )


def _shared_count(model: ModelReport, column: Column) -> int | None:
    """The N of a column where all methods that have it agree, else None."""
    counts = {estimates[column.name].count for estimates in model.comparison.means.values()} - {0}
    return counts.pop() if len(counts) == 1 else None


def _widest(model: ModelReport, column: Column) -> float:
    """The largest distance from 0 of a column's intervals of differences."""
    estimates = [row[column.name] for row in model.comparison.differences.values()]
    return max((abs(bound) for item in estimates for bound in (item.low, item.high) if bound is not None), default=0.0)


def _who(failure: Failure, report: Report) -> str:
    everyone = [row.method for row in report.coverage if row.model == failure.model]
    methods = "all" if len(everyone) == len(failure.methods) else ", ".join(failure.methods)
    return methods if len(report.models) == 1 else f"{failure.model}: {methods}"
