"""The record of a compacted table: which parts it has, and which units lie in each.

A table is what one label keeps of one kind, such as `metrics/model=M/method=X`. Its record is
`compactions/metrics/model=M/method=X.json`. A unit that the record names lies in a part, and nowhere else. A unit
that it does not name has a file of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from pipeline.run.canonical import checksum
from pipeline.run.layout import is_part
from pipeline.run.records import RefusedError
from pipeline.storage.fields import SCHEMA_VERSION
from pipeline.storage.jsontext import to_json


class PartUnit(NamedTuple):
    """A unit in a part.

    Attributes:
        unit: its id.
        rows: how many it has.
        table: SHA-256 of the unit's file that the part replaced, as the unit's commit names it.
        content: SHA-256 of the rows themselves (`pipeline.run.compaction_content`).
    """

    unit: str
    rows: int
    table: str
    content: str


@dataclass(frozen=True)
class Part:
    """A part of a compacted table.

    Attributes:
        name: of its file, without the folder.
        sha256, bytes: of the file.
        units: in order; their rows follow each other in the file.
    """

    name: str
    sha256: str
    bytes: int
    units: tuple[PartUnit, ...]

    @property
    def rows(self) -> int:
        return sum(unit.rows for unit in self.units)


@dataclass(frozen=True)
class Compaction:
    """The record of a compacted table.

    Attributes:
        table: its folder in the run.
        parts: in order of their first unit.
        next_part: number of the part that is made next; no two parts of a table ever have one name.
    """

    table: str
    parts: tuple[Part, ...] = ()
    next_part: int = 0

    @cached_property
    def by_unit(self) -> Mapping[str, Part]:
        """Unit -> the part that it lies in."""
        return {unit.unit: part for part in self.parts for unit in part.units}

    @cached_property
    def units(self) -> Mapping[str, PartUnit]:
        """Unit -> what is recorded of it."""
        return {unit.unit: unit for part in self.parts for unit in part.units}

    def name(self, part: Part) -> str:
        """The file of a part in the run."""
        return f"{self.table}/{part.name}"

    @property
    def content(self) -> bytes:
        """What is stored."""
        record: dict[str, Any] = {
            "schema_version": SCHEMA_VERSION,
            "table": self.table,
            "next_part": self.next_part,
            "parts": [
                {
                    "name": part.name,
                    "sha256": part.sha256,
                    "bytes": part.bytes,
                    "rows": part.rows,
                    "units": [list(unit) for unit in part.units],
                }
                for part in self.parts
            ],
        }
        return to_json({**record, "checksum": checksum(record)}).encode()


def stored_compaction(table: str, record: Mapping[str, Any]) -> Compaction:
    """The record that is stored for a table.

    Raises:
        RefusedError: it is no such record, or was changed; the message does not name the file.
    """
    if record.get("checksum") != checksum(record):
        raise RefusedError("its content does not have its checksum")
    try:
        parts = tuple(
            Part(
                str(part["name"]),
                str(part["sha256"]),
                int(part["bytes"]),
                tuple(PartUnit(str(unit), int(rows), str(sha), str(own)) for unit, rows, sha, own in part["units"]),
            )
            for part in record["parts"]
        )
        compaction = Compaction(str(record["table"]), parts, int(record["next_part"]))
    except (KeyError, TypeError, ValueError) as error:
        raise RefusedError(f"not the record of a compacted table ({error})") from None
    if compaction.table != table:
        raise RefusedError(f"is the record of {compaction.table}")
    names = [part.name for part in parts]
    if not all(is_part(name) and "/" not in name for name in names) or len(set(names)) < len(names):
        raise RefusedError(f"names the parts {names}")
    if len(compaction.units) != sum(len(part.units) for part in parts):
        raise RefusedError("names a unit twice")
    return compaction
