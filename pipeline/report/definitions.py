"""What the columns of a report mean, each once, with the link that leads to it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pipeline.report.columns import Column, metric_of
from pipeline.report.whole import Whole
from pipeline.run.reader import Run

_DIRECTIONS = {"higher": "higher is better", "lower": "lower is better"}


@dataclass(frozen=True)
class Definition:
    """What one column, or number of the data set, means.

    Attributes:
        name: of the column.
        title: the name that people use.
        text: one line.
        direction: what is better, in words.
        range: of its numbers; empty where it is not known.
        reference: where it was published; empty where it is not known.
        incomparable: why methods are not ranked by it, although it has a better direction; empty where they are.
        anchor: what links lead to.
    """

    name: str
    title: str
    text: str
    direction: str
    range: str
    reference: str
    incomparable: str
    anchor: str


def definitions(run: Run, model: str, columns: Sequence[Column], wholes: Sequence[Whole]) -> list[Definition]:
    """The definitions of a model's columns and numbers of the data set, in their order."""
    shown: list[Column | Whole] = [*columns, *wholes]
    return [_definition(run, model, column) for column in shown]


def merged(models: Iterable[Sequence[Definition]]) -> list[Definition]:
    """The definitions of all models, each name once."""
    return list({definition.name: definition for model in models for definition in model}.values())


def anchor(name: str) -> str:
    """What links to the definition of a column lead to: letters, digits and signs that need no escape."""
    return "metric-" + re.sub(r"[^A-Za-z0-9_]", lambda sign: f"-{ord(sign[0]):x}-", name)


def _definition(run: Run, model: str, column: Column | Whole) -> Definition:
    spec = metric_of(run, model, column.source)
    return Definition(
        name=column.name,
        title=column.shown,
        text=column.definition,
        direction=_DIRECTIONS.get(column.direction, "neither higher nor lower is better"),
        range="" if spec is None else spec.range,
        reference="" if spec is None else spec.reference,
        incomparable=column.incomparable if isinstance(column, Column) else "",
        anchor=anchor(column.name),
    )
