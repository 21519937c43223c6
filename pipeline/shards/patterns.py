"""Names of shards: patterns with braces and wildcards, on disks and in object stores.

It imports no library of arrays, so that a wrong name is refused at once.
"""

from __future__ import annotations

import glob
import itertools
import os
import shlex
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath

from braceexpand import braceexpand

from pipeline.shards.names import CLASSES, INDEX_SUFFIX, SOURCE, is_left_behind
from pipeline.storage import locate, open_storage
from pipeline.storage.base import check_url, is_object_url, is_url, refuse_credentials
from ssig.errors import UsageError

_FIELD = "dataset.shards"
_WILDCARDS = frozenset("*?[")
_PATTERN = _WILDCARDS | {"{"}
_LISTED = 1000  # names of a folder that are looked at
_AT_ONCE = 32  # objects that are looked up


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
        for name, shards in _found(prefix, braceexpand(ending_pattern)):
            if not shards:
                raise UsageError(_FIELD, name, _what_to_name(name))
            yield from shards
    except ValueError as error:
        if isinstance(error, UsageError):
            raise
        raise UsageError(_FIELD, pattern, f"a pattern with balanced braces ({error})") from error
    except OSError as error:
        raise UsageError(_FIELD, pattern, f"a shard in a place that can be listed ({error})") from error


def _found(prefix: str, endings: Iterable[str]) -> Iterator[tuple[str, list[str]]]:
    """Each name without braces, and the shards that it names. Of objects many are looked up at a time."""
    if prefix:  # of files on a disk
        yield from ((prefix + ending, _files(prefix, ending)) for ending in endings)
        return
    names = list(endings)
    for name in names:
        check_url(_FIELD, name)
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        found = pool.map(lambda name: _objects(name) if is_url(name) else _files("", name), names)
        yield from zip(names, found, strict=True)


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
    """Whether a match of a pattern may be a shard: no list that lies beside shards, nor what a system left there."""
    file = name.rpartition("/")[2]
    is_index = file.endswith((INDEX_SUFFIX, ".idx"))
    return file not in (CLASSES, SOURCE) and not is_index and not is_left_behind(file)


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
    return f"shards; for a folder of images type --images {shlex.quote(folder)} in place of --shards"


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
