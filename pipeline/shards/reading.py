"""Shards: naming them by pattern, and reading one unit's samples from its byte ranges.

A unit reads the ranges of its own members, neighbours joined into one request, and nothing of the shard before
them; grouping is WebDataset's. Its decoders are not used: they unpack archives and unpickle, and a pickle can run any
code. A fault in a sample is a status and an error that names shard, key and member, never an exception. A shard that
has vanished or shrunk since the manifest was built, or that cannot be read, is an `OSError`: no sample is to blame, so
the unit is tried again and quarantined if it fails again.
"""

from __future__ import annotations

import bisect
import functools
import glob
import itertools
import os
import shlex
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from braceexpand import braceexpand
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from webdataset.tariterators import group_by_keys

from pipeline.shards import foreign
from pipeline.shards.annotations import Annotation, annotation
from pipeline.shards.classes import FILE as CLASSES
from pipeline.shards.images import FORMAT_NAMES, IMAGE_EXTENSIONS, MASK, listed, no_image_member, rgb, segmentation
from pipeline.shards.samples import ManifestRow, Member, Sample, Status
from pipeline.shards.tar_scan import is_left_behind
from pipeline.storage import locate, open_storage
from pipeline.storage.base import Storage, check_url, is_object_url, is_url, refuse_credentials
from ssig.errors import UsageError

# The most bytes of a member: a larger one is a fault of its sample, and is not read.
MAX_MEMBER_BYTES = 2**28

_FIELD = "dataset.shards"
_WILDCARDS = frozenset("*?[")
_PATTERN = _WILDCARDS | {"{"}
_LISTED = 1000  # names of a folder that are looked at
_READ = frozenset({*IMAGE_EXTENSIONS, "json", MASK})
_GAP = 2**20  # bytes; reading over a gap of this size costs less than one more request
_SPAN = 32 * 2**20  # bytes; joined ranges stop growing here, so that memory is bounded whatever the unit


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
        namesake = first.setdefault(shard.rpartition("/")[2], shard)
        if namesake != shard:
            raise UsageError(_FIELD, [namesake, shard], "shards whose file names differ")
    return shards


def _expand(pattern: str, base: Path) -> Iterator[str]:
    refuse_credentials(_FIELD, pattern)
    try:
        if (named := _named(pattern, base)) is not None:
            yield named
            return
        prefix, ending_pattern = _literal_part(pattern, base)
        for ending in braceexpand(ending_pattern):
            name = prefix + ending
            if is_url(name):
                check_url(_FIELD, name)
                shards = _objects(name)
            else:
                shards = _files(prefix, ending)
            if not shards:
                raise UsageError(_FIELD, name, _what_to_name(name))
            yield from shards
    except ValueError as error:
        if isinstance(error, UsageError):
            raise
        raise UsageError(_FIELD, pattern, f"a pattern with balanced braces ({error})") from error
    except OSError as error:
        raise UsageError(_FIELD, pattern, f"a shard in a place that can be listed ({error})") from error


def _named(text: str, base: Path) -> str | None:
    """The file or object of exactly this name, though it may look like a pattern."""
    if not is_url(text):
        path = os.path.abspath(base / os.path.expanduser(text))
        return path if os.path.isfile(path) else None
    if not _PATTERN & set(text) or not is_object_url(text) or _PATTERN & set(text.split("/")[2]):
        return None
    check_url(_FIELD, text)
    storage, key = locate(text)
    return text if key and storage.entry(key) is not None else None


def _literal_part(pattern: str, base: Path) -> tuple[str, str]:
    """Splits a path into a folder that exists, such as the working folder, and the pattern in it."""
    if is_url(pattern):
        return "", pattern
    parts = os.path.join(base, os.path.expanduser(pattern)).split("/")
    count = next((n for n in range(1, len(parts)) if not os.path.isdir("/".join(parts[: n + 1]) or "/")), len(parts))
    return "/".join(parts[:count]) + "/", "/".join(parts[count:])


def _files(folder: str, name: str) -> list[str]:
    """The files on disk that `name` names; `folder` is no pattern."""
    if not _WILDCARDS & set(name) or os.path.isfile(folder + name):
        matches = [folder + name]
    else:
        matches = [match for match in glob.glob(glob.escape(folder) + name, recursive=True) if _may_be_shard(match)]
    return [os.path.abspath(match) for match in matches if os.path.isfile(match)]


def _may_be_shard(name: str) -> bool:
    """Whether a match of a pattern may be a shard: not the list of classes, nor a file that a system left there."""
    file = name.rpartition("/")[2]
    return file != CLASSES and not is_left_behind(file)


def _what_to_name(name: str) -> str:
    """Advice for a name that is no file; for a folder, what it holds."""
    if is_url(name):
        storage = open_storage(name)
        inside = [entry.name for entry in itertools.islice(storage.list(), _LISTED)]
    elif os.path.isdir(name):
        inside = sorted(os.listdir(name))[:_LISTED]
    else:
        alone = " (it matches folders alone)" if _WILDCARDS & set(name) and glob.glob(name) else ""
        return f"a file that exists, or a pattern that matches one{alone}"
    folder = name.rstrip("/") or "/"
    if any(file.endswith(".tar") and "/" not in file for file in inside):
        return f"shards; those of this folder are '{folder}/*.tar'"
    if not inside:
        return "a file that exists, or a pattern that matches one" + ("" if is_url(name) else " (the folder is empty)")
    if is_url(name):
        return f"shards (.tar); {folder} has {inside[0]}"
    return f"shards; a folder of images is packed into some: ssig pack {shlex.quote(folder)} --out shards"


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
    if len(parts) < 4:
        return []
    if fixed is None:
        storage, key = locate(name)
        return [name] if key and storage.entry(key) is not None else []
    storage, pattern = open_storage("/".join(parts[:fixed])), "/".join(parts[fixed:])
    levels = len(parts) - fixed
    paths = (PurePosixPath(entry.name) for entry in storage.list() if _may_be_shard(entry.name))
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
    read = _range_reader(
        storage, name, [member for row in rows if row.status == Status.OK for member in _members_read(row)]
    )
    for row in rows:
        if row.status != Status.OK:
            yield Sample(row, row.status, row.error)
            continue
        files = (
            {"fname": f"{row.key}.{member.extension}", "data": read(member), "__url__": name}
            for member in _members_read(row)
        )
        yield _decode(row, next(group_by_keys(files), {}), needs_label, classes)


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
