"""Maps as they are stored: float16 or float32 with a scale each, so that no map overflows or vanishes."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from ssig.errors import UsageError

MAPS_WANTED = "a run whose output.maps is float16 or float32"
VALUES_WANTED = "a run whose output.channels is true"


def quantised(values: np.ndarray, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Maps (n, ...) as they are stored, and the scale (n,) that gives them back: map = stored x scale.

    Magnitudes of gradients underflow in float16, so each map is divided by its largest magnitude first.
    """
    if kind == "float32":
        return values.astype(np.float32), np.ones(len(values), dtype=np.float32)
    scale = np.abs(values).max(axis=tuple(range(1, values.ndim)), initial=0).astype(np.float32)
    scale[scale == 0] = 1
    return (values / scale.reshape(-1, *[1] * (values.ndim - 1))).astype(np.float16), scale


def decode_maps(table: pa.Table) -> np.ndarray:
    """(n, H, W) float32 maps of the rows that have one: stored values times `map_scale`.

    Raises:
        UsageError: the run stored no maps.
    """
    if "map" not in table.column_names:
        raise UsageError("output.maps", "none", MAPS_WANTED)
    return _decoded(table, "map")


def decode_values(table: pa.Table) -> np.ndarray:
    """(n, C, H, W) float32 values of each channel, of the rows that have a map: stored ones times `values_scale`.

    Raises:
        UsageError: the run stored none.
    """
    if "values" not in table.column_names:
        raise UsageError("output.channels", False, VALUES_WANTED)
    return _decoded(table, "values")


def _decoded(table: pa.Table, name: str) -> np.ndarray:
    column = table[name].combine_chunks()
    scale = table[f"{name}_scale"].drop_null().to_numpy().astype(np.float32)
    stored: np.ndarray = column.storage.flatten().to_numpy(zero_copy_only=False).astype(np.float32)
    shape = column.type.shape
    decoded: np.ndarray = stored.reshape(-1, *shape) * scale.reshape(-1, *[1] * len(shape))
    return decoded
