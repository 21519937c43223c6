"""`ssig compact`: the many small tables of a run become few large ones."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from jobs.commands.attribute import Run
from jobs.commands.printing import print_json
from ssig.errors import DONE, UNFINISHED

if TYPE_CHECKING:
    from pipeline.run.compaction import CompactionResult

_MEBIBYTE = 1 << 20


def compact(
    run: Run,
    maps: Annotated[bool, typer.Option(help="Compact the maps too, not only the numbers.")] = True,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and write nothing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> int:
    """Merge the many small tables of a run into few large ones.

    It reads and checks every table of a finished method, so it takes a while. Stopped at any time, the same command
    goes on. The exit code is 1 if a table could not be compacted.
    """
    from pipeline.run.presence import require_run

    require_run(run)
    from pipeline.run.compaction import compact as compact_tables
    from pipeline.run.compaction import planned
    from pipeline.run.directory import RunDirectory
    from pipeline.run.lease import Lease
    from pipeline.storage import open_storage

    directory = RunDirectory(open_storage(run))
    directory.refuse_earlier()
    if dry_run:
        result = planned(directory, maps=maps)
    else:
        with Lease(directory.storage) as lease:
            result = compact_tables(directory, lease, maps=maps)
    if as_json:
        print_json({**asdict(result), "dry_run": dry_run})
    else:
        print(*_lines(result, dry_run), sep="\n")
    return UNFINISHED if result.failed else DONE


def _lines(result: CompactionResult, dry_run: bool) -> list[str]:
    """What a person reads: a line or two, and one for each table that stays as it is."""
    lines = [f"finished what had been cut off: {table}" for table in result.settled]
    if result.tables:
        files, parts = (sum(getattr(table, name) for table in result.tables) for name in ("files", "parts"))
        rows = sum(table.rows for table in result.tables)
        size = sum(table.bytes for table in result.tables) / _MEBIBYTE
        done = "would become" if dry_run else "became"
        lines.append(
            f"{files} files of {len(result.tables)} tables {done} {parts}: {rows} rows, {size:.0f} MiB"
            + (" before compaction" if dry_run else "")
        )
    elif not result.failed and not result.settled:
        lines.append("nothing to compact")
    lines += [f"left as it is: {name}: {reason}" for name, reason in result.skipped.items()]
    lines += [f"not compacted: {name}: {reason}" for name, reason in result.failed.items()]
    return lines
