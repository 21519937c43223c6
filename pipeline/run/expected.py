"""The samples that a run expects, read from its manifest in pieces: a large one is hundreds of megabytes in memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.run.layout import MANIFEST
from pipeline.run.rows import SOUND
from pipeline.shards.images import IMAGE_EXTENSIONS
from pipeline.storage.base import Storage
from ssig.errors import UsageError

_PIECE_ROWS = 65_536


class Expected:
    """Every expected sample of a run, in order of shard and index: sample i is row i of the manifest.

    Args:
        storage: the run.

    Every property and method may raise:

    Raises:
        UsageError: the manifest is not there or cannot be read.
    """

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def __len__(self) -> int:
        return self._count

    @cached_property
    def _count(self) -> int:
        with self._opened() as file:
            return int(file.metadata.num_rows)

    def pieces(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Some columns, a piece of consecutive samples at a time."""
        with self._opened() as file:
            yield from file.iter_batches(_PIECE_ROWS, columns=list(columns))

    def row(self, number: int) -> dict[str, Any]:
        """All columns of one sample, of which its row group alone is read.

        Raises:
            IndexError: there is no such sample.
        """
        start = 0
        with self._opened() as file:
            for group in range(file.num_row_groups):
                rows = file.metadata.row_group(group).num_rows
                if start <= number < start + rows:
                    record: dict[str, Any] = file.read_row_group(group).slice(number - start, 1).to_pylist()[0]
                    return record
                start += rows
        raise IndexError(number)

    @contextmanager
    def _opened(self) -> Iterator[pq.ParquetFile]:
        try:
            with self._storage.open(MANIFEST) as stream, pq.ParquetFile(stream) as file:
                yield file
        except (OSError, pa.ArrowInvalid) as error:
            raise UsageError("run", f"{self._storage.root}: {MANIFEST}: {error}", SOUND) from error


def image_sizes(members: pa.Array) -> pa.Array:
    """How many bytes the image of each sample has, by the column ``members``; null where it has none."""
    flat = pc.list_flatten(members)
    extensions, sizes = pc.struct_field(flat, "extension"), pc.struct_field(flat, "size")
    # Of several images, the first kind counts.
    kinds = pc.index_in(extensions, pa.array(list(IMAGE_EXTENSIONS), pa.string())).fill_null(len(IMAGE_EXTENSIONS))
    owners = np.asarray(pc.list_parent_indices(members))
    order = np.lexsort((np.asarray(kinds), owners))
    order = order[np.asarray(kinds)[order] < len(IMAGE_EXTENSIONS)]
    with_image, first = np.unique(owners[order], return_index=True)
    found = np.full(len(members), -1, dtype=np.int64)
    found[with_image] = np.asarray(sizes)[order[first]]
    return pa.array(found, mask=found < 0)
