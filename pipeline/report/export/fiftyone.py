"""A run as a data set in FiftyOne's format on disk (`fiftyone.types.FiftyOneDataset`).

    metadata.json    the fields of samples
    samples.json     a record for each sample
    data/            the photographs, as the shards hold them
    fields/NAME/     the maps of a method as heatmaps, on the whole photograph: 0 outside of what the network saw

A heatmap has 8 bits: 255 stands for the 99.5 percentile of the map's own magnitude and beyond. What speaks against the
target has a heatmap of its own (`NAME_against`), since FiftyOne leaves 0 transparent.
"""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pyarrow.compute as pc
from PIL import Image

from pipeline.report.export import fiftyone_fields as fields
from pipeline.report.export.columns import ATTRIBUTION, Number, numbers_of
from pipeline.report.export.names import slug
from pipeline.report.export.samples import Units, labels_of
from pipeline.report.numbers import size as size_text
from pipeline.run.expected import image_sizes
from pipeline.run.layout import ATTRIBUTIONS
from pipeline.run.maps import decode_maps
from pipeline.run.reader import Run
from pipeline.run.stored import manifest_row, members_of
from pipeline.shards.annotations import annotation
from pipeline.shards.images import IMAGE_EXTENSIONS
from pipeline.shards.manifest_table import MANIFEST
from pipeline.shards.samples import ManifestRow, Status
from pipeline.storage.jsontext import to_json
from ssig.display import limit_of
from ssig.errors import UsageError

_GROUND_TRUTH = "ground_truth"
# Column -> name of the field, and what it holds; of several models each has its own.
_CLASSES = {
    "predicted": ("prediction", "class of the highest logit"),
    "target": ("target", "class that is explained; its confidence is the softmax probability"),
}
_OBJECTS = "objects"


@dataclass
class _Series:
    """A model and method: its units and the names of its fields; `classes` are those of its model, by column."""

    model: str
    method: str
    name: str
    classes: dict[str, str]
    units: Units
    signed: bool = False
    scalars: dict[str, Number] = field(default_factory=dict)


def write_fiftyone(run: Run, folder: Path, tell: Callable[[str], None]) -> None:
    """Writes the data set of a run into an empty folder.

    Raises:
        UsageError: there is no room, a shard is another than when the run began, or a file of the run is not there.
        OSError: a shard cannot be read.
    """
    series = _series(run)
    _check_space(run, folder, len(series), tell)
    left_out = 0
    (folder / "data").mkdir()
    with (folder / "samples.json").open("w", encoding="utf-8") as file:
        file.write('{"samples": [')
        separator = ""
        for records in _units(run, series, folder):
            for record in records:
                if record is None:
                    left_out += 1
                    continue
                file.write(f"{separator}\n{to_json(record, readable=True)}")
                separator = ","
        file.write("\n]}\n")
    if left_out:
        tell(f"warning: {left_out:,} samples have no photograph, and are left out")
    described = fields.dataset(
        PurePosixPath(run.root).name or "run",
        _described(series),
        run.config[series[0].model, series[0].method].get("categories") or (),
        {"run": run.root, "models": {model: run.config[model, method]["model"] for model, method in labels_of(run)}},
    )
    (folder / "metadata.json").write_text(to_json(described, indent=1, readable=True) + "\n", encoding="utf-8")


def _series(run: Run) -> list[_Series]:
    labels = labels_of(run)
    several = len({model for model, _ in labels}) > 1
    every_series: list[_Series] = []
    names = {_GROUND_TRUTH, _OBJECTS, "key", "shard", "index", "status"}
    classes = {
        model: {
            column: _unused(fields.field_name(f"{model} {name}" if several else name), names)
            for column, (name, _) in _CLASSES.items()
        }
        for model in dict.fromkeys(model for model, _ in labels)
    }
    for model, method in labels:
        units = Units(run, model, method, numbers_of(run, model))
        name = _unused(fields.field_name(f"{model} {method}" if several else method), names)
        series = _Series(model, method, name, classes[model], units)
        for number in units.numbers:
            if number.source.metric != ATTRIBUTION and not number.name.startswith("seconds_"):
                series.scalars[_unused(fields.field_name(f"{name} {number.name}"), names)] = number
        every_series.append(series)
    return every_series


def _unused(name: str, names: set[str]) -> str:
    """A name that no other field has, also with `_against`; it is added to `names`."""
    number, chosen = 2, name
    while {chosen, f"{chosen}_against"} & names:
        chosen, number = f"{name}_{number}", number + 1
    names |= {chosen, f"{chosen}_against"}
    return chosen


def _check_space(run: Run, folder: Path, methods: int, tell: Callable[[str], None]) -> None:
    """Says how much is copied, and refuses where there is no room for it."""
    photographs, samples = 0, 0
    for piece in run.expected.pieces(["members"]):
        sizes = image_sizes(piece["members"])
        photographs, samples = photographs + (pc.sum(sizes).as_py() or 0), samples + pc.count(sizes).as_py()
    model = next(iter(run.config.values())).get("model", {})
    height, width = model.get("input_size", (0, 0))
    maps = 2 * samples * methods * height * width
    free = shutil.disk_usage(folder).free
    tell(
        f"copies {samples:,} photographs ({size_text(photographs)}) and writes the maps of {methods} methods "
        f"(at most {size_text(maps)}); {size_text(free)} are free"
    )
    if photographs + maps > free:
        raise UsageError("--to", str(folder.parent), f"a disk with {size_text(photographs + maps)} free")


def _units(run: Run, series: Sequence[_Series], folder: Path) -> Iterator[list[fields.Document | None]]:
    """The records of a unit's samples, unit by unit; None for a sample without a photograph."""
    rows: list[Mapping[str, Any]] = []
    for row in _expected_rows(run):
        if rows and rows[0]["unit"] != row["unit"]:
            yield _records(run, series, rows, folder)
            rows = []
        rows.append(row)
    if rows:
        yield _records(run, series, rows, folder)


def _expected_rows(run: Run) -> Iterator[Mapping[str, Any]]:
    """The rows of the manifest, few of them in memory."""
    for piece in run.expected.pieces(MANIFEST.names):
        for start in range(0, len(piece), 1024):
            yield from piece.slice(start, 1024).to_pylist()


def _records(
    run: Run, every_series: Sequence[_Series], rows: Sequence[Mapping[str, Any]], folder: Path
) -> list[fields.Document | None]:
    records = {row["index"]: _record(run, manifest_row(row, as_ok=True), folder) for row in rows}
    for series in every_series:
        unit = series.units.read(rows[0]["unit"])
        if unit is None:
            continue
        abouts = unit.identity.to_pylist()
        for position, about in enumerate(abouts):
            record = records.get(about["index"])
            if record is not None:
                _add_classes(record, about, series.classes)
                for name, number in series.scalars.items():
                    value = float(unit.values[number.name][position])
                    record[name] = value if np.isfinite(value) else None
        _add_maps(run, series, rows[0]["unit"], records, folder)
    return list(records.values())


def _record(run: Run, row: ManifestRow, folder: Path) -> fields.Document | None:
    """The record of a sample, with its photograph copied and its boxes; None where it has no photograph."""
    members = dict(members_of(run, row)) if row.members else {}
    extension = next((name for name in IMAGE_EXTENSIONS if name in members), None)
    if extension is None:
        return None
    shard = f"{row.unit.partition('-')[0]}-{slug(PurePosixPath(row.shard).stem)}"  # the number tells shards apart
    name = f"data/{shard}/{row.index:06d}-{slug(row.key)}.{extension}"
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(members[extension])
    identity = f"{row.shard}/{row.index}/{row.key}"
    record = fields.sample(identity, name, [])
    record |= {"key": row.key, "shard": row.shard, "index": row.index, "status": "not done"}
    size = _size_of(members[extension])
    boxes = annotation(members["json"], size).boxes if "json" in members and size is not None else None
    if boxes and size is not None:
        width, height = size
        shares = [(x0 / width, y0 / height, (x1 - x0) / width, (y1 - y0) / height) for x0, y0, x1, y1 in boxes]
        record[_OBJECTS] = fields.detections(f"{identity}/{_OBJECTS}", "object", shares)
    return record


def _size_of(data: bytes) -> tuple[int, int] | None:
    """(width, height) of a picture; None where it cannot be read."""
    try:
        with closing(Image.open(io.BytesIO(data))) as picture:
            return picture.size
    except Exception:  # Pillow raises nearly anything on bad bytes; the photograph is copied all the same
        return None


def _add_classes(record: fields.Document, about: Mapping[str, Any], names: Mapping[str, str]) -> None:
    """Status and classes, of the first method that has them; `names`: column -> field, of the method's model."""
    if record["status"] == "not done":
        record["status"] = about["status"]
        record["tags"] = [] if about["status"] == Status.OK else [about["status"]]
    for column, name in {"label": _GROUND_TRUTH, **names}.items():
        if about[column] is not None and name not in record:
            label = about[f"{column}_name"] or f"class {about[column]}"
            confidence = about["probability"] if about[column] == about["target"] and column != "label" else None
            record[name] = fields.classification(f"{record['_id']['$oid']}/{name}", label, confidence)


def _add_maps(
    run: Run, series: _Series, unit: str, records: Mapping[int, fields.Document | None], folder: Path
) -> None:
    """Writes the heatmaps of a unit, and names them in the records."""
    commit = series.units.commits.of_unit(unit)
    name = None if commit is None else commit.file(ATTRIBUTIONS)
    if name is None:
        return
    table = run.read(name, ["index", "crop", "width", "height", "map", "map_scale"])
    if "map" not in table.column_names:
        return
    table = table.filter(pc.is_valid(table["map_scale"]))
    abouts = table.select(["index", "crop", "width", "height"]).to_pylist()
    for position, about in enumerate(abouts):
        record = records.get(about["index"])
        if record is None:
            continue
        values = np.nan_to_num(decode_maps(table.slice(position, 1))[0])
        limit = limit_of(values)
        parts = {series.name: values} | ({f"{series.name}_against": -values} if (values < 0).any() else {})
        series.signed |= len(parts) > 1
        for part, signed in parts.items():
            path = PurePosixPath("fields", part, *PurePosixPath(record["filepath"]).with_suffix(".png").parts[1:])
            (folder / path.parent).mkdir(parents=True, exist_ok=True)
            placed(np.clip(signed / limit, 0, 1), about["crop"], (about["width"], about["height"])).save(folder / path)
            record[part] = fields.heatmap(f"{record['_id']['$oid']}/{part}", str(path))


def placed(shares: np.ndarray, crop: Sequence[float], size: tuple[int, int]) -> Image.Image:
    """A map in 8 bits on the whole photograph, in the resolution of the map; 0 outside of the crop.

    Args:
        shares: (H, W) in [0, 1].
        crop: the part that the map is of: x0, y0, x1, y1 in pixels of the photograph.
        size: (width, height) of the photograph.
    """
    height, width = shares.shape
    across, down = width / (crop[2] - crop[0]), height / (crop[3] - crop[1])
    whole = Image.new("L", (max(1, round(size[0] * across)), max(1, round(size[1] * down))))
    picture = Image.fromarray(np.round(255 * shares).astype(np.uint8))
    whole.paste(picture, (round(crop[0] * across), round(crop[1] * down)))
    return whole


def _described(every_series: Sequence[_Series]) -> Iterator[fields.Document]:
    """The records of all fields that samples have of their own."""
    yield fields.field("key", "StringField", "key of the sample in its shard")
    yield fields.field("shard", "StringField", "file name of the shard")
    yield fields.field("index", "IntField", "number of the sample in its shard, from 0")
    yield fields.field("status", "StringField", "ok, or what went wrong with the sample")
    yield fields.label_field(_GROUND_TRUTH, "Classification", "class that the shard gives")
    described: set[str] = set()
    for series in every_series:
        for column, name in series.classes.items():
            if name not in described:
                described.add(name)
                yield fields.label_field(name, "Classification", f"{_CLASSES[column][1]} ({series.model})")
    yield fields.label_field(_OBJECTS, "Detections", "boxes of the object")
    for series in every_series:
        towards = f"map of {series.method} ({series.model}): what speaks for the target"
        yield fields.label_field(
            series.name, "Heatmap", towards if series.signed else f"map of {series.method} ({series.model})"
        )
        if series.signed:
            against = f"map of {series.method} ({series.model}): what speaks against the target"
            yield fields.label_field(f"{series.name}_against", "Heatmap", against)
        for name, number in series.scalars.items():
            yield fields.field(name, "FloatField", f"{number.name} of {series.method}: {number.description}")
