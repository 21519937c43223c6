"""What the commands print: tables for a person, JSON for a program."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence

from rich.console import Console
from rich.table import Table


def text(value: object) -> str:
    """A value as in YAML."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {text(inner)}" for key, inner in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(map(text, value))
    return str(value).lower() if isinstance(value, bool) else "null" if value is None else str(value)


def print_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in header:
        table.add_column(column, no_wrap=column == header[0])
    for row in rows:
        table.add_row(*row)
    Console(highlight=False, markup=False).print(table)


def print_json(value: object) -> int:
    """Prints JSON; 0, for commands that end with it."""
    print(json.dumps(value, indent=1, ensure_ascii=False))
    return 0
