"""`ssig index`: what is in shards, written beside them."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from jobs.commands.wrong_use import named_as_typed
from ssig.errors import DONE

_NAMED = 5  # faults


def index(
    shards: Annotated[
        list[str],
        typer.Argument(metavar="SHARDS...", help="Shards: paths or URLs, with braces or wildcards."),
    ],
    hashed: Annotated[
        bool,
        typer.Option("--hash", help="Read shards whole, for their SHA-256: then a copy is known for the same."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the outcome as JSON.")] = False,
) -> int:
    """Write an index beside each shard, so that runs start sooner.

    A run then lists the samples of a shard by one request, without reading the shard."""
    from pipeline.shards.patterns import expand

    with named_as_typed({"dataset.shards": "SHARDS", "shards": "SHARDS"}):
        found = expand(shards, Path.cwd())
        from pipeline.shards.indexing import index_shards

        done = index_shards(found, hashed=hashed)
    if as_json:
        from jobs.commands.printing import print_json

        print_json(asdict(done))
        return DONE
    print(f"{done.written} indexes written, {done.current} up to date: {done.samples:,} samples")
    for fault in done.faults[:_NAMED]:
        print(fault, file=sys.stderr)
    if len(done.faults) > _NAMED:
        print(f"and {len(done.faults) - _NAMED} more faults", file=sys.stderr)
    return DONE
