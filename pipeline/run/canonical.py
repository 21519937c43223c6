"""The one byte string of a JSON value, and the hashes of records that are made from it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from pipeline.storage.jsontext import to_json


def canonical(value: Any) -> bytes:
    """The one byte string of a JSON value."""
    return to_json(value, compact=True).encode()


def fingerprint_of(frozen: Mapping[str, Any]) -> str:
    """SHA-256 of all that a configuration freezes."""
    return hashlib.sha256(canonical(frozen)).hexdigest()


def checksum(record: Mapping[str, Any]) -> str:
    """SHA-256 of a record without its `checksum`: it changes if the file is damaged."""
    return hashlib.sha256(canonical({k: v for k, v in record.items() if k != "checksum"})).hexdigest()
