"""The forms of storage that a run may have: which of them this version reads, and how a run gets one more.

`run.json` names in `layout` each form that a reader must know. A reader that finds a name that it does not know
refuses the run. So a form is named before any file of it is written.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.run.canonical import checksum
from pipeline.run.layout import RUN
from pipeline.storage.base import Storage
from pipeline.storage.fields import SCHEMA_VERSION
from pipeline.storage.jsontext import to_json

READABLE = (1, SCHEMA_VERSION)
BATCH_COMMITS = "batch-commits"
# The manifest is sealed after the run was begun (`pipeline.run.manifest_parts`).
SEALED_LATER = "sealed-manifest"
# Forms that `run.json` may name; see docs/run-format.md.
LAYOUTS: frozenset[str] = frozenset({BATCH_COMMITS, SEALED_LATER})


def unreadable(record: Mapping[str, Any]) -> str | None:
    """Why this version cannot read the run of a `run.json`: its schema, or how it is stored; None if it can."""
    version, layout = record.get("schema_version", SCHEMA_VERSION), record.get("layout", [])
    if type(version) is not int or version not in READABLE:
        return f"schema_version is {version!r}; this version reads {' and '.join(map(str, READABLE))}"
    if not isinstance(layout, list) or not set(map(str, layout)) <= LAYOUTS:
        return f"layout is {layout!r}, which a later version of ssig reads"
    return None


def has_form(document: Mapping[str, Any], form: str) -> bool:
    """Whether `run.json` names a form of storage."""
    return form in document.get("layout", ())


def name_form(storage: Storage, document: Mapping[str, Any], form: str) -> bool:
    """Names one more form in `run.json`; whether it was not named before.

    The file is replaced as a whole: killed at any instant, the run has the former one or the new one.

    Args:
        storage: the run, whose lease the caller holds.
        document: `run.json` as it stands.
        form: the name.
    """
    if has_form(document, form):
        return False
    record = {**document, "layout": [*document.get("layout", ()), form]}
    if "checksum" in record:
        record["checksum"] = checksum(record)
    storage.put(RUN, to_json(record, indent=1).encode())
    return True
