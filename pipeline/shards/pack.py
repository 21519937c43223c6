"""Folders of images to WebDataset shards: the same input gives the same bytes, and no image is encoded again.

    KEY.jpg|png|webp…  the file as it is
    KEY.cls            the number of its class
    KEY.json           {"wnid": …, "boxes": [[x0, y0, x1, y1], …]}
    KEY.mask.png       the mask as it is

What is read is in `own_data`. ILSVRC's validation images are one layout more: the class and the boxes of each image
stand in ``LOC_val_solution.csv`` (columns ``ImageId`` and ``PredictionString``, the latter ``wnid x0 y0 x1 y1 …``).
``LOC_synset_mapping.txt`` may number the classes by its lines. ``classes.json``, beside the shards, lists the classes
in the order of their numbers.
"""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
import tarfile
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from csv import DictReader
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from pipeline.shards import foreign
from pipeline.shards.classes import FILE as CLASSES_FILE
from pipeline.shards.images import MASK
from pipeline.shards.index import current_index, write_index
from pipeline.shards.items import Item, check_keys, files_below, from_file, unreadable
from pipeline.shards.names import IMAGES
from pipeline.shards.own_data import Gathered, OwnData, gather, numbered
from pipeline.shards.ranges import RangedFile
from pipeline.shards.survey import is_label, surveyed
from pipeline.shards.surveying import look_up
from pipeline.shards.tar_scan import Scan, scan
from pipeline.storage import open_storage
from pipeline.storage.base import Storage, is_object_url, sha256
from pipeline.storage.jsontext import to_json
from ssig.errors import UsageError

ILSVRC_CLASSES = 1000
SHARD_SIZE = 1000

_BLOCK = 512  # bytes, of a tar
_HEADERS = 6  # blocks of a sample beside its image and mask: headers and small members


def pack(
    source: str | Path | OwnData,
    out: str | Path,
    *,
    shard_size: int = SHARD_SIZE,
    csv: str | Path | None = None,
    synsets: str | Path | None = None,
    labelled: bool = True,
    tell: Callable[[str], object] = lambda note: None,
) -> list[str]:
    """Packs the images of `source` into ``NAME-000000.tar``, … in `out`, NAME being the name of the source folder.

    Args:
        source: images, with classes, boxes and masks; or, with `csv`, the folder of ILSVRC validation images.
        out: a folder, or the URL of one in an object store.
        shard_size: samples per shard.
        csv: ``LOC_val_solution.csv``; it may list more images than the folder holds.
        synsets: ``LOC_synset_mapping.txt``: line i begins with the name of class i.
        labelled: whether every image must have a class.
        tell: is told how the source was understood.

    Returns:
        the shards; those that `out` already has with the same bytes are left as they are.

    Raises:
        UsageError: input that would give a wrong or incomplete data set, other files of these names in `out`, or not
            enough free space.
    """
    data = source if isinstance(source, OwnData) else OwnData(str(source))
    if shard_size < 1:
        raise UsageError("shard_size", shard_size, "1 or more")
    classes: list[str] | None
    given = None if synsets is None else _read_synsets(Path(synsets))
    if csv is not None:
        for field in ("labels", "boxes", "masks"):
            if getattr(data, field) is not None:
                raise UsageError("csv", str(csv), f"either csv, which has classes and boxes, or {field}")
        classes, items = _ilsvrc(data, Path(csv), given)
    else:
        classes, items = _numbered(gather(data, labelled=labelled), given, tell)
    storage = open_storage(out)
    return Packing(storage, data.name, items, classes, shard_size).write()


@dataclass(frozen=True)
class Packing:
    """What is to be written where.

    Attributes:
        storage: of the folder of the shards.
        name: what the shards are called.
        items: samples with class numbers, sorted by key.
        classes: names by number; None where they have none.
        shard_size: samples per shard.
        most: only the first so many shards.
    """

    storage: Storage
    name: str
    items: Sequence[Item]
    classes: Sequence[str] | None
    shard_size: int = SHARD_SIZE
    most: int | None = None

    def write(self, tell: Callable[[int, int], object] = lambda done, all_: None) -> list[str]:
        """Writes the shards that are not there yet, and ``classes.json``.

        Args:
            tell: is told after each shard how many are done, of how many.

        Returns:
            the shards, by path or URL.

        Raises:
            UsageError: other files of these names, too little space, or an image that cannot be read.
        """
        storage, size = self.storage, self.shard_size
        slices = [self.items[start : start + size] for start in range(0, len(self.items), size)]
        shards = {shard_name(self.name, number): part for number, part in enumerate(slices)}
        _refuse_leftovers(storage, self.name, shards)
        shards = dict(list(shards.items())[: self.most])
        check_space(storage, shards)
        if self.classes is not None:
            _publish(storage, CLASSES_FILE, lambda file: file.write(_json(self.classes)))
        for number, (name, part) in enumerate(shards.items()):
            _publish_shard(storage, name, part)
            tell(number + 1, len(shards))
        with suppress(OSError):  # not empty: another command is at work there
            storage.staging().rmdir()
        return [f"{storage.root}/{name}" for name in shards]


def shard_name(name: str, number: int) -> str:
    return f"{name}-{number:06d}.tar"


def check_space(storage: Storage, shards: dict[str, Sequence[Item]]) -> None:
    """Refuses to fill a disk: what is to be written must fit, and one shard more, which is written beside its place.

    Raises:
        UsageError: field ``out``, with the bytes that are free and needed.
    """
    sizes = {name: sum(map(_packed_size, part)) for name, part in shards.items()}
    if not sizes:
        return
    new = (
        0 if is_object_url(storage.root) else sum(size for name, size in sizes.items() if storage.entry(name) is None)
    )
    needed = new + max(sizes.values())
    folder = Path(storage.root)
    if is_object_url(storage.root):
        folder = storage.staging()
    while not folder.is_dir():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if free < needed:
        found = f"{free // 10**6:,} MB free in {folder}"
        allowed = f"a disk with {-(-needed // 10**6):,} MB free for the packed images: name another"
        raise UsageError("out", found, allowed)


def _packed_size(item: Item) -> int:
    """Bytes of a sample in a shard, about."""
    mask = 0 if item.mask is None else item.mask.stat().st_size + 2 * _BLOCK
    boxes = 0 if item.about is None else 2 * len(to_json(item.about))
    return item.size + mask + boxes + _HEADERS * _BLOCK


def write_tar(file: BinaryIO, members: Iterable[tuple[str, bytes]]) -> None:
    """Writes a tar whose bytes depend on nothing but the names and contents of its members."""
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)  # time, owner and group 0, mode 644
            info.size = len(data)
            tar.addfile(info, BytesIO(data))


def _members(items: Iterable[Item]) -> Iterator[tuple[str, bytes]]:
    for item in items:
        ending, image = item.load()
        if (pointer := foreign.pointer(image)) is not None:
            raise UsageError(IMAGES, item.where, f"images; this is {pointer}")
        yield item.key + ending, image
        if item.label is not None:
            yield f"{item.key}.cls", str(item.label).encode()
        if item.about is not None:
            yield f"{item.key}.json", _json(item.about)
        if item.mask is not None:
            try:
                yield f"{item.key}.{MASK}", item.mask.read_bytes()
            except OSError as error:
                raise unreadable(item.mask, error, "dataset.masks") from error


def _json(value: object) -> bytes:
    return to_json(value).encode()


def _publish_shard(storage: Storage, name: str, items: Iterable[Item]) -> None:
    """Stores a shard, and beside it the index of what is in it."""
    found: list[Scan] = []

    def write(file: BinaryIO) -> None:
        write_tar(file, _members(items))
        found.append(_contents(file))

    digest = _publish(storage, name, write)
    (shard,) = look_up([f"{storage.root}/{name}"])
    if current_index(storage, shard) is None:
        write_index(storage, surveyed(dataclasses.replace(shard, sha256=digest), found[0]))


def _contents(file: BinaryIO) -> Scan:
    """The members of a shard that was written to a file."""
    file.flush()

    def read(offset: int, size: int) -> bytes:
        return os.pread(file.fileno(), size, offset)

    return scan(RangedFile(read, file.tell()), is_label)


def _publish(storage: Storage, name: str, write: Callable[[BinaryIO], object]) -> str:
    """Stores what `write` writes, and gives its SHA-256; a file of that name must have the same bytes."""
    staged = storage.staging() / uuid.uuid4().hex
    try:
        with staged.open("x+b") as file:
            write(file)
        ours = sha256(staged.open("rb"))
        if not storage.publish(staged, name) and sha256(storage.open(name)) != ours:
            raise UsageError("out", f"{storage.root}/{name}", "a folder without another file of this name")
    finally:
        staged.unlink(missing_ok=True)
    return ours


def _refuse_leftovers(storage: Storage, prefix: str, shards: Iterable[str]) -> None:
    """Refuses shards of an earlier packing that this one would not write, since a pattern would match them too."""
    ours = re.compile(re.escape(prefix) + r"-\d{6}\.tar")
    present = {entry.name for entry in storage.list() if ours.fullmatch(entry.name)}
    if leftovers := sorted(present.difference(shards)):
        raise UsageError("out", f"{storage.root}/{leftovers[0]}", "a folder without other shards of this name")


def _numbered(
    gathered: Gathered, given: list[str] | None, tell: Callable[[str], object]
) -> tuple[list[str] | None, list[Item]]:
    """Classes and samples, numbered by the lines of `given` where there are some."""
    for note in gathered.notes:
        tell(note)
    if given is None:
        return numbered(gathered, (), strict=False)
    numbers = [item.label for item in gathered.items if isinstance(item.label, int)]
    if numbers and max(numbers) >= len(given):
        raise UsageError("synsets", f"no line for class {max(numbers)}", "a line for every class")
    return given, [
        dataclasses.replace(item, label=_number(given, item.label)) if isinstance(item.label, str) else item
        for item in gathered.items
    ]


def _ilsvrc(data: OwnData, solution: Path, given: list[str] | None) -> tuple[list[str], list[Item]]:
    """Classes and samples of a folder of ILSVRC validation images."""
    if not data.folder.is_dir():
        raise UsageError(IMAGES, data.images, "a folder of images")
    truth = _read_solution(solution)
    classes = given or sorted({wnid for wnid, _ in truth.values()})
    if given is None and len(classes) != ILSVRC_CLASSES:
        found = f"none, for {len(classes)} classes in {solution}"
        raise UsageError("synsets", found, f"LOC_synset_mapping.txt, unless the csv has all {ILSVRC_CLASSES} classes")
    items: list[Item] = []
    for image in files_below(data.folder):
        if image.stem not in truth:
            raise UsageError("csv", f"{solution}: no row for {image.stem}", "a row for every image of the folder")
        wnid, boxes = truth[image.stem]
        item, about = from_file(image, data.folder), {"wnid": wnid, "boxes": boxes}
        key = image.stem.replace(".", "_")
        items.append(dataclasses.replace(item, key=key, label=_number(classes, wnid), about=about))
    if not items:
        raise UsageError(IMAGES, data.images, "a folder of images")
    items.sort(key=lambda item: item.key)
    check_keys(items)
    return classes, items


def _number(classes: list[str], name: str) -> int:
    if name not in classes:
        raise UsageError("synsets", f"no line for {name}", "a line for every class")
    return classes.index(name)


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
