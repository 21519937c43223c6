"""The class of each image from a CSV of one's own: any two columns, one that names the image and one its class.

Which column is which is found out: the first names images of the folder. The header, if there is one, is the row
whose file does not exist and has no image's ending. Whole numbers are class numbers; anything else is a name.
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.shards.images import IMAGE_EXTENSIONS
from pipeline.shards.items import Names
from pipeline.shards.names import LABELS
from ssig.errors import UsageError

_TRIED = 100  # rows by which the column of the images is found
_SHOWN = 3
_DELIMITERS = ",;\t|"
# What the column of classes is called, where a file has more than two; of several the first.
_CLASS_COLUMNS = ("label", "class", "class_name", "classname", "category", "target", "species", "wnid", "class_id")
_NUMBER = re.compile(r"(\d{1,9})(?:\.0*)?")  # a whole number; some programs write it as 3.0


@dataclass(frozen=True)
class Labels:
    """Classes by image; `note` says how the file was understood."""

    of: dict[Path, str | int]
    note: str


@dataclass(frozen=True)
class _Table:
    """The rows of the file, each with its line number; `header` are the names of the columns, where it has one."""

    rows: Sequence[tuple[int, list[str]]]
    header: Sequence[str] | None
    image: int
    label: int


def read_labels(path: Path, names: Names) -> Labels:
    """Reads the classes of all images of a folder.

    Raises:
        UsageError: field ``dataset.labels``: no such columns, a row without an image, an image without a row, an
            image of two classes, or an empty class.
    """
    table = _table(path, names)
    class_of: dict[Path, str] = {}
    for line, row in table.rows:
        image = _image(path, line, row[table.image], names)
        label = row[table.label].strip()
        if not label:
            raise UsageError(LABELS, f"{path}:{line}: no class", "a class in each row; fill it in, or delete the row")
        if class_of.setdefault(image, label) != label:
            classes = [class_of[image], label]
            raise UsageError(LABELS, f"{path}:{line}: {names.shown(image)} is {classes}", "one class for each image")
    missing = [image for image in names.images if image not in class_of]
    if missing:
        more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
        allowed = "a row for each image: add the row, or move the image away"
        raise UsageError(LABELS, f"{path}: no row for {names.shown(missing[0])}{more}", allowed)
    of, are_numbers = _classes(path, class_of)
    return Labels(of, _note(path, table, of, are_numbers=are_numbers))


def _table(path: Path, names: Names) -> _Table:
    rows = _rows(path)
    counts = Counter(len(row) for _, row in rows)
    width = counts.most_common(1)[0][0]
    for line, row in rows:
        if len(row) != width:
            raise UsageError(LABELS, f"{path}:{line}: {len(row)} columns", f"{width} columns, as the other rows have")
    if width < 2:
        raise UsageError(LABELS, f"{path}: one column ({rows[0][1][0][:80]!r})", "two columns: file,class")
    tried = rows[: _TRIED + 1]
    hits = [sum(len(names.find(row[column])) > 0 for _, row in tried) for column in range(width)]
    image = max(range(width), key=lambda column: hits[column])
    if not hits[image]:
        example = names.shown(names.images[0])
        found = f"{path}: no column names an image of {names.folder}; its first row is {rows[0][1]}"
        raise UsageError(LABELS, found, f"a column with the images' paths, such as {example}")
    first = rows[0][1]
    has_header = not names.find(first[image]) and not _has_ending(first[image])
    header = [name.strip() for name in first] if has_header else None
    return _Table(rows[1:] if has_header else rows, header, image, _label_column(path, header, width, image))


def _label_column(path: Path, header: Sequence[str] | None, width: int, image: int) -> int:
    others = [column for column in range(width) if column != image]
    if len(others) == 1:
        return others[0]
    lowered = [name.lower() for name in header or ()]
    if lowered and {"imageid", "predictionstring"} <= set(lowered):
        raise UsageError(LABELS, str(path), "two columns; for LOC_val_solution.csv type `ssig pack FOLDER --csv FILE`")
    for name in _CLASS_COLUMNS if header else ():
        if name in lowered and lowered.index(name) != image:
            return lowered.index(name)
    shown = f"the columns {', '.join(header)}" if header else f"{width} columns without a header"
    raise UsageError(LABELS, f"{path}: {shown}", "two columns, or a column with the name label or class")


def _rows(path: Path) -> list[tuple[int, list[str]]]:
    """The rows that are not empty, with their line numbers."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise UsageError(LABELS, str(path), f"a CSV file that can be read ({reason})") from None
    first = next((line for line in text.splitlines() if line.strip()), "")
    delimiter = max(_DELIMITERS, key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        rows = [(reader.line_num, row) for row in reader if any(cell.strip() for cell in row)]
    except csv.Error as error:
        raise UsageError(LABELS, f"{path}:{reader.line_num}", f"a CSV file ({error})") from None
    if not rows:
        raise UsageError(LABELS, f"{path}: no rows", "a row for each image: file,class")
    return rows


def _has_ending(text: str) -> bool:
    return text.strip().lower().rpartition(".")[2] in IMAGE_EXTENSIONS and "." in text


def _image(path: Path, line: int, text: str, names: Names) -> Path:
    images = names.find(text)
    if len(images) == 1:
        return images[0]
    if images:
        shown = " and ".join(names.shown(image) for image in images[:2])
        raise UsageError(LABELS, f"{path}:{line}: {text!r} is {shown}", "paths that name one image each")
    allowed = f"rows of images in {names.folder}; delete the row, or add the image"
    raise UsageError(LABELS, f"{path}:{line}: no image {text!r}", allowed)


def _classes(path: Path, class_of: dict[Path, str]) -> tuple[dict[Path, str | int], bool]:
    numbers = {image: _NUMBER.fullmatch(label) for image, label in class_of.items()}
    if all(numbers.values()):
        return {image: int(number[1]) for image, number in numbers.items() if number is not None}, True
    if any(re.fullmatch(r"-\d+", label) for label in class_of.values()) and all(
        re.fullmatch(r"-?\d+", label) for label in class_of.values()
    ):
        lowest = min(class_of.values(), key=int)
        raise UsageError(LABELS, f"{path}: class {lowest}", "class numbers from 0, or names of classes")
    return dict(class_of), False


def _note(path: Path, table: _Table, classes: dict[Path, str | int], *, are_numbers: bool) -> str:
    def column(number: int) -> str:
        return f"column {table.header[number]!r}" if table.header else f"column {number + 1}"

    distinct = sorted(set(classes.values()), key=lambda one: (str(type(one)), one))
    shown = ", ".join(map(str, distinct[:_SHOWN])) + (", …" if len(distinct) > _SHOWN else "")
    kind = "class number" if are_numbers else "class name"
    header = "a header" if table.header else "no header"
    kinds = f"{len(distinct)} {kind}{'' if len(distinct) == 1 else 's'} ({shown})"
    return (
        f"{path.name}: {header}; {column(table.image)} names the image, {column(table.label)} its class; "
        f"{len(classes)} images, {kinds}"
    )
