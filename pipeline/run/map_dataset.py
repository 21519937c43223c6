"""The maps of a run by position, for PyTorch."""

from __future__ import annotations

import bisect
import itertools
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from pipeline.run.compaction_reading import StoredTables
from pipeline.run.maps import decode_maps
from pipeline.run.records import CommitRecord
from pipeline.run.rows import attributed, labelled, maps_file, rows_of
from pipeline.shards.samples import Status
from pipeline.storage import open_storage

_NOT_SCALAR = frozenset({"map", "map_scale", "values", "values_scale"})


class MapDataset(Dataset[tuple[Tensor, dict[str, Any]]]):
    """(map, row) of each attributed sample: an (H, W) float32 tensor, and its names and numbers.

    The row joins the attributions row (without tensors) and the metrics row. A null is None, so batches of rows want
    a `collate_fn`. Neighbouring positions share a unit: reading in order, or shuffling by blocks, is fastest.
    """

    def __init__(self, root: str, commits: Sequence[CommitRecord], cached_units: int = 2) -> None:
        self._root = root
        self._commits = [commit for commit in commits if commit.statuses.get(Status.OK, 0)]
        self._stops = list(itertools.accumulate(int(commit.statuses[Status.OK]) for commit in self._commits))
        self._cached_units = max(1, cached_units)
        self._stored: StoredTables | None = None
        self._cache: OrderedDict[int, tuple[np.ndarray, list[dict[str, Any]]]] = OrderedDict()

    def __len__(self) -> int:
        return self._stops[-1] if self._stops else 0

    def __getitem__(self, position: int) -> tuple[Tensor, dict[str, Any]]:
        if not -len(self) <= position < len(self):
            raise IndexError(f"position {position} of {len(self)} maps")
        position %= len(self)
        unit = bisect.bisect_right(self._stops, position)
        maps, rows = self._unit(unit)
        inside = position - self._stops[unit]  # counted from the unit's end
        return torch.from_numpy(maps[inside].copy()), dict(rows[inside])

    def __getstate__(self) -> dict[str, Any]:
        # A loader's worker processes open the storage themselves: handles and caches do not travel.
        return {**self.__dict__, "_stored": None, "_cache": OrderedDict()}

    def _unit(self, unit: int) -> tuple[np.ndarray, list[dict[str, Any]]]:
        if unit not in self._cache:
            while len(self._cache) >= self._cached_units:
                self._cache.popitem(last=False)
            self._cache[unit] = self._read_unit(self._commits[unit])
        self._cache.move_to_end(unit)
        return self._cache[unit]

    def _read_unit(self, commit: CommitRecord) -> tuple[np.ndarray, list[dict[str, Any]]]:
        if self._stored is None:
            self._stored = StoredTables(open_storage(self._root))
        table = attributed(labelled(rows_of(self._stored, maps_file(self._root, commit)), commit))
        rows = table.drop([name for name in table.column_names if name in _NOT_SCALAR]).to_pylist()
        metrics = commit.file("metrics")
        if metrics is not None:
            numbers = attributed(rows_of(self._stored, metrics)).to_pylist()
            rows = [{**row, **more} for row, more in zip(rows, numbers, strict=True)]
        return decode_maps(table), rows
