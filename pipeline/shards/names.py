"""Names of files in and beside shards."""

from __future__ import annotations

import functools
import re

MANIFEST_FILE = "manifest.parquet"
INDEX_SUFFIX = ".index.parquet"  # of the file beside a shard that says what is in it
CLASSES = "classes.json"  # beside the shards: the names of their classes
SOURCE = "source.parquet"  # beside packed shards: what was packed

PARQUET = ".parquet"
IMAGES, LABELS, BOXES, MASKS = (f"dataset.{name}" for name in ("images", "labels", "boxes", "masks"))

# What desktops, file servers, notebooks and old tar programs leave beside people's files.
_LEAVINGS = re.compile(
    r"(^|/)(\._[^/]*|\.DS_Store|Icon\r|Thumbs\.db|ehthumbs\.db|desktop\.ini|\.directory|\.gitkeep|\.gitignore|\.keep"
    r"|\.gitattributes|\.nomedia)$"
    r"|(^|/)(__MACOSX|\.AppleDouble|\.Spotlight-V100|\.Trashes|\.Trash-\d+|\.fseventsd|@eaDir|\.ipynb_checkpoints|\.git"
    r"|@?PaxHeaders?(\.[X\d]+)?)(/|$)",
    re.IGNORECASE,
)


# WebDataset's own rule. Its package would import torch, which takes seconds.
_KEY_AND_EXTENSION = re.compile(r"^((?:.*/|)[^.]+)[.]([^/]*)$")


@functools.lru_cache(16)  # asked for more than once of the same name
def key_and_extension(name: str) -> tuple[str, str]:
    """The path of a member up to the first dot of its file name, and what follows; both empty without such a dot."""
    match = _KEY_AND_EXTENSION.match(name)
    return ("", "") if match is None else (match[1], match[2])


def is_left_behind(name: str) -> bool:
    """Whether systems leave files of such a path beside people's files: ``._a.jpg``, ``.DS_Store``, ``__MACOSX/…``."""
    return _LEAVINGS.search(name) is not None
