"""Chooses images for numbers of the whole data set by their content, not by their place.

Rows come in any order, from any worker. They are ordered by a seeded hash of their image's stored content, so that the
same images are chosen and split alike for every method.
"""

from __future__ import annotations

import hashlib

import numpy as np


def by_content(rows: np.ndarray, seed: int) -> np.ndarray:
    """(N,) positions of the rows (N, n) in a random order that depends on the seed and their content alone."""
    digests = _digests(rows, seed)
    return np.array(sorted(range(len(digests)), key=digests.__getitem__), dtype=np.int64)


def parts_by_content(rows: np.ndarray, seed: int, parts: int) -> np.ndarray:
    """(N,) int in [0, parts), a random part for each of the rows (N, n) that depends on the seed and itself alone."""
    return np.array([int.from_bytes(digest, "little") % parts for digest in _digests(rows, seed)], dtype=np.int64)


def _digests(rows: np.ndarray, seed: int) -> list[bytes]:
    salt = seed.to_bytes(16, "little")
    stored = np.ascontiguousarray(rows, dtype=np.float32)
    return [hashlib.blake2b(row.tobytes(), digest_size=16, salt=salt).digest() for row in stored]
