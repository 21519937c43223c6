"""Markdown that GitHub and the built site show alike."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

_SPECIAL = re.compile(r"([\\*_\[\]|])")


def plain(text: str) -> str:
    """Text in which nothing outside of backticks is markup."""
    parts = text.split("`")
    outside = [_SPECIAL.sub(r"\\\1", part).replace("<", "&lt;") for part in parts[::2]]
    parts[::2] = outside
    return "`".join(parts)


def code(value: object) -> str:
    """A name or a value as code; nothing for nothing. GitHub and the site read `|` in a table's code differently."""
    text = str(value)
    return f"`{text}`" if text and "|" not in text else plain(text)


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of cells that are Markdown already."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(' '.join(cell.split()) for cell in line)} |" for line in lines)


def page(title: str, source: str, *parts: str) -> str:
    """A whole page.

    Args:
        title: its first line.
        source: what it is made from, for who would edit it.
        parts: paragraphs, tables and headings; empty ones are left out.
    """
    note = f"<!-- Made by `make format` from {source}. Change that, not this page. -->"
    return "\n\n".join([f"# {title}", note, *filter(None, parts)]) + "\n"
