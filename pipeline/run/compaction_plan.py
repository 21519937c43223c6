"""What there is to compact in a run: the tables of finished labels, cut into parts by their size."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from pipeline.run.committed import counts, order
from pipeline.run.compaction_record import Compaction
from pipeline.run.compactions import Compactions
from pipeline.run.directory import RunDirectory
from pipeline.run.labels import Label
from pipeline.run.layout import ATTRIBUTIONS, TABLE_SUFFIX, table_folder
from pipeline.run.records import CommitRecord
from pipeline.storage.base import Storage

# Bytes of the unit files that one part replaces. Maps are read a few at a time, so their parts are smaller.
MAPS_PART_BYTES = 512 << 20
METRICS_PART_BYTES = 4 << 30


@dataclass(frozen=True)
class Source:
    """A unit that goes into a part.

    Attributes:
        unit: its id.
        name: of its file, as its commit has it.
        rows: how many.
        bytes: about how many in the part.
        sha256: of its file, as its commit has it.
        content: hash of its rows, where a part holds them by now; None for a unit file.
    """

    unit: str
    name: str
    rows: int
    bytes: int
    sha256: str
    content: str | None = None


@dataclass(frozen=True)
class PartPlan:
    """A part that is to be made."""

    number: int
    sources: Sequence[Source]

    @property
    def bytes(self) -> int:
        return sum(source.bytes for source in self.sources)


@dataclass(frozen=True)
class TablePlan:
    """A table that is to be compacted.

    Attributes:
        table: its folder.
        compaction: its record as it is.
        files: how many files it has now.
        parts: those to be made.
        is_anew: whether they take the place of the parts that it has; else they come to these.
    """

    table: str
    compaction: Compaction
    files: int
    parts: Sequence[PartPlan]
    is_anew: bool

    @property
    def kept(self) -> Sequence[object]:
        """The parts that stay."""
        return () if self.is_anew else self.compaction.parts

    @property
    def next_part(self) -> int:
        return self.compaction.next_part + len(self.parts)


class _NotNowError(Exception):
    """Why a table stays as it is."""


def plan_tables(directory: RunDirectory, *, maps: bool, more_than: int) -> tuple[list[TablePlan], dict[str, str]]:
    """The tables to compact, and why others are left out: title of a label, or table -> reason.

    Args:
        directory: the run.
        maps: whether attributions are compacted too.
        more_than: only labels with more units than this.

    Raises:
        RefusedError: a record of the run is damaged.
        OSError: the storage does not answer.
    """
    plans: list[TablePlan] = []
    skipped: dict[str, str] = {}
    if not directory.is_sealed:
        return plans, {directory.root: "not all of its shards are listed"}
    units = [unit.id for unit in directory.manifest.units()]
    if len(units) <= more_than:
        return plans, skipped
    compactions = Compactions(directory.storage)
    for label in (*directory.labels, *directory.evaluations):
        undone = sum(not directory.done(unit, label) for unit in units)
        if undone:
            skipped[label.title] = f"{undone} of {len(units)} units are not done"
            continue
        kinds = {table_folder(kind, label.model, label.method): kind for kind in label.tables}
        records = {
            table: compactions.of(table) or Compaction(table)
            for table, kind in kinds.items()
            if maps or kind != ATTRIBUTIONS
        }
        records = {table: record for table, record in records.items() if not _is_compact(record, units)}
        commits = committed(directory, label) if records else {}
        for table, record in records.items():
            try:
                plan = _plan(directory.storage, record, units, commits, is_maps=kinds[table] == ATTRIBUTIONS)
            except _NotNowError as reason:
                skipped[table] = str(reason)
                continue
            if plan is not None:
                plans.append(plan)
    return plans, skipped


def committed(directory: RunDirectory, label: Label) -> dict[str, CommitRecord]:
    """Unit -> its commit under a label, of those that count."""
    matching = (commit for commit in directory.commits(label).values() if counts(commit, label))
    return {commit.unit: commit for commit in sorted(matching, key=order)}


def _is_compact(compaction: Compaction, units: Sequence[str]) -> bool:
    """Whether a table is one part already; told from its record alone."""
    return len(compaction.parts) == 1 and len(compaction.units) == len(units)


def _plan(
    storage: Storage,
    compaction: Compaction,
    units: Sequence[str],
    commits: Mapping[str, CommitRecord],
    *,
    is_maps: bool,
) -> TablePlan | None:
    """The plan of a table of a finished label; None where there is nothing to gain.

    Raises:
        _NotNowError: why it cannot be compacted now.
    """
    if unknown := [unit for unit in units if unit not in commits]:
        raise _NotNowError(f"unit {unknown[0]} has no commit that counts")
    sources = [_source(compaction, unit, commits[unit]) for unit in units]
    loose = [source for source in sources if source.content is None]
    files = [entry.name for entry in storage.list(compaction.table)]
    expected = {source.name for source in loose} | {compaction.name(part) for part in compaction.parts}
    if strange := sorted(set(files) - expected):
        raise _NotNowError(f"{strange[0]} belongs to no unit or part; `ssig audit {storage.root}` says more")
    # Parts of maps stay: writing a terabyte again for one unit would gain nothing.
    is_anew = bool(compaction.parts) and not is_maps
    chosen = sources if is_anew else loose
    groups = list(_cut(chosen, MAPS_PART_BYTES if is_maps else METRICS_PART_BYTES))
    gains = len(groups) < len(compaction.parts) if not loose else bool(compaction.parts) or len(loose) > 1
    if not gains:
        return None
    parts = [PartPlan(compaction.next_part + number, group) for number, group in enumerate(groups)]
    return TablePlan(compaction.table, compaction, len(files), parts, is_anew)


def _source(compaction: Compaction, unit: str, commit: CommitRecord) -> Source:
    name = f"{compaction.table}/{unit}{TABLE_SUFFIX}"
    identity = commit.files.get(name)
    if identity is None:
        raise _NotNowError(f"the commit of unit {unit} names no {name}")
    sha256, size = str(identity["sha256"]), int(identity["bytes"])
    recorded = compaction.units.get(unit)
    if recorded is None:
        return Source(unit, name, commit.rows, size, sha256)
    if recorded.table != sha256:
        raise _NotNowError(f"its part holds other rows of unit {unit} than were committed")
    return Source(unit, name, commit.rows, size, sha256, recorded.content)


def _cut(sources: Sequence[Source], most: int) -> Iterator[list[Source]]:
    """Units that follow each other, of at most about `most` bytes together."""
    group: list[Source] = []
    size = 0
    for source in sources:
        if group and size + source.bytes > most:
            yield group
            group, size = [], 0
        group.append(source)
        size += source.bytes
    if group:
        yield group
