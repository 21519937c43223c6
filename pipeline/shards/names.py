"""Names of files in and beside shards."""

from __future__ import annotations

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


def is_left_behind(name: str) -> bool:
    """Whether systems leave files of such a path beside people's files: ``._a.jpg``, ``.DS_Store``, ``__MACOSX/…``."""
    return _LEAVINGS.search(name) is not None
