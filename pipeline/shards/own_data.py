"""Data of one's own: a folder of images with classes, boxes and masks beside it, gathered before they are packed.

images   a tree with one folder per class (ImageFolder), any tree with a list of classes, or Parquet files
labels   a CSV of two columns: image and class (`own_labels`)
boxes    COCO annotations (`own_boxes`)
masks    a folder of PNG files (`own_masks`)
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.shards.classes import are_numbers, numbers_of
from pipeline.shards.items import Item, Names, check_keys, files_below, from_file, is_hidden
from pipeline.shards.names import BOXES, IMAGES, LABELS, MASKS
from pipeline.shards.own_boxes import read_boxes
from pipeline.shards.own_labels import read_labels
from pipeline.shards.own_masks import read_masks
from pipeline.shards.parquet_images import parquet_items
from pipeline.shards.presence import SOURCES, parquet_files
from ssig.errors import UsageError, nearest

_WNID = re.compile(r"n\d{8}")
_SHOWN = 3
_NO_CLASSES = "one folder per class, or a list of classes: --labels FILE.csv"


@dataclass(frozen=True)
class OwnData:
    """Where the data are.

    Attributes:
        images: a folder of images, or a file, folder or pattern of Parquet files.
        labels: a CSV with the class of each image.
        boxes: COCO annotations.
        masks: a folder of PNG files.
    """

    images: str
    labels: Path | None = None
    boxes: Path | None = None
    masks: Path | None = None

    @classmethod
    def at(cls, images: str, labels: str | None, boxes: str | None, masks: str | None) -> OwnData:
        """Data at paths as they are typed; ``~`` is the home."""
        beside = (None if path is None else Path(path).expanduser() for path in (labels, boxes, masks))
        return cls(os.path.expanduser(images), *beside)

    @property
    def folder(self) -> Path:
        return Path(self.images).resolve()

    @property
    def name(self) -> str:
        """What the shards are called."""
        files = parquet_files(self.images)
        if self.folder.is_dir():
            return self.folder.name or "images"
        return "images" if not files else files[0].stem if self.folder.is_file() else files[0].resolve().parent.name


@dataclass(frozen=True)
class Gathered:
    """The samples of a data set, sorted by key.

    Attributes:
        items: the samples; their classes are names, or the numbers that a list gives.
        order: names of all classes in the order of their numbers, where the data say so; else ().
        notes: how the data were understood, one line each.
        named_by: the field that the classes come from.
    """

    items: tuple[Item, ...]
    order: tuple[str, ...]
    notes: tuple[str, ...]
    named_by: str


def gather(data: OwnData, *, labelled: bool = True) -> Gathered:
    """Finds every image with its class, boxes and mask, and checks that they fit together; it writes nothing.

    Args:
        data: where they are.
        labelled: whether every image must have a class.

    Raises:
        UsageError: fields ``dataset.images``, ``labels``, ``boxes`` and ``masks``: what does not fit.
    """
    if not data.folder.is_dir() or _is_parquet(data):
        return _gathered_parquet(data, labelled=labelled)
    names = Names(data.folder, images_of(data))
    notes: list[str] = []
    labels: dict[Path, str | int | None]
    if data.labels is not None:
        classes = read_labels(data.labels, names)
        labels = dict(classes.of)
        notes.append(classes.note)
    else:
        labels, note = _folder_classes(data.folder, names.images, labelled=labelled)
        notes.append(note)
    boxes = None if data.boxes is None else read_boxes(data.boxes, names, labels)
    masks = None if data.masks is None else read_masks(data.masks, names)
    notes += [read.note for read in (boxes, masks) if read is not None]
    items = []
    for image in names.images:
        label = labels[image]
        about: dict[str, object] = {}
        if isinstance(label, str) and _WNID.fullmatch(label):
            about["wnid"] = label
        if boxes is not None and image in boxes.of:
            about["boxes"] = boxes.of[image]
        mask = None if masks is None else masks.of.get(image)
        plain = from_file(image, data.folder)
        items.append(dataclasses.replace(plain, label=label, about=about or None, mask=mask))
    items.sort(key=lambda item: item.key)
    check_keys(items)
    return Gathered(tuple(items), (), tuple(notes), IMAGES if data.labels is None else LABELS)


def images_of(data: OwnData) -> list[Path]:
    """The image files of a folder.

    Raises:
        UsageError: field ``dataset.images``: there is no such folder, or it has no images.
    """
    if not data.folder.is_dir():
        raise UsageError(IMAGES, data.images, SOURCES)
    images = files_below(data.folder)
    if not images:
        raise UsageError(IMAGES, f"{data.images}: no images", "a folder of images (jpg, png, …)")
    return images


def numbered(gathered: Gathered, categories: Sequence[str], *, strict: bool) -> tuple[list[str] | None, list[Item]]:
    """Gives classes their numbers: those of the network where it names its classes, else in order of name.

    Args:
        gathered: the samples.
        categories: the network's names of its classes; () or mere numbers where it has no names.
        strict: whether a class that the network does not have is refused.

    Returns:
        the names of the classes by number, None where only numbers are known; and the samples with class numbers.

    Raises:
        UsageError: field `named_by`; a class that the network does not have, with the nearest that it has.
    """
    labels = {item.label for item in gathered.items if item.label is not None}
    names = sorted(label for label in labels if isinstance(label, str))
    high = max((label for label in labels if isinstance(label, int)), default=0)
    if strict and categories and high >= len(categories):
        allowed = f"class numbers below {len(categories)}, the classes of the network"
        raise UsageError(gathered.named_by, f"class {high}", allowed)
    if not names:
        return None, list(gathered.items)
    classes = list(gathered.order) or names
    numbers = {name: number for number, name in enumerate(classes)}
    if categories and not are_numbers(categories):
        known = numbers_of(names, categories)
        unknown = [name for name in names if known[name] is None]
        if unknown and strict:
            raise _unknown(gathered.named_by, unknown, categories)
        if not unknown:
            classes, numbers = list(categories), {name: one for name, one in known.items() if one is not None}
    return classes, [
        dataclasses.replace(item, label=numbers[item.label]) if isinstance(item.label, str) else item
        for item in gathered.items
    ]


def _unknown(field: str, unknown: Sequence[str], categories: Sequence[str]) -> UsageError:
    """The error for classes that the network does not have, or has twice."""
    near = nearest(unknown[0], categories)
    suggestion = f"did you mean {near[0]}? " if near else ""
    shown = ", ".join(categories[:_SHOWN])
    more = f" (and {len(unknown) - 1} more)" if len(unknown) > 1 else ""
    allowed = (
        f"{suggestion}the network's {len(categories)} classes ({shown}, …), each by a name of its own or by its "
        f"number; take a network of these classes, or explain what it predicts: --target predicted"
    )
    return UsageError(field, f"class {unknown[0]!r}{more}", allowed)


def _folder_classes(
    folder: Path, images: Sequence[Path], *, labelled: bool
) -> tuple[dict[Path, str | int | None], str]:
    """The class of each image by the folder that it lies in, and how that was understood."""
    parts = {image: image.relative_to(folder).parts for image in images}
    stray = next((image for image in images if len(parts[image]) == 1), None)
    if stray is not None:
        if not labelled:
            return dict.fromkeys(images), f"{len(images)} images without classes"
        without = "; without classes: --target predicted, or `ssig pack --no-labels`"
        raise UsageError(IMAGES, str(stray), _NO_CLASSES + without)
    for path in sorted(folder.iterdir()):
        if path.is_dir() and not is_hidden(path.name) and not any(part[0] == path.name for part in parts.values()):
            allowed = "at least one image in each class folder; remove the folder, or name classes: --labels FILE.csv"
            raise UsageError(IMAGES, str(path), allowed)
    classes = sorted({part[0] for part in parts.values()})
    shown = ", ".join(classes[:_SHOWN]) + (", …" if len(classes) > _SHOWN else "")
    return {image: parts[image][0] for image in images}, (
        f"{len(images)} images; the folders are their classes: {len(classes)} ({shown})"
    )


def _is_parquet(data: OwnData) -> bool:
    """Whether a folder holds Parquet files and no images."""
    return bool(parquet_files(data.images)) and not any(
        path.is_file() and path.suffix.lower() in (".jpg", ".jpeg", ".png") for path in data.folder.rglob("*")
    )


def _gathered_parquet(data: OwnData, *, labelled: bool) -> Gathered:
    files = parquet_files(data.images)
    if not files:
        raise UsageError(IMAGES, data.images, SOURCES)
    for field, given in ((LABELS, data.labels), (BOXES, data.boxes), (MASKS, data.masks)):
        if given is not None:
            allowed = "a folder of images with it; Parquet files have a column label, and no boxes or masks are read"
            raise UsageError(field, str(given), allowed)
    items, order = parquet_items(files, labelled=labelled)
    items.sort(key=lambda item: item.key)
    check_keys(items)
    if not items:
        raise UsageError(IMAGES, f"{data.images}: no rows", "Parquet files with images")
    classes = f"{len(order)} classes named in the metadata" if order else "classes of the column label"
    return Gathered(tuple(items), order, (f"{len(files)} Parquet files; {len(items)} images; {classes}",), IMAGES)


def source_files(data: OwnData) -> list[tuple[str, Path, str]]:
    """Every file that the data come from: its field, its path, and its name in the record of the packing."""
    if not data.folder.is_dir() or _is_parquet(data):
        files = [(IMAGES, path, path.name) for path in parquet_files(data.images)]
        if not files:
            raise UsageError(IMAGES, data.images, SOURCES)
    else:
        files = [(IMAGES, path, path.relative_to(data.folder).as_posix()) for path in images_of(data)]
    files += [(field, path, path.name) for field, path in ((LABELS, data.labels), (BOXES, data.boxes)) if path]
    if data.masks is not None:
        if not data.masks.is_dir():
            raise UsageError(MASKS, str(data.masks), "a folder of PNG files")
        masks = files_below(data.masks, MASKS, ("png",))
        files += [(MASKS, path, path.relative_to(data.masks).as_posix()) for path in masks]
    return files
