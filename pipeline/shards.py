"""Shards: naming them by pattern, and reading one unit's samples from its byte ranges.

A unit reads the ranges of its own members, neighbours joined into one request, and nothing of the shard before
them; grouping and decoding are WebDataset's. A fault in a sample is a status and an error that names shard, key
and member, never an exception. A shard that has vanished or shrunk since the manifest, or that storage fails to
give, is an `OSError`: that is no sample's fault, so the unit is tried again and quarantined if it stays so.
"""

from __future__ import annotations

import bisect
import functools
import glob
import io
import json
import os
import reprlib
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from braceexpand import braceexpand
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from webdataset.autodecode import Decoder, handle_extension
from webdataset.tariterators import group_by_keys

from pipeline.records import ManifestRow, Member, Sample, Status
from pipeline.storage import OBJECT_SCHEMES, Storage, is_object_url, locate, open_storage, refuse_credentials
from ssig.errors import UsageError

IMAGE_EXTENSIONS = ("jpg", "jpeg", "png")
# What one member may ask of the memory: a larger one is a fault of its sample, and is not read or not decoded.
MAX_MEMBER_BYTES = 2**28
MAX_PIXELS = 178_000_000  # where Pillow, too, refuses an image as a decompression bomb; 0.5 GB of RGB

_FIELD = "dataset.shards"
_WILDCARDS = frozenset("*?[")
_MASK = "mask.png"
_READ = frozenset({*IMAGE_EXTENSIONS, "json", _MASK})
_GAP = 2**20  # bytes; reading over a gap of this size costs less than one more request
_SPAN = 32 * 2**20  # bytes; joined ranges stop growing here, so that memory is bounded whatever the unit

Box = tuple[float, float, float, float]


def expand(patterns: Sequence[str], base: Path) -> list[str]:
    """The shards that patterns name: absolute paths and URLs, sorted, each once.

    Args:
        patterns: names with braces (``{0000..0009}``, ``{train,val}``) and wildcards (``*``, ``?``, ``[ab]``; on a
            disk also ``**``), local or in an object store.
        base: the folder that relative names start from.

    Raises:
        UsageError: field ``dataset.shards``: a named shard is missing, a pattern matches nothing, two shards have
            the same file name, which is part of every sample's identity, or a path is not UTF-8, as records are.
    """
    shards = sorted({shard for pattern in patterns for shard in _expand(str(pattern), base)})
    if not shards:
        raise UsageError(_FIELD, list(patterns), "at least one shard")
    first: dict[str, str] = {}
    for shard in shards:
        _check_encoding(shard)
        other = first.setdefault(shard.rpartition("/")[2], shard)
        if other != shard:
            raise UsageError(_FIELD, [other, shard], "shards whose file names differ")
    return shards


def _expand(pattern: str, base: Path) -> Iterator[str]:
    refuse_credentials(_FIELD, pattern)
    if "://" in pattern and not is_object_url(pattern):
        raise UsageError(_FIELD, pattern, "a local path, or a URL that begins with " + ", ".join(OBJECT_SCHEMES))
    try:
        names = list(braceexpand(pattern))
    except ValueError as error:
        raise UsageError(_FIELD, pattern, f"a pattern with balanced braces ({error})") from error
    for name in names:
        try:
            found = _objects(name) if is_object_url(name) else _files(name, base)
        except OSError as error:
            raise UsageError(_FIELD, name, f"a shard in a place that can be listed ({error})") from error
        if not found:
            raise UsageError(_FIELD, name, "a file that exists, or a pattern that matches one")
        yield from found


def _files(name: str, base: Path) -> list[str]:
    """The files on disk that a path names; only `name`, not the folder it starts from, is a pattern."""
    name = os.path.expanduser(name)
    if not _WILDCARDS & set(name) or os.path.isfile(base / name):
        matches = [str(base / name)]
    else:
        matches = glob.glob(os.path.join(glob.escape(str(base)), name), recursive=True)
    return [os.path.abspath(match) for match in matches if os.path.isfile(match)]


def _check_encoding(shard: str) -> None:
    try:
        shard.encode()
    except UnicodeEncodeError:  # bytes of a file's name that are no text, as Python holds them
        shown = os.fsencode(shard).decode(errors="backslashreplace")
        raise UsageError(_FIELD, shown, "shards whose paths are UTF-8") from None


def _objects(name: str) -> list[str]:
    """The objects that a URL names; a wildcard matches within one folder level."""
    parts = name.split("/")
    fixed = next((index for index, part in enumerate(parts) if _WILDCARDS & set(part)), None)
    if fixed is None:
        storage, key = locate(name)
        return [name] if storage.entry(key) is not None else []
    storage, pattern = open_storage("/".join(parts[:fixed])), "/".join(parts[fixed:])
    levels = len(parts) - fixed
    paths = (PurePosixPath(entry.name) for entry in storage.list())
    return [f"{storage.root}/{path}" for path in paths if len(path.parts) == levels and path.match(pattern)]


def read_unit(
    source: Storage | str, rows: Sequence[ManifestRow], *, needs_label: bool = False, classes: int | None = None
) -> Iterator[Sample]:
    """The samples of a unit, decoded, in the order of its rows.

    Args:
        source: the URL of the shard, or the storage of its folder.
        rows: samples of one shard, as the manifest gives them. One that is not `ok` there is passed on as it is.
        needs_label: whether a sample without a usable label is a fault (`no_label`, `bad_label`).
        classes: how many classes there are; a label outside [0, classes) is a fault (`bad_label`).

    Raises:
        OSError: the shard has vanished, is shorter than its manifest says, or cannot be read.
    """
    if not rows:
        return
    storage, name = locate(source) if isinstance(source, str) else (source, rows[0].shard)
    read = _range_reader(storage, name, [member for row in rows if row.status == Status.OK for member in _used(row)])
    for row in rows:
        if row.status != Status.OK:
            yield Sample(row, row.status, row.error)
            continue
        files = (
            {"fname": f"{row.key}.{member.extension}", "data": read(member), "__url__": name} for member in _used(row)
        )
        yield _decode(row, next(group_by_keys(files), {}), needs_label, classes)


def _used(row: ManifestRow) -> list[Member]:
    return [member for member in row.members if member.extension in _READ and member.size <= MAX_MEMBER_BYTES]


def _range_reader(storage: Storage, name: str, members: Sequence[Member]) -> Callable[[Member], bytes]:
    """Reads the payloads of `members`, several per request."""
    spans = _join(members)
    starts = [start for start, _ in spans]

    @functools.lru_cache(maxsize=2)  # samples come in the order of the shard, but their members may be interleaved
    def fetch(index: int) -> bytes:
        start, stop = spans[index]
        data = storage.read_range(name, start, stop - start)
        if len(data) < stop - start:
            raise OSError(f"{name}: shorter than in its manifest: {len(data)} of {stop - start} bytes from {start}")
        return data

    def read(member: Member) -> bytes:
        index = bisect.bisect_right(starts, member.offset) - 1
        begin = member.offset - starts[index]
        return fetch(index)[begin : begin + member.size]

    return read


def _join(members: Sequence[Member]) -> list[tuple[int, int]]:
    """The ranges [start, stop) of members in order, those with a gap of at most `_GAP` joined up to `_SPAN` bytes."""
    spans: list[tuple[int, int]] = []
    for member in sorted(members, key=lambda member: member.offset):
        stop = member.offset + member.size
        if spans and member.offset - spans[-1][1] <= _GAP and stop - spans[-1][0] <= _SPAN:
            spans[-1] = (spans[-1][0], max(stop, spans[-1][1]))
        else:
            spans.append((member.offset, stop))
    return spans


class _FaultError(Exception):
    """What is wrong with a sample; `where` is the extension of the member at fault."""

    def __init__(self, status: Status, where: str, reason: str) -> None:
        super().__init__(reason)
        self.status, self.where = status, where


def _decode(row: ManifestRow, payloads: dict[str, Any], needs_label: bool, classes: int | None) -> Sample:
    """Decodes one sample; the first fault found is its status, and what was decoded before it is kept."""
    found: dict[str, Any] = {}
    try:
        _check_sizes(row, IMAGE_EXTENSIONS, Status.UNDECODABLE)
        found["image"] = _image(payloads)
        _check_label(row, needs_label, classes)
        _check_sizes(row, ("json", _MASK), Status.BAD_BOXES)
        if "json" in payloads:
            found.update(_annotation(payloads["json"], found["image"].size))
        if _MASK in payloads:
            found["mask"] = _mask(payloads[_MASK], found["image"].size)
    except _FaultError as fault:
        member = f"{row.key}.{fault.where}" if fault.where else row.key
        return Sample(row, fault.status, f"{row.shard}: {member}: {fault}", **found)
    return Sample(row, **found)


def _check_sizes(row: ManifestRow, extensions: Sequence[str], status: Status) -> None:
    for member in row.members:
        if member.extension in extensions and member.size > MAX_MEMBER_BYTES:
            raise _FaultError(status, member.extension, f"{member.size} bytes; at most {MAX_MEMBER_BYTES} are read")


def _image(payloads: dict[str, Any]) -> Image.Image:
    extension = next((extension for extension in IMAGE_EXTENSIONS if extension in payloads), None)
    if extension is None:
        raise _FaultError(Status.UNDECODABLE, "", "no image member (" + ", ".join(IMAGE_EXTENSIONS) + ")")
    image: Image.Image = _decode_member(extension, payloads[extension], Status.UNDECODABLE)
    return image


def _check_label(row: ManifestRow, needs_label: bool, classes: int | None) -> None:
    if row.label is not None:
        if classes is not None and not 0 <= row.label < classes:
            raise _FaultError(Status.BAD_LABEL, "cls", f"label {row.label} is outside [0, {classes})")
    elif needs_label:
        if any(member.extension == "cls" for member in row.members):
            raise _FaultError(Status.BAD_LABEL, "cls", "no integer, or one of more than 32 bits")
        raise _FaultError(Status.NO_LABEL, "", "no cls member")


def _annotation(data: bytes, size: tuple[int, int]) -> dict[str, Any]:
    """`wnid` and `boxes` of a json member; `size` is the image's (width, height)."""
    record = _decode_member("json", data, Status.BAD_BOXES)
    if not isinstance(record, dict):
        raise _FaultError(Status.BAD_BOXES, "json", "no JSON object")
    wnid, boxes = record.get("wnid"), record.get("boxes")
    if not isinstance(wnid, str | None):
        raise _FaultError(Status.BAD_BOXES, "json", f"wnid {reprlib.repr(wnid)} is no text")
    if not isinstance(boxes, list | None):
        raise _FaultError(Status.BAD_BOXES, "json", f"boxes {reprlib.repr(boxes)} is no list")
    checked = tuple(_box(box, index, size) for index, box in enumerate(boxes or []))
    return {"wnid": wnid, "boxes": checked or None}


def _box(box: object, index: int, size: tuple[int, int]) -> Box:
    """A box (x0, y0, x1, y1) that has an area and touches the image."""
    where = f"box {index} {reprlib.repr(box)}"
    if not (isinstance(box, list) and len(box) == 4 and all(map(_is_finite, box))):
        raise _FaultError(Status.BAD_BOXES, "json", f"{where} is not four finite numbers")
    x0, y0, x1, y1 = map(float, box)
    if x0 >= x1 or y0 >= y1:
        raise _FaultError(Status.BAD_BOXES, "json", f"{where} is inverted or empty (image {size[0]} x {size[1]})")
    if x1 <= 0 or y1 <= 0 or x0 >= size[0] or y0 >= size[1]:
        raise _FaultError(Status.BAD_BOXES, "json", f"{where} is wholly outside the image of {size[0]} x {size[1]}")
    return x0, y0, x1, y1


def _is_finite(value: object) -> bool:
    # Compared, not converted: an integer may be too large for a float, and NaN is below nothing.
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def _mask(data: bytes, size: tuple[int, int]) -> NDArray[np.bool_]:
    mask: NDArray[np.bool_] = _decode_member(_MASK, data, Status.BAD_BOXES)
    if mask.shape != size[::-1]:
        found = f"{mask.shape[1]} x {mask.shape[0]}"
        raise _FaultError(Status.BAD_BOXES, _MASK, f"mask of {found} for an image of {size[0]} x {size[1]}")
    return mask


def _decode_member(extension: str, data: bytes, status: Status) -> Any:
    try:
        return _DECODER.decode1(extension, data)
    except MemoryError:
        raise  # the machine's fault, not the sample's
    except UnidentifiedImageError as error:  # whose message holds a memory address
        raise _FaultError(status, extension, "neither a JPEG nor a PNG file") from error
    except Exception as error:  # decoders raise nearly anything on bad bytes
        raise _FaultError(status, extension, str(error) or type(error).__name__) from error


def _open_image(data: bytes) -> Image.Image:
    """A whole image. Truncated data is an error in Pillow, unless a program asks it to make up the rest."""
    image = Image.open(io.BytesIO(data), formats=("JPEG", "PNG"))
    if image.width * image.height > MAX_PIXELS:
        raise ValueError(f"{image.width} x {image.height} pixels; at most {MAX_PIXELS} are read")
    image.load()
    return image


def _rgb(data: bytes) -> Image.Image:
    """The image as stored, in RGB of 8 bits: not rotated, transparency dropped, 16-bit grey by its high byte."""
    image = _open_image(data)
    if image.mode.startswith("I"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    image.info.pop("transparency", None)  # Pillow would try to map the transparent colour, and warn where it cannot
    return image.convert("RGB")


def _segmentation(data: bytes) -> NDArray[np.bool_]:
    """(height, width) bool: where a mask is not black, or not of palette colour 0; transparency does not count."""
    image = _open_image(data)
    opaque = len(image.getbands()) - ("A" in image.getbands())
    bands = np.asarray(image).reshape(image.height, image.width, -1)[..., :opaque]
    return np.asarray(bands.any(axis=-1))


# The first handler that knows an extension decodes it, so the mask comes before other PNG files. WebDataset's own
# handlers stay out: they unpack archives and unpickle, and a pickle runs what it likes.
_DECODER = Decoder(
    [
        handle_extension(_MASK, _segmentation),
        handle_extension(" ".join(IMAGE_EXTENSIONS), _rgb),
        handle_extension("json", json.loads),
    ],
    pre=[],
    post=[],
)
