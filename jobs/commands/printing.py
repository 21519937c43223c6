"""What the commands print: tables for a person, JSON for a program. Rich is imported where something is drawn."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pipeline.storage.jsontext import to_json


@dataclass(frozen=True)
class Style:
    """How values are written: words, what joins a list and a field to its value, and the form of floats."""

    yes: str
    no: str
    nothing: str
    join: str
    colon: str
    number: str
    spaced: bool = False


YAML = Style("true", "false", "null", join=", ", colon=": ", number="")
PROSE = Style("yes", "no", "-", join="; ", colon=" ", number=".5g", spaced=True)


def text(value: object, style: Style = YAML) -> str:
    """A value in a style; a mapping of exactly min, median and max as `least - median - greatest`."""
    if isinstance(value, Mapping):
        if set(value) == {"min", "median", "max"}:
            return " - ".join(text(value[name], style) for name in ("min", "median", "max"))
        names = {name: str(name).replace("_", " ") if style.spaced else name for name in value}
        return ", ".join(f"{names[name]}{style.colon}{text(inner, style)}" for name, inner in value.items())
    if isinstance(value, list | tuple):
        return style.join.join(text(inner, style) for inner in value)
    if isinstance(value, bool):
        return style.yes if value else style.no
    if isinstance(value, float):
        return format(value, style.number)
    return style.nothing if value is None else str(value)


def print_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in header:
        table.add_column(column, no_wrap=column == header[0])
    for row in rows:
        table.add_row(*row)
    Console(highlight=False, markup=False).print(table)


def print_entries(entries: Iterable[tuple[str, str, Mapping[str, object]]]) -> None:
    """Prints entries of a name, a sentence and facts. They can be read at any width, unlike a table."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True, style="bold")
    table.add_column()
    for name, sentence, facts in entries:
        table.add_row(name, f"{sentence}\n{' · '.join(f'{key}: {text(value)}' for key, value in facts.items())}")
    Console(highlight=False, markup=False).print(table)


def print_json(value: object) -> int:
    """Prints JSON and returns the exit code 0."""
    has_all = (sys.stdout.encoding or "").lower().replace("-", "").replace("_", "") == "utf8"
    print(to_json(value, indent=1, readable=has_all))
    return 0


def counts(statuses: Mapping[str, int]) -> str:
    """Counts by name, such as ``3 ok + 1 failed``."""
    return " + ".join(f"{count} {name}" for name, count in statuses.items()) or "0"
