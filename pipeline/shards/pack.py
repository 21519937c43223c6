"""Folders of images to WebDataset shards: the same input gives the same bytes, and no image is encoded again.

    KEY.jpg|png|webp…  the file as it is
    KEY.cls            the number of its class
    KEY.json           {"wnid": …, "boxes": [[x0, y0, x1, y1], …]}

Two layouts are read. ImageFolder: one folder per class, the classes numbered in order of name. ILSVRC validation:
the class and the boxes of each image stand in ``LOC_val_solution.csv`` (columns ``ImageId`` and
``PredictionString``, the latter ``wnid x0 y0 x1 y1 …``). In either, ``LOC_synset_mapping.txt`` may number the
classes by its lines. ``classes.json``, beside the shards, lists the classes in the order of their numbers.
"""

from __future__ import annotations

import os
import re
import tarfile
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from csv import DictReader
from dataclasses import dataclass
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO, NoReturn

from pipeline.shards import foreign
from pipeline.shards.classes import FILE as CLASSES_FILE
from pipeline.shards.images import IMAGE_EXTENSIONS
from pipeline.shards.tar_scan import is_left_behind, why_unusable
from pipeline.storage import open_storage
from pipeline.storage.base import Storage, sha256
from pipeline.storage.jsontext import to_json
from ssig.errors import UsageError

ILSVRC_CLASSES = 1000

_WNID = re.compile(r"n\d{8}")


@dataclass(frozen=True)
class _Item:
    """A sample to be packed: `about` becomes its json member."""

    key: str
    image: Path
    label: int
    about: Mapping[str, object] | None


def pack(
    source: str | Path,
    out: str | Path,
    *,
    shard_size: int = 1000,
    csv: str | Path | None = None,
    synsets: str | Path | None = None,
) -> list[str]:
    """Packs the images of `source` into ``NAME-000000.tar``, … in `out`, NAME being the name of the source folder.

    Args:
        source: an ImageFolder tree or, with `csv`, the folder of ILSVRC validation images.
        out: a folder, or the URL of one in an object store.
        shard_size: samples per shard.
        csv: ``LOC_val_solution.csv``; it may list more images than the folder holds.
        synsets: ``LOC_synset_mapping.txt``: line i begins with the name of class i.

    Returns:
        the shards; those that `out` already has with the same bytes are left as they are.

    Raises:
        UsageError: input that would give a wrong or incomplete data set, or other files of these names in `out`.
    """
    folder = Path(source).resolve()
    if not folder.is_dir():
        raise UsageError("source", str(source), "a folder of images")
    if shard_size < 1:
        raise UsageError("shard_size", shard_size, "1 or more")
    numbered = None if synsets is None else _read_synsets(Path(synsets))
    classes, items = _image_folder(folder, numbered) if csv is None else _ilsvrc(folder, Path(csv), numbered)
    items.sort(key=lambda item: item.key)
    _check_keys(items)
    storage = open_storage(out)
    slices = [items[start : start + shard_size] for start in range(0, len(items), shard_size)]
    shards = {f"{folder.name}-{number:06d}.tar": part for number, part in enumerate(slices)}
    _refuse_leftovers(storage, folder.name, shards)
    _publish(storage, CLASSES_FILE, lambda file: file.write(_json(classes)))
    for name, part in shards.items():
        _publish(storage, name, lambda file, part=part: write_tar(file, _members(part)))  # type: ignore[misc]
    with suppress(OSError):  # not empty: another command is at work there
        storage.staging().rmdir()
    return [f"{storage.root}/{name}" for name in shards]


def write_tar(file: BinaryIO, members: Iterable[tuple[str, bytes]]) -> None:
    """Writes a tar whose bytes depend on nothing but the names and contents of its members."""
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)  # time, owner and group 0, mode 644
            info.size = len(data)
            tar.addfile(info, BytesIO(data))


def _members(items: Iterable[_Item]) -> Iterator[tuple[str, bytes]]:
    for item in items:
        try:
            image = item.image.read_bytes()
        except OSError as error:
            raise UsageError("source", str(item.image), f"files that can be read ({error.strerror})") from error
        if (pointer := foreign.pointer(image)) is not None:
            raise UsageError("source", str(item.image), f"images; this is {pointer}")
        yield item.key + item.image.suffix.lower(), image
        yield f"{item.key}.cls", str(item.label).encode()
        if item.about is not None:
            yield f"{item.key}.json", _json(item.about)


def _json(value: object) -> bytes:
    return to_json(value).encode()


def _publish(storage: Storage, name: str, write: Callable[[BinaryIO], object]) -> None:
    """Stores what `write` writes; a file of that name must have the same bytes."""
    staged = storage.staging() / uuid.uuid4().hex
    try:
        with staged.open("xb") as file:
            write(file)
        digest = sha256(staged.open("rb"))
        if not storage.publish(staged, name) and sha256(storage.open(name)) != digest:
            raise UsageError("out", f"{storage.root}/{name}", "a folder without another file of this name")
    finally:
        staged.unlink(missing_ok=True)


def _refuse_leftovers(storage: Storage, prefix: str, shards: Iterable[str]) -> None:
    """Refuses shards of an earlier packing that this one would not write, since a pattern would match them too."""
    pattern = re.compile(re.escape(prefix) + r"-\d{6}\.tar")
    present = {entry.name for entry in storage.list() if pattern.fullmatch(entry.name)}
    if leftovers := sorted(present.difference(shards)):
        raise UsageError("out", f"{storage.root}/{leftovers[0]}", "a folder without other shards of this name")


def _check_keys(items: list[_Item]) -> None:
    """Refuses names that a reader of shards would skip, and two images of one key. `items` are sorted by key."""
    for item in items:
        if reason := why_unusable(item.key + item.image.suffix.lower()):
            raise UsageError("source", ascii(str(item.image)), f"file names that are keys, not {reason}")
    for first, second in pairwise(items):
        if first.key == second.key:
            raise UsageError("source", [str(first.image), str(second.image)], "one image per name, its ending aside")


def _image_folder(folder: Path, numbered: list[str] | None) -> tuple[list[str], list[_Item]]:
    """Classes and samples of an ImageFolder tree."""
    inside = sorted(path for path in folder.iterdir() if not _is_hidden(path.name))
    if stray := [path for path in inside if not path.is_dir()]:
        raise UsageError("source", str(stray[0]), "one folder per class, or a csv with the class of each image")
    if not inside:
        raise UsageError("source", str(folder), "one folder of images per class")
    classes = numbered or [path.name for path in inside]
    items: list[_Item] = []
    for path in inside:
        images = _images(path)
        if not images:
            raise UsageError("source", str(path), "at least one image in each class folder")
        about = {"wnid": path.name} if _WNID.fullmatch(path.name) else None
        label = _number(classes, path.name)
        items += [_Item(_key(image, folder), image, label, about) for image in images]
    return classes, items


def _ilsvrc(folder: Path, solution: Path, numbered: list[str] | None) -> tuple[list[str], list[_Item]]:
    """Classes and samples of a folder of ILSVRC validation images."""
    truth = _read_solution(solution)
    classes = numbered or sorted({wnid for wnid, _ in truth.values()})
    if numbered is None and len(classes) != ILSVRC_CLASSES:
        problem = f"none, for {len(classes)} classes in {solution}"
        raise UsageError(
            "synsets", problem, f"LOC_synset_mapping.txt, unless the csv has all {ILSVRC_CLASSES} classes"
        )
    items: list[_Item] = []
    for image in _images(folder):
        if image.stem not in truth:
            raise UsageError("csv", f"{solution}: no row for {image.stem}", "a row for every image of the folder")
        wnid, boxes = truth[image.stem]
        key = image.stem.replace(".", "_")
        items.append(_Item(key, image, _number(classes, wnid), {"wnid": wnid, "boxes": boxes}))
    if not items:
        raise UsageError("source", str(folder), "a folder of images")
    return classes, items


def _number(classes: list[str], name: str) -> int:
    if name not in classes:
        raise UsageError("synsets", f"no line for {name}", "a line for every class")
    return classes.index(name)


def _images(folder: Path) -> list[Path]:
    """The images below `folder`, but for hidden files and what systems leave beside them (``Thumbs.db``); any other
    file is refused: it may be an image."""
    images: list[Path] = []
    for parent, folders, names in os.walk(folder, followlinks=True, onerror=_refuse_folder):
        folders[:] = sorted(name for name in folders if not _is_hidden(name))
        for name in sorted(name for name in names if not _is_hidden(name)):
            path = Path(parent, name)
            if path.suffix.lower().removeprefix(".") not in IMAGE_EXTENSIONS:
                raise UsageError("source", ascii(str(path)), "images only: " + ", ".join(IMAGE_EXTENSIONS))
            images.append(path)
    return images


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or is_left_behind(name)


def _refuse_folder(error: OSError) -> NoReturn:
    """Refuses a folder that cannot be listed: a walk would skip it and all that is in it."""
    raise UsageError("source", ascii(str(error.filename)), f"folders that can be read ({error.strerror})") from error


def _key(image: Path, folder: Path) -> str:
    """The path from `folder` without its ending; a key ends at the first dot of a file name, so it has none."""
    path = image.relative_to(folder)
    return (path.parent / path.stem.replace(".", "_")).as_posix()


def _read_synsets(path: Path) -> list[str]:
    """The first word of each line."""
    names = [line.split()[0] for line in _text("synsets", path).splitlines() if line.strip()]
    if not names or len(set(names)) != len(names):
        raise UsageError("synsets", str(path), "one line per class, each beginning with another name")
    return names


def _read_solution(path: Path) -> dict[str, tuple[str, list[list[int]]]]:
    """WordNet id and boxes of each image."""
    reader = DictReader(_text("csv", path).splitlines())
    truth: dict[str, tuple[str, list[list[int]]]] = {}
    for row in reader:
        image, words = row.get("ImageId"), (row.get("PredictionString") or "").split()
        wnids = set(words[::5])
        numbers = [word for index, word in enumerate(words) if index % 5]
        if not image or image in truth or len(words) % 5 or len(wnids) != 1 or not all(map(_is_integer, numbers)):
            columns = "columns ImageId (each once) and PredictionString (wnid x0 y0 x1 y1 …)"
            raise UsageError("csv", f"{path}:{reader.line_num}", columns)
        corners = list(map(int, numbers))
        truth[image] = wnids.pop(), [corners[start : start + 4] for start in range(0, len(corners), 4)]
    return truth


def _is_integer(word: str) -> bool:
    return re.fullmatch(r"-?\d{1,9}", word, re.ASCII) is not None


def _text(field: str, path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(field, str(path), f"a text file that can be read ({error})") from error
