"""A view: which samples are shown, in which order and how, all of it in the query string of its address."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, TypeVar
from urllib.parse import urlencode

from pipeline.browse.series import Collection, Series
from pipeline.run.schema import SHARED

PER_PAGE = 24
PREDICTIONS = {"": "any", "right": "right", "wrong": "wrong"}
ORDERS = {"desc": "highest first", "asc": "lowest first"}
SCALES = {"own": "each its own scale", "same": "the same scale"}
LAYERS = {"overlay": "over the photograph", "map": "alone"}
_LONGEST = 4000  # characters of a parameter
Value = TypeVar("Value")


@dataclass(frozen=True)
class Range:
    """What a column must lie in; None where a bound is open."""

    column: str
    low: float | None
    high: float | None


@dataclass(frozen=True)
class View:
    """The state of a page.

    Attributes:
        method: name of the series whose maps and numbers are shown.
        versus: name of the series that it is compared with; empty without one.
        sort: column to sort by, or empty: the order of the shards. With `versus`, its difference is sorted by.
        order: ``desc`` or ``asc``.
        label: class number, or part of a class name.
        status, prediction: what samples must have; empty for any.
        ranges: of columns of `method`.
        sql: a condition in SQL.
        page: from 1.
        scale, layer, boxes: how maps are drawn.
    """

    method: str
    versus: str = ""
    sort: str = ""
    order: str = "desc"
    label: str = ""
    status: str = ""
    prediction: str = ""
    ranges: tuple[Range, ...] = ()
    sql: str = ""
    page: int = 1
    scale: str = "own"
    layer: str = "overlay"
    boxes: str = "on"
    problems: tuple[str, ...] = field(default=(), compare=False)

    def query(self, **changes: Any) -> str:
        """The query string of this view with some fields changed, the page set back to 1 unless it is given."""
        return urlencode(replace(self, **{"page": 1, **changes}).pairs())

    def pairs(self) -> list[tuple[str, str]]:
        """The parameters that differ from what an address without them means, and the method."""
        pairs: list[tuple[str, str]] = []
        for one in fields(View):
            value = getattr(self, one.name)
            if one.name == "ranges":
                for each in value:
                    pairs += [("column", each.column), ("low", _text(each.low)), ("high", _text(each.high))]
            elif one.name == "method" or (one.name != "problems" and value != one.default):
                pairs.append((one.name, str(value)))
        return pairs

    def changed(self, **changes: Any) -> View:
        """This view with some fields changed."""
        return replace(self, **changes)

    def stay(self, **changes: Any) -> str:
        """The same, on the same page."""
        return self.query(**{"page": self.page, **changes})


def columns_of(series: Series) -> list[str]:
    """The columns that can be sorted by: those of the metrics, then those of the attribution."""
    return list(dict.fromkeys([*(column.name for column in series.columns), *SHARED, "probability"]))


def parse_view(parameters: Sequence[tuple[str, str]], collection: Collection) -> View:
    """The view that a query string asks for; what it does not understand is left out and told in `problems`."""
    given = {name: value[:_LONGEST] for name, value in parameters}
    problems: list[str] = []
    first = collection.series[0].name
    method = _allowed(given, "method", first, collection.by_name, problems)
    columns = columns_of(collection.by_name[method])
    return View(
        method=method,
        versus=_allowed(given, "versus", "", ["", *collection.by_name], problems),
        sort=_allowed(given, "sort", "", ["", *columns], problems),
        order=_allowed(given, "order", "desc", ORDERS, problems),
        label=given.get("label", "").strip(),
        status=given.get("status", ""),
        prediction=_allowed(given, "prediction", "", PREDICTIONS, problems),
        ranges=_ranges(parameters, columns, problems),
        sql=given.get("sql", "").strip(),
        page=min(max(_number(given, "page", int, problems) or 1, 1), 10**6),
        scale=_allowed(given, "scale", "own", SCALES, problems),
        layer=_allowed(given, "layer", "overlay", LAYERS, problems),
        boxes=_allowed(given, "boxes", "on", ("on", "off"), problems),
        problems=tuple(problems),
    )


def _text(bound: float | None) -> str:
    return "" if bound is None else repr(bound)


def _allowed(
    given: Mapping[str, str], name: str, default: str, allowed: Sequence[str] | Mapping[str, Any], problems: list[str]
) -> str:
    value = given.get(name, default)
    if value in allowed:
        return value
    problems.append(f"There is no {name} {value!r}.")
    return default


def _ranges(parameters: Sequence[tuple[str, str]], columns: Sequence[str], problems: list[str]) -> tuple[Range, ...]:
    """The ranges that ``column``, ``low`` and ``high`` give, in that order and as often as they come."""
    lists: dict[str, list[str]] = {name: [] for name in ("column", "low", "high")}
    for name, value in parameters:
        if name in lists:
            lists[name].append(value[:_LONGEST])
    ranges = []
    for column, low, high in zip(lists["column"], lists["low"], lists["high"], strict=False):
        bounds = [_number({"bound": text}, "bound", float, problems) for text in (low, high)]
        if not column or bounds == [None, None]:
            continue
        if column in columns:
            ranges.append(Range(column, *bounds))
        else:
            problems.append(f"There is no column {column!r}.")
    return tuple(ranges[:20])


def _number(given: Mapping[str, str], name: str, kind: Callable[[str], Value], problems: list[str]) -> Value | None:
    text = given.get(name, "").strip()
    if not text:
        return None
    try:
        return kind(text)
    except ValueError:
        problems.append(f"{name}: {text!r} is no number.")
        return None
