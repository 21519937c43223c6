"""The number of each row's image: its row in the manifest, which is the same for every method."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ssig.errors import UsageError


class Positions:
    """Image numbers of rows: where each shard starts in the manifest.

    Args:
        pieces: the columns ``shard`` and ``index`` of the manifest, piece by piece.
    """

    def __init__(self, pieces: Iterable[pa.RecordBatch]) -> None:
        self._start: dict[str, int] = {}
        indices = [np.empty(0, np.int32)]
        count = 0
        for piece in pieces:
            runs = pc.run_end_encode(piece.column("shard"))
            begins = [0, *runs.run_ends.to_pylist()[:-1]]
            for shard, begin in zip(runs.values.to_pylist(), begins, strict=False):
                self._start.setdefault(shard, count + begin)
            indices.append(piece.column("index").to_numpy())
            count += piece.num_rows
        self._index = np.concatenate(indices)

    def __len__(self) -> int:
        return len(self._index)

    def of(self, table: pa.Table) -> np.ndarray:
        """(n,) int64, image number of each row of `table`.

        Raises:
            UsageError: a row that the manifest does not expect.
        """
        shards = table["shard"].combine_chunks().dictionary_encode()
        by_shard = np.array([self._start.get(shard, -1) for shard in shards.dictionary.to_pylist()], dtype=np.int64)
        starts = by_shard[shards.indices.to_numpy()]
        index = table["index"].to_numpy()
        images: np.ndarray = starts + index - self._index[starts]
        expected = (starts >= 0) & (images >= 0) & (images < len(self._index))
        if not expected.all() or (self._index[images] != index).any():
            raise UsageError("run", "rows that are not in its manifest", "a run that passes `ssig audit`")
        return images
