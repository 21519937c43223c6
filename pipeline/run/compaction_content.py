"""A hash of rows that does not depend on how they are stored.

Rows of equal hash are equal in every column, bit for bit: a NaN equals itself, and 0.0 is not -0.0. What lies under a
null does not count.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


def content_hash(table: pa.Table) -> str:
    """SHA-256 of the columns of a table, one after another."""
    digest = hashlib.sha256()
    for field in table.schema:
        digest.update(f"{field.name}:{table.num_rows}\n".encode())
        column = table[field.name].combine_chunks()
        for piece in column.chunks if isinstance(column, pa.ChunkedArray) else [column]:
            for data in _pieces(piece):
                digest.update(data)
    return digest.hexdigest()


def _pieces(array: pa.Array) -> Iterator[Any]:
    """The bytes of an array: which values are there, and then these."""
    if isinstance(array, pa.ExtensionArray):
        array = array.storage
    kind = array.type
    if pa.types.is_dictionary(kind):
        array, kind = array.dictionary_decode(), kind.value_type
    yield array.is_valid().to_numpy(zero_copy_only=False).tobytes()
    if pa.types.is_map(kind):
        entry = pa.struct([pa.field("key", kind.key_type, nullable=False), pa.field("value", kind.item_type)])
        array, kind = array.cast(pa.list_(pa.field("entries", entry, nullable=False))), pa.list_(entry)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        lengths = np.diff(array.offsets.to_numpy()) * array.is_valid().to_numpy(zero_copy_only=False)
        yield lengths.astype("<i8").tobytes()
        yield from _pieces(array.flatten())
    elif pa.types.is_fixed_size_list(kind):
        yield from _pieces(array.flatten())  # without what lies under a null
    elif pa.types.is_struct(kind):
        for child in array.flatten():
            yield from _pieces(child)
    elif pa.types.is_string(kind) or pa.types.is_binary(kind):
        yield from _texts(array)
    else:
        yield str(kind).encode()
        yield _numbers(array)


def _texts(array: pa.Array) -> Iterator[Any]:
    whole = array.fill_null("" if pa.types.is_string(array.type) else b"")
    yield pc.binary_length(whole).to_numpy(zero_copy_only=False).astype("<i8").tobytes()
    _, offsets, data = whole.buffers()
    if data is not None and len(whole):
        bounds = np.frombuffer(offsets, "<i4")[whole.offset : whole.offset + len(whole) + 1]
        yield memoryview(data)[bounds[0] : bounds[-1]]


def _numbers(array: pa.Array) -> bytes:
    """Values of a fixed width, zero where there is none."""
    if array.null_count == len(array):
        return b""
    if array.null_count:
        array = array.filter(array.is_valid())
    return np.ascontiguousarray(array.to_numpy(zero_copy_only=False)).tobytes()
