"""Writes a comparison into a folder: page, record and tables."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.report.compare.contents import Comparison, as_json, row_record
from pipeline.report.compare.page import html
from pipeline.run.reader import Run
from pipeline.storage.folders import RECORD, whole_folder
from pipeline.storage.jsontext import to_json

PAGE, DOCUMENT, DIFFERENCES, MAPS = "index.html", "comparison.json", "differences.csv", "maps.csv"


def about_of(paths: tuple[str, str], most: int, seed: int) -> dict[str, Any]:
    """What the folder of a comparison is."""
    return {"made_by": "ssig compare", "runs": list(paths), "maps": most, "seed": seed}


def write(
    comparison: Comparison, runs: tuple[Run, Run], folder: Path, about: Mapping[str, Any], command: str
) -> list[Path]:
    """Writes the folder, which appears whole at the end; what it holds, the page first.

    Args:
        folder: as `pipeline.storage.folders.check_folder` allows it.
        about: what it is.
        command: what to type next.
    """
    document = as_json(comparison, runs)
    maps = [*document["maps"]["methods"]]
    with whole_folder(folder, about) as staged:
        (staged / PAGE).write_text(html(comparison, runs, command), encoding="utf-8")
        (staged / DOCUMENT).write_text(to_json(document, indent=1, readable=True) + "\n", encoding="utf-8")
        _table(staged / DIFFERENCES, [row_record(row) for row in comparison.rows])
        _table(staged / MAPS, maps)
    others = sorted(path for path in folder.iterdir() if path.name not in (PAGE, RECORD))
    return [folder / PAGE, *others]


def _table(path: Path, records: Sequence[Mapping[str, Any]]) -> None:
    names: Iterable[str] = records[0] if records else ()
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(names), lineterminator="\n")
        writer.writeheader()
        writer.writerows(records)
