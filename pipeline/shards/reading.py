"""Reading one unit's samples from the byte ranges of its shard.

A unit reads the ranges of its own members, neighbours joined into one request, and nothing of the shard before
them; grouping is WebDataset's. Its decoders are not used: they unpack archives and unpickle, and a pickle can run any
code. A fault in a sample is a status and an error that names shard, key and member, never an exception. A shard that
has vanished or shrunk since the manifest was built, or that cannot be read, is an `OSError`: no sample is to blame, so
the unit is tried again and quarantined if it fails again.
"""

from __future__ import annotations

import bisect
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from webdataset.tariterators import group_by_keys

from pipeline.shards import foreign
from pipeline.shards.ahead import in_order
from pipeline.shards.annotations import Annotation, annotation
from pipeline.shards.images import FORMAT_NAMES, IMAGE_EXTENSIONS, MASK, listed, no_image_member, rgb, segmentation
from pipeline.shards.samples import ManifestRow, Member, Sample, Status
from pipeline.storage import locate
from pipeline.storage.base import Storage

# The most bytes of a member: a larger one is a fault of its sample, and is not read.
MAX_MEMBER_BYTES = 2**28

_READ = frozenset({*IMAGE_EXTENSIONS, "json", MASK})
_GAP = 2**20  # bytes; reading over a gap of this size costs less than one more request
_SPAN = 32 * 2**20  # bytes; joined ranges stop growing here, so that memory is bounded whatever the unit


def read_unit(
    source: Storage | str,
    rows: Sequence[ManifestRow],
    *,
    needs_label: bool = False,
    classes: int | None = None,
    threads: int = 0,
) -> Iterator[Sample]:
    """The samples of a unit, decoded, in the order of its rows.

    Args:
        source: the URL of the shard, or the storage of its folder.
        rows: samples of one shard, as the manifest gives them. One that is not `ok` there is passed on as it is.
        needs_label: whether a sample without a usable label is a fault (`no_label`, `bad_label`).
        classes: how many classes there are; a label outside [0, classes) is a fault (`bad_label`).
        threads: how many decode, a few samples ahead; 0 for the calling thread.

    Raises:
        OSError: the shard has vanished, is shorter than its manifest says, or cannot be read.
    """
    if not rows:
        return
    storage, name = locate(source) if isinstance(source, str) else (source, rows[0].shard)
    read = _range_reader(
        storage, name, [member for row in rows if row.status == Status.OK for member in _members_read(row)]
    )

    def payloads(row: ManifestRow) -> dict[str, Any]:
        if row.status != Status.OK:
            return {}
        files = (
            {"fname": f"{row.key}.{member.extension}", "data": read(member), "__url__": name}
            for member in _members_read(row)
        )
        return next(group_by_keys(files), {})

    def decoded(found: tuple[ManifestRow, dict[str, Any]]) -> Sample:
        row, members = found
        if row.status != Status.OK:
            return Sample(row, row.status, row.error)
        return _decode(row, members, needs_label, classes)

    yield from in_order(decoded, ((row, payloads(row)) for row in rows), threads)


def _members_read(row: ManifestRow) -> list[Member]:
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
    parts: dict[str, Any] = {}
    try:
        parts["image"] = image = _image(row, payloads)
        parts.update(_objects_of(row, payloads, image.size))
        _check_label(row, needs_label, classes)
    except _FaultError as fault:
        member = f"{row.key}.{fault.where}" if fault.where else row.key
        return Sample(row, fault.status, f"{row.shard}: {member}: {fault}", **parts)
    return Sample(row, **parts)


def _image(row: ManifestRow, payloads: dict[str, Any]) -> Image.Image:
    for extension in IMAGE_EXTENSIONS:
        if (fault := _too_large(row, extension)) is not None:
            raise _FaultError(Status.UNDECODABLE, extension, fault)
    extension = next((extension for extension in IMAGE_EXTENSIONS if extension in payloads), "")
    if not extension:
        reason = no_image_member([member.extension for member in row.members])
        raise _FaultError(Status.UNDECODABLE, "", reason)
    data = payloads[extension]
    try:
        return rgb(data)
    except MemoryError:
        raise  # the machine's fault, not the sample's
    except UnidentifiedImageError as error:  # whose message holds a memory address
        raise _FaultError(Status.UNDECODABLE, extension, foreign.no_image(data, FORMAT_NAMES)) from error
    except Exception as error:  # decoders raise nearly anything on bad bytes
        raise _FaultError(Status.UNDECODABLE, extension, str(error) or type(error).__name__) from error


def _too_large(row: ManifestRow, extension: str) -> str | None:
    for member in row.members:
        if member.extension == extension and member.size > MAX_MEMBER_BYTES:
            return f"{member.size} bytes; at most {MAX_MEMBER_BYTES} are read"
    return None


def _check_label(row: ManifestRow, needs_label: bool, classes: int | None) -> None:
    if row.label is not None:
        if classes is not None and not 0 <= row.label < classes:
            raise _FaultError(Status.BAD_LABEL, "cls", f"label {row.label} is outside [0, {classes})")
    elif needs_label:
        extensions = sorted(member.extension for member in row.members)
        if "cls" in extensions:
            raise _FaultError(Status.BAD_LABEL, "cls", "not an integer of at most 32 bits")
        problem = f"no cls member; it has {listed(extensions)}"
        raise _FaultError(Status.NO_LABEL, "", f"{problem}: give labels, or --target predicted")


def _objects_of(row: ManifestRow, payloads: dict[str, Any], size: tuple[int, int]) -> dict[str, Any]:
    """Boxes, mask and WordNet id of a sample, or why they cannot be used; `size` is the image's (width, height)."""
    objects, fault = Annotation(), _too_large(row, "json")
    if fault is None and "json" in payloads:
        objects = annotation(payloads["json"], size)
        fault = objects.fault
    mask, mask_fault = None, _too_large(row, MASK)
    if mask_fault is None and MASK in payloads:
        mask, mask_fault = _mask(payloads[MASK], size)
    return {"wnid": objects.wnid, "boxes": objects.boxes, "boxes_fault": fault, "mask": mask, "mask_fault": mask_fault}


def _mask(data: bytes, size: tuple[int, int]) -> tuple[NDArray[np.bool_] | None, str | None]:
    """A mask, or why it cannot be used."""
    try:
        mask: NDArray[np.bool_] = segmentation(data)
    except MemoryError:
        raise
    except Exception:
        return None, f"{MASK} is no image that can be read"
    return (mask, None) if mask.shape == size[::-1] else (None, f"{MASK} has another size than the image")
