"""Image datasets in Parquet as Hugging Face writes them: a struct column ``image`` {bytes, path} and ``label``.

The names of the classes stand in the schema's metadata (``huggingface``, a ``ClassLabel``). Keys are
FILE/ROW, since paths may be missing or doubled. Images are read one row group at a time. Source:
https://huggingface.co/docs/datasets/about_dataset_features
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.shards.foreign import HEAD_BYTES, no_image
from pipeline.shards.images import FORMAT_NAMES, IMAGE_EXTENSIONS
from pipeline.shards.items import Item
from pipeline.shards.names import IMAGES
from ssig.errors import UsageError

_LABEL_COLUMNS = ("label", "labels")
_KINDS = (
    (b"\xff\xd8\xff", ".jpg"),
    (b"\x89PNG\r\n\x1a\n", ".png"),
    (b"GIF8", ".gif"),
    (b"BM", ".bmp"),
    (b"II*\x00", ".tif"),
    (b"MM\x00*", ".tif"),
)


def parquet_items(files: Sequence[Path], *, labelled: bool) -> tuple[list[Item], tuple[str, ...]]:
    """The samples of Parquet files, and the names of the classes by number, () where no file has them.

    Raises:
        UsageError: field ``dataset.images``: no Parquet, other columns, files of different classes, or an image that
            is a path alone.
    """
    items: list[Item] = []
    names: tuple[str, ...] | None = None
    stems = [file.stem for file in files]
    for file in files:
        if stems.count(file.stem) > 1:
            raise UsageError(IMAGES, str(file), "Parquet files of different names, which are part of every key")
        own, found = _one_file(file, labelled=labelled)
        if names is not None and own != names:
            shown = [f"{files[0]}: {len(names)} classes", f"{file}: {len(own)} classes"]
            raise UsageError(IMAGES, shown, "Parquet files of the same classes")
        names = own
        items += found
    return items, names or ()


def _one_file(file: Path, *, labelled: bool) -> tuple[tuple[str, ...], list[Item]]:
    try:
        parquet = pq.ParquetFile(file)
        schema = parquet.schema_arrow
        image = _image_column(file, schema)
        label, names = _label_column(file, schema, labelled=labelled)
        rows = parquet.metadata.num_rows
        labels = parquet.read(columns=[label])[label].to_pylist() if label else [None] * rows
    except (OSError, pa.ArrowException) as error:
        raise UsageError(
            IMAGES, str(file), f"a Parquet file that can be read ({str(error).splitlines()[0]})"
        ) from None
    each = file.stat().st_size // max(1, len(labels))
    places = list(_places(parquet.metadata))
    items = []
    for (group, index), (row, value) in zip(places, enumerate(labels), strict=True):
        key, where = f"{file.stem.replace('.', '_')}/{row:08d}", f"{file}: row {row}"
        load = functools.partial(_load, file, image, group, index, where)
        items.append(Item(key, where, load, each, _class(where, value, names)))
    return names, items


def _places(metadata: pq.FileMetaData) -> Iterator[tuple[int, int]]:
    """The row group of each row, and its number in it."""
    for group in range(metadata.num_row_groups):
        yield from ((group, index) for index in range(metadata.row_group(group).num_rows))


def _load(file: Path, column: str, group: int, index: int, where: str) -> tuple[str, bytes]:
    """The ending and bytes of an image."""
    value: Any = _group(file, column, group)[index].as_py()
    data, path = (None, None) if value is None else (value.get("bytes"), value.get("path"))
    if not isinstance(data, bytes):
        allowed = "images whose bytes are in the file; `datasets` puts them there with Dataset.to_parquet"
        raise UsageError(IMAGES, f"{where}: no bytes, path {path!r}", allowed)
    return _ending(where, path, data), data


@functools.lru_cache(maxsize=1)  # shards are written in the order of the rows, so one row group is enough
def _group(file: Path, column: str, group: int) -> pa.ChunkedArray:
    with pq.ParquetFile(file) as parquet:
        return parquet.read_row_group(group, columns=[column])[column]


def _ending(where: str, path: object, data: bytes) -> str:
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return ".webp"
    for magic, ending in _KINDS:
        if data.startswith(magic):
            return ending
    named = Path(path).suffix.lower() if isinstance(path, str) else ""
    if named.removeprefix(".") in IMAGE_EXTENSIONS:
        return named  # a damaged image is a row of the run, which says so
    raise UsageError(IMAGES, where, no_image(data[:HEAD_BYTES], FORMAT_NAMES))


def _image_column(file: Path, schema: pa.Schema) -> str:
    def is_image(field: pa.Field) -> bool:
        return bool(pa.types.is_struct(field.type)) and field.type.get_field_index("bytes") != -1

    images = [field.name for field in schema if is_image(field)]
    if "image" in images or len(images) == 1:
        return "image" if "image" in images else images[0]
    columns = ", ".join(schema.names)
    allowed = "a column image that is a struct of bytes and path, as Hugging Face datasets have"
    raise UsageError(IMAGES, f"{file}: the columns {columns}", allowed)


def _label_column(file: Path, schema: pa.Schema, *, labelled: bool) -> tuple[str | None, tuple[str, ...]]:
    """The column of the classes and their names."""
    named = dict(_class_labels(schema))
    candidates = [name for name in _LABEL_COLUMNS if name in schema.names] or list(named)
    if len(candidates) != 1:
        if not labelled:
            return None, ()
        found = f"{file}: the columns {', '.join(schema.names)}"
        raise UsageError(IMAGES, found, "a column label; without classes: --target predicted, or pack --no-labels")
    kind = schema.field(candidates[0]).type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if not (pa.types.is_integer(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        raise UsageError(
            IMAGES, f"{file}: column {candidates[0]} of {kind}", "one class for each image: text or numbers"
        )
    return candidates[0], named.get(candidates[0], ())


def _class_labels(schema: pa.Schema) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Columns that Hugging Face's metadata say are classes, with the classes' names."""
    try:
        features = json.loads((schema.metadata or {}).get(b"huggingface", b"{}")).get("info", {}).get("features", {})
        for column, feature in features.items():
            if isinstance(feature, dict) and feature.get("_type") == "ClassLabel" and feature.get("names"):
                yield column, tuple(map(str, feature["names"]))
    except (ValueError, AttributeError):
        return


def _class(where: str, value: object, names: Sequence[str]) -> str | int | None:
    if value is None or value == -1:  # Hugging Face's -1 stands for a class that is not known
        return None
    if isinstance(value, int) and names:
        if not 0 <= value < len(names):
            raise UsageError(
                IMAGES, f"{where}: class {value}", f"a class below {len(names)}, as the metadata list them"
            )
        return names[value]
    if isinstance(value, int) and value < 0:
        raise UsageError(IMAGES, f"{where}: class {value}", "class numbers from 0")
    return value if isinstance(value, int) else str(value)
