"""The numbers of images by method and column, in a temporary file: memory holds the columns that are asked for.

A million images, 30 methods and 40 columns are 5 GB. Statistics read a column of one method, or some columns or images
of all, at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from pipeline.storage.scratch import naming_the_folder, scratch_file

_IN_MEMORY = 2**22  # numbers of a piece of columns at most, a column aside: 16 MB
_RANKED = 2**18  # numbers of a piece of images at most, of which ranks need some copies in float64


class ImageNumbers:
    """float32 numbers of N images, M methods and C columns; NaN where there is none.

    The file takes 4 bytes a number (`pipeline.storage.scratch`).

    Attributes:
        shape: N, M, C.
        present: (M, C) bool, whether any image was given a number.
    """

    def __init__(self, images: int, methods: int, columns: int) -> None:
        self.shape = images, methods, columns
        self.present = np.zeros((methods, columns), bool)
        self._content = f"up to {4 * np.prod(self.shape) / 1e6:.0f} MB of numbers"
        self._file = scratch_file(self, self._content)
        self._is_stored = np.zeros((methods, columns), bool)

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def holding(self) -> np.ndarray:
        """(C,) bool, the columns that any method has a number in."""
        return np.asarray(self.present.any(axis=0))

    def of_method(self, method: int, column: int) -> np.ndarray:
        """(N,) float32, the numbers of a method in a column."""
        (numbers,) = self._read([(method, column)])
        return np.asarray(numbers)

    def images(self, column: int, images: Sequence[int]) -> np.ndarray:
        """(n, M) float32, the numbers of some images in a column."""
        pairs = [(method, column) for method in range(self.shape[1])]
        return np.stack([self._read(pairs, image, image + 1)[:, 0] for image in images])

    def pieces_of_columns(self, columns: Sequence[int] | None = None) -> Iterator[np.ndarray]:
        """(N, k) float32, every column of the first method, or `columns`, then of the second, …, some at a time."""
        chosen = range(self.shape[2]) if columns is None else columns
        pairs = [(method, column) for method in range(self.shape[1]) for column in chosen]
        step = max(1, _IN_MEMORY // max(len(self), 1))
        for left in range(0, len(pairs), step):
            yield self._read(pairs[left : left + step]).T

    def pieces(self, column: int, methods: Sequence[int] | None = None) -> Iterator[np.ndarray]:
        """(n, M) float32, a column of every method, or of `methods`, as `pieces_of_images`."""
        return (piece[:, :, 0] for piece in self.pieces_of_images([column], methods))

    def pieces_of_images(self, columns: Sequence[int], methods: Sequence[int] | None = None) -> Iterator[np.ndarray]:
        """(n, M, C') float32, these columns of every method, or of `methods`, some images at a time.

        There is one piece at least, even where there is no image.
        """
        chosen = range(self.shape[1]) if methods is None else methods
        pairs = [(method, column) for method in chosen for column in columns]
        step = max(1, _RANKED // max(len(pairs), 1))
        for start in range(0, max(len(self), 1), step):
            piece = self._read(pairs, start, start + step)
            yield piece.T.reshape(piece.shape[1], len(chosen), len(columns))

    def write(self, images: np.ndarray, method: int, column: int, numbers: np.ndarray) -> None:
        """Sets the numbers of a method in a column; `images`: (n,) int, which; `numbers`: (n,)."""
        if not len(images):
            return
        if not self._is_stored[method, column]:
            self._put(method, column, 0, np.full(len(self), np.nan, np.float32))
            self._is_stored[method, column] = True
        self.present[method, column] |= bool(np.isfinite(numbers).any())
        first, last = int(images.min()), int(images.max())
        if len(images) == last - first + 1 and (np.diff(images) == 1).all():
            span = np.asarray(numbers, np.float32)
        else:
            (span,) = self._read([(method, column)], first, last + 1)
            span[images - first] = numbers
        self._put(method, column, first, span)

    def _read(self, pairs: Sequence[tuple[int, ...]], start: int = 0, stop: int | None = None) -> np.ndarray:
        """(k, n) float32, the numbers of images from `start` on, up to `stop`, of k methods and columns."""
        count = min(len(self), len(self) if stop is None else stop) - start
        numbers = np.full((len(pairs), count), np.nan, np.float32)
        for row, (method, column) in zip(numbers, pairs, strict=True):
            if self._is_stored[method, column]:
                self._seek(method, column, start)
                self._file.readinto(row)  # type: ignore[attr-defined]
        return numbers

    def _put(self, method: int, column: int, start: int, numbers: np.ndarray) -> None:
        with naming_the_folder(self._content):
            self._seek(method, column, start)
            self._file.write(np.ascontiguousarray(numbers).data)
            self._file.flush()

    def _seek(self, method: int, column: int, start: int) -> None:
        images, _, columns = self.shape
        self._file.seek(4 * ((method * columns + column) * images + start))
