"""The forms of storage that a run may have: which of them this version reads, and how a run gets one more.

`run.json` names in `layout` each form that a reader must know. A reader that finds a name that it does not know
refuses the run. So a form is named before any file of it is written.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from pipeline.run.canonical import checksum
from pipeline.run.layout import RUN
from pipeline.storage.base import Storage
from pipeline.storage.fields import SCHEMA_VERSION
from pipeline.storage.jsontext import to_json

READABLE = (1, SCHEMA_VERSION)
BATCH_COMMITS = "batch-commits"
COMPACTED = "compacted"
# The manifest is sealed after the run was begun (`pipeline.run.manifest_parts`).
SEALED_LATER = "sealed-manifest"
# Forms that `run.json` may name; see docs/run-format.md.
LAYOUTS: frozenset[str] = frozenset({BATCH_COMMITS, SEALED_LATER, COMPACTED})


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


def result_digest(document: Mapping[str, Any], digest: bytes) -> bytes:
    """A hash of `run.json`; compacted tables change no result, so it is as it was before they were named.

    Args:
        document: `run.json` as it stands.
        digest: SHA-256 of its bytes.
    """
    if not has_form(document, COMPACTED):
        return digest
    before = {**document, "layout": [form for form in document["layout"] if form != COMPACTED]}
    return hashlib.sha256(_stored(before)).digest()


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
    storage.put(RUN, _stored({**document, "layout": [*document.get("layout", ()), form]}))
    return True


def _stored(document: Mapping[str, Any]) -> bytes:
    """What is stored of a changed `run.json`."""
    record = dict(document)
    if "checksum" in record:
        record["checksum"] = checksum(record)
    return to_json(record, indent=1).encode()
