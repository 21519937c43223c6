"""What is packed: the images of a folder, each with what is known of it, before any class has a number."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import NoReturn

from PIL import Image

from pipeline.shards.images import FORMATS, IMAGE_EXTENSIONS
from pipeline.shards.names import IMAGES, is_left_behind
from pipeline.shards.tar_scan import why_unusable
from ssig.errors import UsageError


@dataclass(frozen=True)
class Item:
    """A sample to be packed.

    Attributes:
        key: of the sample.
        where: the file that it comes from, for messages.
        load: gives the ending of the image's name, with its dot, and the image's bytes.
        size: of the image in bytes, about.
        label: its class by name or number; None where it has none.
        about: becomes its json member, where there is something to tell.
        mask: the PNG of its object's pixels.
    """

    key: str
    where: str
    load: Callable[[], tuple[str, bytes]]
    size: int
    label: str | int | None = None
    about: Mapping[str, object] | None = None
    mask: Path | None = None


def from_file(image: Path, folder: Path) -> Item:
    """The sample of an image file below `folder`, without a class."""

    def load() -> tuple[str, bytes]:
        return image.suffix.lower(), _bytes(image)

    try:
        size = image.stat().st_size
    except OSError as error:
        raise unreadable(image, error) from error
    return Item(key_of(image, folder), str(image), load, size)


def key_of(image: Path, folder: Path) -> str:
    """The path from `folder` without its ending; a key ends at the first dot of a file name, so it has none."""
    path = image.relative_to(folder)
    return (path.parent / path.stem.replace(".", "_")).as_posix()


def files_below(folder: Path, field: str = IMAGES, endings: Sequence[str] = IMAGE_EXTENSIONS) -> list[Path]:
    """The files below `folder`, but for hidden ones and what systems leave beside them (``Thumbs.db``); a file of
    another ending is refused, lest it be an image left out."""
    paths: list[Path] = []

    def refuse(error: OSError) -> NoReturn:  # a walk would pass over a folder together with all that is in it
        allowed = f"folders that can be read ({error.strerror})"
        raise UsageError(field, ascii(str(error.filename)), allowed) from error

    for parent, folders, names in os.walk(folder, followlinks=True, onerror=refuse):
        folders[:] = sorted(name for name in folders if not is_hidden(name))
        for name in sorted(name for name in names if not is_hidden(name)):
            path = Path(parent, name)
            if path.suffix.lower().removeprefix(".") not in endings:
                raise UsageError(field, ascii(str(path)), "images only: " + ", ".join(endings))
            paths.append(path)
    return paths


def is_hidden(name: str) -> bool:
    return name.startswith(".") or is_left_behind(name)


def check_keys(items: Sequence[Item]) -> None:
    """Refuses names that a reader of shards would skip, and two images of one key. `items` are sorted by key."""
    for item in items:
        if reason := why_unusable(f"{item.key}.jpg"):
            raise UsageError(IMAGES, ascii(item.where), f"file names that are keys, not {reason}")
    for first, second in pairwise(items):
        if first.key == second.key:
            raise UsageError(IMAGES, [first.where, second.where], "one image per name, its ending aside")


def size_of(image: Path, field: str) -> tuple[int, int]:
    """Width and height in pixels, as they are stored.

    Raises:
        UsageError: field `field`; it cannot be read.
    """
    try:
        with Image.open(image, formats=FORMATS) as opened:
            return opened.width, opened.height
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UsageError(field, str(image), f"images that can be read ({error}); move this one away") from None


def unreadable(path: Path, error: OSError, field: str = IMAGES) -> UsageError:
    return UsageError(field, str(path), f"files that can be read ({error.strerror})")


def _bytes(image: Path) -> bytes:
    try:
        return image.read_bytes()
    except OSError as error:
        raise unreadable(image, error) from error


class Names:
    """Images of a folder by what a list may call them: a path, or the end of one, with or without its ending.

    ``cat/1.jpg`` is found as ``cat/1.jpg``, ``cat/1``, ``1.jpg``, ``1``, and as ``any/folder/cat/1.jpg``.
    """

    def __init__(self, folder: Path, images: Sequence[Path]) -> None:
        self.folder = folder
        self.images = images
        self._found: dict[str, list[int]] = {}
        self._paths = [image.relative_to(folder).as_posix() for image in images]
        for number, path in enumerate(self._paths):
            for name in {path, path.removesuffix(Path(path).suffix), key_of(images[number], folder)}:
                parts = name.split("/")
                for start in range(len(parts)):
                    self._found.setdefault("/".join(parts[start:]), []).append(number)

    def find(self, text: str) -> list[Path]:
        """The images that `text` may name: none, one, or several where it is not enough of a path."""
        name = PurePosixPath(text.strip().replace("\\", "/")).as_posix().lstrip("/")
        hits = self._found.get(name, [])
        whole = [number for number in hits if name in self._whole(number)]
        if not hits:
            whole = [
                number for end in _ends(name) for number in self._found.get(end, []) if end in self._whole(number)
            ]
        return [self.images[number] for number in (whole or hits)]

    def _whole(self, number: int) -> tuple[str, ...]:
        path = self._paths[number]
        return path, path.removesuffix(Path(path).suffix), key_of(self.images[number], self.folder)

    def shown(self, image: Path) -> str:
        return image.relative_to(self.folder).as_posix()


def _ends(name: str) -> Iterator[str]:
    parts = name.split("/")
    return ("/".join(parts[start:]) for start in range(1, len(parts)))
