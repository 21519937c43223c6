"""Whether the files of a data set are there, asked before anything large is imported."""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence
from pathlib import Path

from pipeline.shards.foreign import HEAD_BYTES, no_shard
from pipeline.shards.names import BOXES, IMAGES, LABELS, MASKS, PARQUET
from ssig.errors import UsageError

SOURCES = "a folder of images, or Parquet files of a Hugging Face dataset"


def parquet_files(source: str) -> list[Path]:
    """The Parquet files that a file, a folder or a pattern names, in order; none where it names something else."""
    path = Path(source)
    if path.is_file():
        files = [path]
    elif path.is_dir():
        files = sorted(path.rglob(f"*{PARQUET}"))
    else:
        files = sorted(map(Path, glob.glob(source, recursive=True)))
    return [file for file in files if file.suffix == PARQUET and file.is_file()]


def require_data(images: str, labels: str | None, boxes: str | None, masks: str | None) -> None:
    """Refuses a folder or file that is not there.

    Raises:
        UsageError: fields ``dataset.images``, ``labels``, ``boxes`` and ``masks``.
    """
    source = os.path.expanduser(images)
    if not Path(source).is_dir() and not parquet_files(source):
        raise UsageError(IMAGES, images, SOURCES)
    for field, path, allowed in ((LABELS, labels, "a CSV file"), (BOXES, boxes, "a JSON file")):
        if path is not None and not Path(path).expanduser().is_file():
            raise UsageError(field, path, f"{allowed} that exists")
    if masks is not None and not Path(masks).expanduser().is_dir():
        raise UsageError(MASKS, masks, "a folder of PNG files")


def require_shards(paths: Sequence[str]) -> None:
    """Refuses local files of which none is a shard, such as images. Files that cannot be read are reported later.

    Raises:
        UsageError: field ``dataset.shards``; it says what the first file is.
    """
    reasons = []
    for path in paths:
        try:
            with open(path, "rb") as file:
                reason = no_shard(file.read(HEAD_BYTES))
        except OSError:
            return
        if reason is None:
            return
        reasons.append(reason)
    more = f" (and {len(reasons) - 1} more)" if len(reasons) > 1 else ""
    raise UsageError("dataset.shards", f"{paths[0]}: {reasons[0]}{more}", "tar archives")
