"""The compacted tables of a run, as an audit proves them.

The record of a compacted table says for each unit which committed file its part replaced, and what its rows are. So
each unit is judged by itself, as before: the part must have replaced the file that the unit's commit names, and its
rows must be the manifest's. A part whose bytes are what its record says proves the values of all its units at once. Of
any other part each unit's values are proved by their hash, so that damage costs the units that it hits.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from pipeline.checks.findings import Finding, Kind, foreign
from pipeline.run.compaction_content import content_hash
from pipeline.run.compaction_reading import Place, StoredTables, part_files
from pipeline.run.compaction_record import Compaction
from pipeline.run.compactions import Compactions
from pipeline.run.directory import RunDirectory
from pipeline.run.forms import COMPACTED, has_form
from pipeline.run.labels import Label
from pipeline.run.layout import COMPACTIONS, RUN, compaction_name, table_folder
from pipeline.run.publishing import DamagedTableError
from pipeline.run.records import CommitRecord
from pipeline.storage.base import Storage, sha256
from pipeline.storage.many import in_order

_HASHED_AT_ONCE = 8  # parts


@dataclass(frozen=True)
class AuditedParts:
    """The parts of a run, as the units in them are examined.

    Attributes:
        stored: the tables of the run.
        doubted: parts, by their names in the run, whose bytes are not what they were; None: no part was looked at.
    """

    stored: StoredTables
    doubted: frozenset[str] | None = frozenset()

    def rows(
        self, place: Place, name: str, commit: CommitRecord, columns: Sequence[str]
    ) -> tuple[pa.Table, pa.Schema]:
        """Columns of a unit that lies in a part, and the schema of all.

        Args:
            place: of the unit.
            name: of its table, as its commit has it.
            commit: the unit's commit.
            columns: those that are wanted.

        Raises:
            DamagedTableError: it is not what was committed.
            OSError: the storage does not give it.
        """
        part, recorded = place.files[0], place.unit
        committed = commit.files.get(name, {})
        if recorded is None or recorded.table != committed.get("sha256"):
            raise DamagedTableError(f"{part}: holds other rows of unit {commit.unit} than were committed")
        is_doubted = self.doubted is None or part in self.doubted
        try:
            rows = self.stored.read(name, None if is_doubted else columns)
        except FileNotFoundError:
            raise DamagedTableError(f"{part}: missing, though unit {commit.unit} in it is committed") from None
        except DamagedTableError as error:
            raise DamagedTableError(f"{part}: unit {commit.unit} in it cannot be read ({error})") from None
        if is_doubted and content_hash(rows) != recorded.content:
            raise DamagedTableError(f"{part}: its rows of unit {commit.unit} are not the committed ones")
        return rows.select(list(columns)), self.stored.part_schema(place)


@dataclass
class CompactionCheck:
    """What is wrong with the compacted tables of a run, beside their units.

    Attributes:
        parts: the names of all parts that records name.
        replaced: table -> unit that lies in a part, which is in its place -> the part.
        doubted: the parts whose bytes are not what they were.
        findings: everything that is wrong.
    """

    parts: set[str] = field(default_factory=set)
    replaced: dict[str, dict[str, str]] = field(default_factory=dict)
    doubted: set[str] = field(default_factory=set)
    findings: list[Finding] = field(default_factory=list)


def check_compactions(directory: RunDirectory, *, hashes: bool) -> CompactionCheck:
    """Examines the records of compacted tables, and the bytes of their parts.

    Args:
        directory: the run.
        hashes: whether the bytes of the parts are read.

    Raises:
        RefusedError: a record is damaged.
        OSError: the storage does not answer.
    """
    compactions = Compactions(directory.storage)
    tables = compactions.tables()
    check = CompactionCheck()
    check.findings += _strangers(directory, compactions, tables)
    owners = {
        table_folder(kind, label.model, label.method): label
        for label in (*directory.labels, *directory.evaluations)
        for kind in label.tables
    }
    recorded = [compaction for table in tables if (compaction := compactions.of(table)) is not None]
    for compaction in recorded:
        check.parts.update(map(compaction.name, compaction.parts))
        present = {entry.name for entry in directory.storage.list(compaction.table)}
        check.replaced[compaction.table] = {
            unit: name for unit, part in compaction.by_unit.items() if (name := compaction.name(part)) in present
        }
        check.findings += _owner_findings(directory, compaction, owners.get(compaction.table))
    if hashes:
        for name, problem in _part_problems(directory.storage, recorded):
            check.doubted.add(name)
            check.findings.append(Finding(Kind.DAMAGED, problem, (name,)))
    return check


def _strangers(directory: RunDirectory, compactions: Compactions, tables: Collection[str]) -> Iterator[Finding]:
    document = directory.opened()
    if tables and not has_form(document, COMPACTED):
        yield Finding(Kind.RECORD, f"{RUN}: its layout does not say that tables are compacted, and {tables!r} are")
    leftovers = set(compactions.leftovers())
    if leftovers:
        message = f"{COMPACTIONS}: a compaction was cut off ({len(leftovers)} files are left)"
        yield Finding(Kind.UNFINISHED, f"{message}; `ssig compact {directory.root}` finishes it")
    records = set(map(compaction_name, tables))
    for entry in directory.storage.list(COMPACTIONS):
        if entry.name not in records and entry.name not in leftovers:
            yield foreign(entry.name)


def _owner_findings(directory: RunDirectory, compaction: Compaction, label: Label | None) -> Iterator[Finding]:
    name = compaction_name(compaction.table)
    if label is None:
        message = f"{name}: of a label whose configuration is gone"
        yield Finding(Kind.UNCONFIGURED, f"{message}; the command that made the run records it again")
        return
    gone = sorted(set(compaction.units) - directory.sources(label).keys())
    if gone:
        message = f"{name}: {len(gone)} units in parts have no commit, such as {gone[0]}"
        yield Finding(Kind.UNFINISHED, f"{message}; `ssig compact {directory.root}` takes them out")


def _part_problems(storage: Storage, compactions: Sequence[Compaction]) -> Iterator[tuple[str, str]]:
    """Parts, by their names in the run, whose bytes are not what their record says, and what is wrong."""
    recorded = {compaction.name(part): (compaction, part) for compaction in compactions for part in compaction.parts}

    def problem(name: str) -> str | None:
        compaction, part = recorded[name]
        entries = (storage.entry(file) for file in part_files(compaction.table, part))
        entry = next((entry for entry in entries if entry is not None), None)
        if entry is None:
            return f"{name}: missing, though a record names it"
        is_whole = (entry.size, sha256(storage.open(entry.name))) == (part.bytes, part.sha256)
        return None if is_whole else f"{name}: its bytes are not those that its record names"

    for name, found in zip(recorded, in_order(problem, recorded, _HASHED_AT_ONCE, 1), strict=True):
        if found is not None:
            yield name, found
