"""Fields of Arrow schemas that say what they hold, and the version of all schemas that a run writes."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

SCHEMA_VERSION = 2
DESCRIPTION = b"description"


def field(name: str, kind: pa.DataType, description: str, *, nullable: bool = True) -> pa.Field:
    import pyarrow as pa  # layouts of runs need the version alone, before a wrong command is refused

    return pa.field(name, kind, nullable, {DESCRIPTION: description.encode()})
