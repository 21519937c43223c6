"""Folders on this machine that appear whole: written beside their place, then renamed into it.

Each holds `ssig.json`, which says what it is and which files ssig wrote there. A folder is replaced only if it holds
nothing else, so that no file of the user is lost.
"""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline.storage.base import is_url
from pipeline.storage.jsontext import as_read, to_json
from ssig.errors import UsageError

RECORD = "ssig.json"
_HOLDS = "holds"


def check_folder(option: str, folder: str | Path, about: Mapping[str, Any], *, overwrite: bool = False) -> Path:
    """The path of a folder that may be written, asked before any work.

    Args:
        option: what an error calls the folder.
        folder: where it is to be.
        about: what it will be; a folder of the same is replaced.
        overwrite: whether a folder of something else that ssig wrote is replaced too.

    Raises:
        UsageError: it is no folder of this machine, or it holds what must not be replaced.
    """
    if is_url(str(folder)):
        raise UsageError(option, str(folder), "a folder on this machine")
    path = Path(os.path.abspath(Path(folder).expanduser()))
    if path.exists() and not path.is_dir():
        raise UsageError(option, str(path), "a folder; there is a file of this name")
    names = sorted(os.listdir(path)) if path.is_dir() else []
    if not names:
        return path
    recorded = _record(path)
    if recorded is None:
        raise UsageError(option, str(path), f"a new folder, or an empty one; this one holds {names[0]}")
    strangers = sorted(set(names) - {RECORD, *map(str, recorded.get(_HOLDS, ()))})
    if strangers:
        raise UsageError(option, str(path), f"a folder with what ssig wrote alone; move {strangers[0]} out of it")
    same = {name: value for name, value in recorded.items() if name != _HOLDS} == as_read(dict(about))
    if not same and not overwrite:
        raise UsageError(option, str(path), "a new folder, or --overwrite; this one holds something else of ssig")
    return path


@contextmanager
def whole_folder(path: Path, about: Mapping[str, Any]) -> Iterator[Path]:
    """A folder to write into, which takes the place of `path` at the end; after an error nothing is left of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    staged = path.parent / f".{path.name}.{uuid.uuid4().hex[:8]}"
    staged.mkdir()
    try:
        yield staged
        record = {**about, _HOLDS: sorted(os.listdir(staged))}
        (staged / RECORD).write_text(to_json(record, indent=1, readable=True) + "\n", encoding="utf-8")
        _replace(staged, path)
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def _replace(staged: Path, path: Path) -> None:
    """Renames `staged` to `path`; what was there is removed once it is."""
    if not path.exists():
        staged.rename(path)
        return
    former = staged.with_name(f"{staged.name}.former")
    path.rename(former)
    try:
        staged.rename(path)
    except BaseException:
        former.rename(path)
        raise
    shutil.rmtree(former)


def _record(path: Path) -> dict[str, Any] | None:
    """What `ssig.json` of a folder says; None where there is none that can be read."""
    try:
        record = json.loads((path / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) else None
