"""`ssig compare`: two runs on the samples that both have."""

from __future__ import annotations

import shlex
import sys
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlencode

import typer

from ssig.errors import DONE

if TYPE_CHECKING:
    from pipeline.report.compare.contents import Comparison
    from pipeline.report.compare.differences import Row

WIDTH = 80


def compare(
    first: Annotated[str, typer.Argument(metavar="RUN_A", help="Run directory to compare with.")],
    second: Annotated[str, typer.Argument(metavar="RUN_B", help="Run directory that is compared.")],
    out: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Folder to write a page, JSON and CSV to.")
    ] = None,
    maps: Annotated[int, typer.Option(metavar="N", min=0, help="Compare the maps of at most N samples.")] = 100,
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="Random seed of the choice of these samples.")] = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace another comparison in this folder.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> int:
    """Compare two runs on the samples that both have.

    They may be of two checkpoints or of two configurations. Differences are B minus A.
    """
    from pipeline.run.presence import require_run

    require_run(first)
    require_run(second)
    from pipeline.report.compare.contents import as_json as record_of  # imports torch
    from pipeline.report.compare.contents import compare as compared
    from pipeline.report.compare.writing import about_of, write
    from pipeline.storage.folders import check_folder

    about = about_of((first, second), maps, seed)
    folder = None if out is None else check_folder("--out", out, about, overwrite=overwrite)
    comparison, runs = compared((first, second), maps, seed, tell)
    command = f"ssig browse {shlex.quote(first)} {shlex.quote(second)}"
    files = [] if folder is None else write(comparison, runs, folder, about, command)
    if as_json:
        from jobs.commands.printing import print_json

        return print_json(record_of(comparison, runs))
    print(*lines(comparison), sep="\n")
    for file in files:
        print(f"wrote: {file}")
    print(f"next: {command}")
    print(*_view(first, second, comparison), sep="\n")
    return DONE


def lines(comparison: Comparison) -> list[str]:
    """The comparison in lines of at most 80 letters; paths and addresses aside."""
    a, b = comparison.sides
    printed = [f"A: {a.root}", f"B: {b.root}", *_wrapped(comparison.summary)]
    printed += [line for note in comparison.notes for line in _wrapped(f"note: {note}")]
    printed += ["", *table(comparison.headlines), ""] if comparison.headlines else []
    sentences = [
        f"{each.name}: {_short(each.first)} in A, {_short(each.second)} in B ({', '.join(each.methods)})"
        for each in comparison.options
    ]
    sentences += [f"not compared: {text}" for text in comparison.lacking]
    sentences += [f"{count} maps not compared: {reason}" for reason, count in comparison.left_out.items()]
    sentences += [
        f"maps of {each.pair.method}: rank correlation {each.quantiles[1]:.3f} (median of {each.count})"
        for each in comparison.maps
        if each.quantiles is not None
    ]
    return [*printed, *(line for sentence in sentences for line in _wrapped(sentence))]


def _wrapped(sentence: str) -> list[str]:
    return textwrap.wrap(sentence, WIDTH, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)


def table(rows: Sequence[Row]) -> list[str]:
    """Differences in columns that fit 80 letters."""
    from pipeline.report import numbers

    cells_of_rows = []
    for row in rows:
        difference = row.difference
        verdict = difference.verdict or ("not told apart" if difference.p is not None else "not tested")
        cells_of_rows.append(
            (
                row.pair.method,
                row.column.name,
                numbers.number(row.first.mean),
                numbers.number(row.second.mean),
                f"{numbers.signed(difference.mean)} {numbers.interval(difference)}",
                numbers.integer(difference.count),
                verdict,
            )
        )
    header = ("method", "number", "A", "B", "B - A", "N", "B is")
    return list(_aligned([header, *cells_of_rows])) if cells_of_rows else []


def _aligned(rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    """Rows in columns; names are cut where 80 letters are too few."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    over = sum(widths) + 2 * (len(widths) - 1) - WIDTH
    for column in (0, 1):
        if over > 0:
            cut = min(over, max(0, widths[column] - 10))
            widths[column], over = widths[column] - cut, over - cut
    for row in rows:
        cells = []
        for column, (text, width) in enumerate(zip(row, widths, strict=True)):
            shown = text if len(text) <= width else f"{text[: width - 1]}…"
            cells.append(shown.rjust(width) if 2 <= column <= 5 else shown.ljust(width))
        yield "  ".join(cells).rstrip()


def _short(value: object) -> str:
    from pipeline.storage.jsontext import to_json

    text = "nothing" if value is None else to_json(value, readable=True)
    return text if len(text) <= 24 else f"{text[:23]}…"


def _view(first: str, second: str, comparison: Comparison) -> list[str]:
    """The address of the samples in the order of the clearest difference, once the pages are open."""
    from pipeline.browse.series import Collection

    row = next((row for row in comparison.headlines if row.difference.verdict), None)
    row = row or next(iter(comparison.headlines), None)
    if row is None:
        return []
    names = {(each.run_number, each.model, each.method): each.name for each in Collection([first, second]).series}
    query = {
        "method": names[1, row.pair.second_model, row.pair.method],
        "versus": names[0, row.pair.first_model, row.pair.method],
        "sort": row.column.name,
    }
    return [f"then open: http://127.0.0.1:8642/?{urlencode(query)}"]


def tell(line: str) -> None:
    """Prints a warning beside the results."""
    print(line, file=sys.stderr)
