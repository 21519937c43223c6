"""Boxes of images from COCO annotations (``{"images": [...], "annotations": [...], "categories": [...]}``).

A box is ``[x, y, width, height]`` there, in pixels of the image; in a shard it is ``[x0, y0, x1, y1]``. Where the
file's categories have the name of an image's class, only boxes of that category are its object. Regions of crowds
(``iscrowd``) are left out. Source: https://cocodataset.org/#format-data
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.shards.items import Names, size_of
from pipeline.shards.names import BOXES
from ssig.errors import UsageError

_FORM = 'COCO annotations: {"images": [{"id", "file_name"}], "annotations": [{"image_id", "bbox"}]}'
_OVER = 1.0  # pixel that a box may reach over the edge, by rounding


@dataclass(frozen=True)
class Boxes:
    """Boxes (x0, y0, x1, y1) by image; `note` says how the file was understood."""

    of: dict[Path, list[list[float]]]
    note: str


def read_boxes(path: Path, names: Names, labels: Mapping[Path, str | int | None]) -> Boxes:
    """Reads the boxes of the images of a folder; an image may have none.

    Args:
        path: the JSON file.
        names: the images.
        labels: the class of each, by name or number.

    Raises:
        UsageError: field ``dataset.boxes``: another form, no image of the folder, or a box outside of its image.
    """
    record = _record(path)
    images, absent = _images(path, record, names)
    if not images:
        example = names.shown(names.images[0])
        problem = f"{path}: none of its {absent} images is in {names.folder}"
        raise UsageError(BOXES, problem, f"file_name that are paths of images, such as {example}")
    categories = {category["id"]: str(category.get("name")) for category in record.get("categories", [])}
    of_class = set(categories.values()) & {label for label in labels.values() if isinstance(label, str)}
    boxes_of: dict[Path, list[list[float]]] = {}
    left_out = 0
    for number, entry in enumerate(record["annotations"]):
        image = images.get(entry.get("image_id"))
        if image is None or entry.get("iscrowd"):
            continue
        label = labels.get(image)
        if label in of_class and categories.get(entry.get("category_id")) != label:
            left_out += 1
            continue
        box = _box(f"{path}: annotation {entry.get('id', number)}", entry.get("bbox"))
        boxes_of.setdefault(image, []).append(box)
    for image, boxes in boxes_of.items():
        _check_inside(path, names, image, boxes)
    return Boxes(boxes_of, _note(path, boxes_of, len(names.images), absent, left_out))


def _record(path: Path) -> dict[str, Any]:
    try:
        record = json.loads(path.read_bytes())
    except OSError as error:
        raise UsageError(BOXES, str(path), f"a JSON file that can be read ({error.strerror})") from None
    except (ValueError, RecursionError):
        raise UsageError(BOXES, str(path), _FORM) from None
    lists = [record.get(name) for name in ("images", "annotations")] if isinstance(record, dict) else [None]
    optional = record.get("categories", []) if isinstance(record, dict) else []
    for rows in (*lists, optional):
        if not isinstance(rows, list) or not all(isinstance(entry, dict) for entry in rows):
            raise UsageError(BOXES, str(path), _FORM)
    if not all("id" in entry for entry in (*record["images"], *optional)):
        raise UsageError(BOXES, f"{path}: an image or category without id", _FORM)
    return record  # type: ignore[no-any-return]


def _images(path: Path, record: Mapping[str, Any], names: Names) -> tuple[dict[Any, Path], int]:
    """Images of the folder by their ids, and how many others the file has."""
    images: dict[Any, Path] = {}
    absent = 0
    for entry in record["images"]:
        name = entry.get("file_name")
        if not isinstance(name, str):
            raise UsageError(BOXES, f"{path}: image {entry['id']} without file_name", _FORM)
        matches = names.find(name)
        if len(matches) > 1:
            shown = " and ".join(names.shown(image) for image in matches[:2])
            raise UsageError(BOXES, f"{path}: {name!r} is {shown}", "file_name that name one image each")
        absent += not matches
        if matches:
            images[entry["id"]] = matches[0]
    return images, absent


def _box(where: str, box: object) -> list[float]:
    numbers = [number for number in box if isinstance(number, int | float)] if isinstance(box, list) else []
    if not isinstance(box, list) or not len(box) == len(numbers) == 4 or not all(map(math.isfinite, numbers)):
        raise UsageError(BOXES, f"{where}: bbox {box}", "four numbers: [x, y, width, height]")
    x, y, width, height = numbers
    if width <= 0 or height <= 0:
        raise UsageError(BOXES, f"{where}: bbox {box}", "boxes [x, y, width, height] that have an area")
    return [x, y, x + width, y + height]


def _check_inside(path: Path, names: Names, image: Path, boxes: Sequence[Sequence[float]]) -> None:
    width, height = size_of(image, BOXES)
    for x0, y0, x1, y1 in boxes:
        if min(x0, y0) < -_OVER or x1 > width + _OVER or y1 > height + _OVER:
            found = f"{path}: {names.shown(image)} has {width} x {height} pixels, and a box from {x0, y0} to {x1, y1}"
            allowed = (
                "boxes [x, y, width, height] in pixels of the file, inside of the image: were they drawn on a resized "
                "or rotated image, or are they [x0, y0, x1, y1]?"
            )
            raise UsageError(BOXES, found, allowed)


def _note(path: Path, boxes_of: Mapping[Path, Sequence[object]], images: int, absent: int, left_out: int) -> str:
    count = sum(map(len, boxes_of.values()))
    note = f"{path.name}: {count} boxes for {len(boxes_of)} of {images} images"
    if left_out:
        note += f"; {left_out} boxes of other classes than their image's are left out"
    if absent:
        note += f"; {absent} of its images are not in the folder"
    return note
