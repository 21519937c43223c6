"""Measures the blocks of the study that are not measured yet, in their order, one after the other.

Each block is a run of `ssig attribute --in-process` in a process of its own, which is resumed where it was stopped.
Only a block whose run is done becomes a file. A method that the network cannot run is recorded with the reason.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jobs.commands.choices import choice
from jobs.study import block_file, collect, laws, permuted
from jobs.study.design import LAWS, PERMUTED, SEED, UNIT, Block, Design
from jobs.study.entries import known, metric_of
from pipeline.driver.jemalloc import preloaded
from pipeline.run.reader import open_run
from pipeline.run.revisions import machine, versions
from pipeline.shards.changes import TRUST
from pipeline.storage.jsontext import to_json
from ssig.errors import DONE, FAILED_SAMPLES, USAGE, SsigError, UsageError

_PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG
Say = Callable[[str], None]


class BlockError(SsigError):
    """A block could not be measured; the next one can."""


class NoneLeftError(BlockError):
    """The network can run none of the methods that a block lacks.

    Attributes:
        refused: label -> its entry and the reason.
    """

    def __init__(self, refused: dict[str, dict[str, str]]) -> None:
        super().__init__(f"the network can run none of {', '.join(refused)}")
        self.refused = refused


@dataclass(frozen=True)
class Places:
    """Where the study reads and writes.

    Attributes:
        data: the blocks' files.
        runs: run directories, outside what is published.
        shards: all shards, in order.
        weights: the folder of `packed.py`; None where no network needs it.
        trusted: whether shards of equal size are taken for those of a run that was stopped, as for shards that were
            copied.
    """

    data: Path
    runs: Path
    shards: tuple[str, ...]
    weights: Path | None = None
    trusted: bool = False

    def file(self, block: Block) -> Path:
        return self.data / block.network / f"{block.name}.parquet"


def missing(block: Block, design: Design, places: Places) -> dict[str, str]:
    """Label -> entry of the methods that a block lacks, in their order; of the block of laws, one entry."""
    wanted = {LAWS: LAWS} if block.metrics == LAWS else known(design.methods[block.methods])
    path = places.file(block)
    if not path.exists():
        return wanted
    record = block_file.record_of(path)
    if block in design.looks and record["images"] > block.images:
        return {}  # a first look never takes the place of more images, whatever they were measured by
    if record["definition"] != definition(block, design):
        return wanted
    done = {label: method["entry"] for label, method in record["methods"].items()}
    done |= {label: refusal["entry"] for label, refusal in record["refused"].items()}
    return {label: entry for label, entry in wanted.items() if done.get(label) != entry}


def definition(block: Block, design: Design) -> str:
    """What the numbers of a block depend on besides its methods, as a short digest."""
    network = design.networks[block.network]
    columns = laws.COLUMNS if block.metrics == LAWS else design.metrics[block.metrics]
    parts = [network.model, columns, block.shards, block.limit, SEED]
    return hashlib.sha256(to_json(parts, compact=True).encode()).hexdigest()[:12]


def run_blocks(design: Design, places: Places, say: Say = print) -> int:
    """Measures what is missing; the number of blocks that could not be measured."""
    failed = 0
    for block in (*design.looks, *design.blocks):
        wanted = missing(block, design, places)
        if not wanted:
            continue
        say(f"{block.network} {block.name}: {len(wanted)} methods on {block.images} images")
        start = time.monotonic()
        try:
            run_block(block, wanted, design, places)
        except (BlockError, UsageError) as error:
            failed += 1
            say(f"{block.network} {block.name}: not measured: {error}")
        else:
            say(f"{block.network} {block.name}: {places.file(block)}, {(time.monotonic() - start) / 60:.1f} minutes")
    return failed


def run_block(block: Block, wanted: dict[str, str], design: Design, places: Places) -> None:
    """Measures some methods of a block and puts them into its file.

    Raises:
        BlockError, UsageError: they could not be measured; what is done of the run stays.
    """
    shards = places.shards[slice(*block.shards)]
    if len(shards) < block.shards[1] - block.shards[0]:
        raise UsageError("shards", len(places.shards), f"at least {block.shards[1]} shards")
    digest = definition(block, design)
    folder = places.runs / block.network / f"{block.name}-{digest}"
    path = places.file(block)
    old = block_file.read(path) if path.exists() else None
    if old is not None and old[1]["definition"] != digest:
        old = None
    model = design.networks[block.network].model
    if block.metrics == LAWS:
        kept, record = laws.measure(model, shards, folder, places.weights, block.limit)
    elif block.metrics == PERMUTED:
        metrics = design.metrics[PERMUTED]
        kept, record = permuted.measure(model, wanted, metrics, shards, folder, places.weights, block.limit)
    else:
        try:
            kept, record = _attributed(block, wanted, design, places, folder)
        except NoneLeftError as none:
            if old is None:
                raise
            block_file.write(path, *block_file.merged(old, block_file.refusing(old, none.refused)))
            return
    record |= {"network": block.network, "block": block.name, "definition": digest, "metrics": block.metrics}
    record["measured"] = [{**_provenance(), **record.pop("spent"), "methods": list(wanted)}]
    block_file.write(path, *block_file.merged(old, (kept, record)))


def _attributed(
    block: Block, wanted: dict[str, str], design: Design, places: Places, folder: Path
) -> tuple[Any, block_file.Record]:
    """The table and record of methods that `ssig attribute` measures."""
    refused: dict[str, dict[str, str]] = {}
    left = dict(wanted)
    while left:
        job = job_of(block, left, design, places, folder)
        file = folder.with_suffix(".job.yaml")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(to_json(job, indent=1), encoding="utf-8")
        code, said = attribute(file, places)
        if code in (DONE, FAILED_SAMPLES):
            break
        label = _refused(said, left) if code == USAGE else None
        if label is None:
            raise BlockError(f"ssig attribute {file} ended with {code}: {said.strip().splitlines()[-1:]}")
        refused[label] = {"entry": left.pop(label), "reason": said.strip().splitlines()[-1]}
    if not left:
        raise NoneLeftError(refused)
    run = open_run(folder)
    return collect.scalars(run, list(left)), {
        "methods": collect.methods(run, block.network, left),
        "refused": refused,
        "curves": collect.curves(run, block.network, left),
        "whole": collect.whole(run, block.network, left),
        "model": collect.network(run, block.network, next(iter(left))),
        "metric_options": run.config[block.network, next(iter(left))]["metrics"],
        "images": run.manifest.num_rows,
        "spent": {"command": f"ssig attribute {file.name}", "seconds": round(collect.seconds(run, left), 1)},
    }


def job_of(block: Block, wanted: dict[str, str], design: Design, places: Places, folder: Path) -> dict[str, Any]:
    """The job file of some methods of a block."""
    network = design.networks[block.network]
    channels = any("values" in metric_of(text).spec.needs for text in design.metrics[block.metrics])
    return {
        "dataset": {"shards": list(places.shards[slice(*block.shards)]), "limit": block.limit},
        "model": {**network.model, "label": block.network},
        "methods": [choice("--method", entry) for entry in wanted.values()],
        "metrics": [choice("--metric", entry) for entry in design.metrics[block.metrics]],
        "output": {"path": str(folder.resolve()), "maps": "none", "channels": channels},
        "actors": {"executor": "local"},
        "unit_size": UNIT,
        "seed": SEED,
    }


def attribute(file: Path, places: Places) -> tuple[int, str]:
    """Runs or resumes a job in a process of its own; its exit code, and what it wrote to standard error."""
    paths = [str(places.weights)] if places.weights else []
    environment = {**os.environ, **preloaded(), "PYTHONPATH": os.pathsep.join([*paths, *sys.path])}
    command = [sys.executable, "-m", "ssig", "attribute", str(file), "--in-process", "--quiet"]
    if places.trusted:
        command.append(TRUST)
    done = subprocess.run(
        command, env=environment, stderr=subprocess.PIPE, text=True, check=False, preexec_fn=_end_with_parent
    )
    return done.returncode, done.stderr


def _end_with_parent() -> None:
    """Lets Linux end this process when the runner is killed: else it would hold the run while another is started."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PARENT_DEATH_SIGNAL, signal.SIGTERM)


def _refused(said: str, labels: dict[str, str]) -> str | None:
    """The method that an error message names."""
    named = [label for label in labels if f"methods.{label}:" in said or f"methods.{label}." in said]
    return max(named, key=len, default=None)


def _provenance() -> dict[str, Any]:
    git = ["git", "rev-parse", "--short=12", "HEAD"]
    done = subprocess.run(git, capture_output=True, text=True, check=False, cwd=Path(__file__).parent)
    return {
        "commit": done.stdout.strip() or None,
        "machine": dict(machine()),
        "versions": versions(),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }
