"""Selections as files: the numbers as CSV, the samples as a shard. Both are sent piece by piece."""

from __future__ import annotations

import csv
import io
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import PurePosixPath

from pipeline.browse.pictures import Pictures
from pipeline.browse.selection import Selected
from pipeline.browse.series import Series
from pipeline.run.stored import members_of

_BLOCK = 512
_LEADING = ("=", "+", "-", "@", "\t", "\r")  # a spreadsheet would take such a text for a formula


def csv_lines(selected: Iterable[Selected], series: Series, other: Series | None, sort: str) -> Iterator[str]:
    """A table with a row per sample; with a column to sort by, its numbers too."""
    header = ["shard", "index", "key", "label", "class", "status", "error", "predicted", "target", "probability"]
    if sort:
        header += [f"{series.name}: {sort}"]
        header += [f"{other.name}: {sort}", f"difference of {sort}"] if other is not None else []
    yield _line([_text(name) for name in header])
    for one in selected:
        name = series.class_name(one.label) if one.label is not None else ""
        row: list[object] = [one.shard, one.index, one.key, one.label, name, one.status, one.error, one.predicted]
        row += [one.target, one.probability]
        if sort:
            row += [one.value, *([one.other, one.difference] if other is not None else [])]
        yield _line([_text(value) for value in row])


def tar_blocks(selected: Iterable[Selected], series: Series, pictures: Pictures) -> Iterator[bytes]:
    """A shard of the samples: each member as its own shard holds it, the shard's name before its key.

    Raises:
        UsageError, OSError: a shard cannot be read, which breaks the download off.
    """
    for one in selected:
        row = pictures.expected(series.run_number, one.id)
        if row is None:
            continue
        folder = PurePosixPath(row.shard).stem
        for extension, data in members_of(series.run, row):
            info = tarfile.TarInfo(f"{folder}/{row.key}.{extension}")
            info.size = len(data)
            yield info.tobuf(tarfile.PAX_FORMAT)
            yield data + b"\0" * (-len(data) % _BLOCK)
    yield b"\0" * (2 * _BLOCK)


def picked(selected: Iterable[Selected], picks: Sequence[str]) -> Iterator[Selected]:
    """The samples that were ticked; all where none was."""
    wanted = set(picks)
    return (one for one in selected if not wanted or str(one.id) in wanted)


def _line(values: Sequence[object]) -> str:
    target = io.StringIO()
    csv.writer(target).writerow(values)
    return target.getvalue()


def _text(value: object) -> object:
    """A value as it is written; a text that a spreadsheet would compute is quoted."""
    return f"'{value}" if isinstance(value, str) and value.startswith(_LEADING) else value
