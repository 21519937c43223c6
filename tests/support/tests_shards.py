"""Shards of synthetic photographs, as files in memory or tars on disk."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = 8


def jpeg(seed: int, size: tuple[int, int] = (48, 40), darkest: int = 0) -> bytes:
    """A smooth random photograph, (width, height)."""
    generator = np.random.default_rng(seed)
    coarse = Image.fromarray(generator.integers(darkest, 256, (6, 6, 3), dtype=np.uint8))
    buffer = io.BytesIO()
    coarse.resize(size, Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def members(first: int, count: int, white: int | None = None) -> list[tuple[str, bytes]]:
    """The files of `count` whole samples; number `white` is a white image."""
    files = []
    for number in range(first, first + count):
        key = f"image{number:04d}"
        box = {"wnid": "n0", "boxes": [[8, 6, 30, 32]]}
        files += [
            (f"{key}.jpg", jpeg(number, darkest=255 if number == white else 0)),
            (f"{key}.cls", str(number % CLASSES).encode()),
            (f"{key}.json", json.dumps(box).encode()),
        ]
    return files


def write_tar(path: Path, files: list[tuple[str, bytes]]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, data in files:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path
