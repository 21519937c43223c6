"""Compaction killed at every step: no plain reader sees a row twice, `open_run` misses none, a later call ends it."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import duckdb
import fault_actions
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from disturbed import await_that, go_on, is_stopped, start
from disturbed import record as add_case
from s3 import S3

from pipeline.checks.audit import audit
from pipeline.driver.synthetic import SyntheticRun, write_synthetic_run
from pipeline.run.compaction import compact, settle_all
from pipeline.run.directory import RunDirectory
from pipeline.run.lease import Lease
from pipeline.run.reader import open_run
from pipeline.storage import local, open_storage

TABLES = ("metrics", "attributions")
# Steps of the compaction of one label with two tables: of the first table, and of the second.
STEPS = [
    "before-layout",
    "before-replace:about=run.json",
    "after-replace:about=run.json",
    "after-layout",
    "after-compaction-part",
    "after-compaction-part:skip=1",
    "before-compaction-record",
    "after-link:about=compactions",
    "after-compaction-record",
    "before-exchange",
    "after-exchange",
    "after-switch",
    "before-compaction-record:skip=1",
    "after-compaction-record:skip=1",
    "before-exchange:skip=1",
    "after-exchange:skip=1",
    "after-switch:skip=1",
]
QUICK = ("after-compaction-part", "after-compaction-record", "before-exchange", "after-exchange", "after-switch")
OBJECT_STEPS = [
    *("after-layout", "after-compaction-part", "before-compaction-record", "after-compaction-record"),
    *("after-unit-files", "after-switch", "after-unit-files:skip=1"),
]
# Where the system cannot swap two folders.
BY_RENAMING = ["before-exchange", "half-exchanged", "half-exchanged:skip=1", "after-exchange"]


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of ten units under one label."""
    plan = SyntheticRun(images=20, methods=["ig"], metrics=["insertion"], maps="float16", side=4, unit_size=2)
    return Path(write_synthetic_run(tmp_path_factory.mktemp("synthetic"), plan).root)


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "run"))


def compact_run(run: Path | str) -> None:
    directory = RunDirectory(open_storage(str(run)))
    with Lease(directory.storage) as lease:
        assert not compact(directory, lease).failed


def compact_by_renaming(run: Path | str) -> None:
    local.exchanged = lambda one, other: False
    compact_run(run)


def settle_run(run: Path | str) -> None:
    """What every driver does when it begins."""
    directory = RunDirectory(open_storage(str(run)))
    with Lease(directory.storage) as lease:
        settle_all(directory, lease)


def killed(
    work: Callable[[Path | str], None],
    run: Path | str,
    step: str,
    folder: Path,
    environment: Mapping[str, str] | None = None,
) -> None:
    """Does work in a process that is killed at a step."""
    point, _, rest = step.partition(":")
    fault = ":".join(filter(None, [point, "kill", rest]))
    process = start(_process, work, run, fault, folder, environment or {})
    process.join(120)
    assert process.exitcode == -9, f"not killed at {step}"


def _process(
    work: Callable[[Path | str], None], run: Path | str, fault: str, folder: Path, environment: Mapping[str, str]
) -> None:
    os.environ.update({**environment, fault_actions.VARIABLE: fault, fault_actions.FOLDER: str(folder)})
    fault_actions.install()
    work(run)
    sys.exit(0)


def plain(run: Path, table: str) -> Counter[tuple[Any, ...]]:
    """How often the plain call sees each sample."""
    if not any(run.glob(f"{table}/**/*.parquet")):
        return Counter()
    return Counter(duckdb.sql(f"select method, shard, index, key from '{run}/{table}/**/*.parquet'").fetchall())


def opened(run: Path | str) -> tuple[pa.Table, list[tuple[str, str, bytes]]]:
    """All that `open_run` gives of a run of one label: its metrics, and its maps."""
    run_ = open_run(run)
    (label,) = run_.config
    return run_.metrics(), [(shard, key, values.tobytes()) for shard, key, values in run_.maps(*label)]


def check_instant(run: Path, finished: Path, *, may_lack: bool) -> None:
    """What must be true at every instant of a compaction."""
    for table in TABLES:
        expected, found = plain(finished, table), plain(run, table)
        assert not found - expected, "a row twice, or one too many"
        assert may_lack or found == expected, "a row is missing"
    assert opened(run) == opened(finished)


def check_end(run: Path, finished: Path, step: str) -> None:
    for table in TABLES:
        expected, found = plain(finished, table), plain(run, table)
        lost, twice = (expected - found).total(), (found - expected).total()
        add_case(fault="SIGKILL of a compaction", step=step, injected=1, lost=lost, duplicated=twice, redone=0)
        assert (lost, twice) == (0, 0)
        assert [path.name for path in run.glob(f"{table}/*/*/*")] in (["part-000000.parquet"], ["part-000001.parquet"])
    assert opened(run) == opened(finished)
    assert not list(run.glob("compactions/staged")) + list(run.glob("compactions/exchanged"))
    assert audit(str(run)).problems == []


@pytest.mark.parametrize("step", [pytest.param(s, marks=[] if s in QUICK else [pytest.mark.slow]) for s in STEPS])
def test_a_compaction_killed_at_any_step(run: Path, finished: Path, tmp_path: Path, step: str) -> None:
    killed(compact_run, run, step, tmp_path / "faults")
    check_instant(run, finished, may_lack=False)
    settle_run(run)
    check_instant(run, finished, may_lack=False)
    compact_run(run)
    check_end(run, finished, step)


@pytest.mark.parametrize(
    "step", [pytest.param(s, marks=[] if s == "half-exchanged" else [pytest.mark.slow]) for s in BY_RENAMING]
)
def test_a_compaction_killed_where_folders_cannot_be_swapped(
    run: Path, finished: Path, tmp_path: Path, step: str
) -> None:
    """Rows may be missing for plain readers while a folder is renamed away."""
    killed(compact_by_renaming, run, step, tmp_path / "faults")
    check_instant(run, finished, may_lack=step.startswith("half"))
    settle_run(run)
    check_instant(run, finished, may_lack=False)
    compact_run(run)
    check_end(run, finished, f"{step}, by renaming")


def test_killed_again_and_again(run: Path, finished: Path, tmp_path: Path) -> None:
    for number, step in enumerate(
        ("after-compaction-part", "before-exchange", "after-exchange", "after-compaction-part", "after-switch")
    ):
        killed(compact_run, run, step, tmp_path / f"faults-{number}")
        check_instant(run, finished, may_lack=False)
    compact_run(run)
    check_end(run, finished, "five steps")


def test_a_compaction_that_stood_still_changes_nothing(
    run: Path, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its host was suspended right before it switched a table; another driver has done all when it goes on."""
    zombie = start(_process, compact_run, run, "before-exchange:stop:seconds=0", tmp_path / "faults", {})
    await_that(lambda: is_stopped(zombie.pid))
    (lease,) = run.glob(".lease/*.json")
    lease.write_text(json.dumps({"host": "another", "boot": "one", "pid": 1, "beat": 0}))
    monkeypatch.setattr("pipeline.run.lease.WATCH_SECONDS", 0.1)
    compact_run(run)
    go_on(zombie.pid)
    zombie.join(60)
    assert zombie.exitcode == 1
    check_end(run, finished, "a zombie, before-exchange")


@pytest.fixture(scope="module")
def s3() -> Iterator[S3]:
    server = S3()
    yield server
    server.close()


def keys_in(url: str, table: str) -> Counter[str]:
    """How often each key lies in a table in an object store."""
    storage = open_storage(url)
    keys: Counter[str] = Counter()
    for entry in storage.list(table):
        with storage.open(entry.name) as stream:
            keys.update(pq.read_table(stream, columns=["key"])["key"].to_pylist())
    return keys


@pytest.mark.slow
@pytest.mark.parametrize("step", OBJECT_STEPS)
def test_a_compaction_killed_in_an_object_store(
    finished: Path, s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    for name, value in s3.environment().items():
        monkeypatch.setenv(name, value)
    url = f"{s3.bucket()}/run"
    storage = open_storage(url)
    for path in finished.rglob("*"):
        if path.is_file():
            storage.put(str(path.relative_to(finished)), path.read_bytes())
    expected = {table: keys_in(url, table) for table in TABLES}
    killed(compact_run, url, step, tmp_path / "faults", s3.environment())
    assert all(not keys_in(url, table) - expected[table] for table in TABLES)
    assert opened(url) == opened(finished)
    compact_run(url)
    assert {table: keys_in(url, table) for table in TABLES} == expected
    assert opened(url) == opened(finished)
    assert audit(url).problems == []
    add_case(fault="SIGKILL of a compaction in an object store", step=step, injected=1, lost=0, duplicated=0, redone=0)


READERS: dict[str, Callable[[str], Counter[tuple[Any, ...]]]] = {
    "duckdb": lambda path: Counter(duckdb.sql(f"select shard, key, score from '{path}/**/*.parquet'").fetchall()),
    "pandas": lambda path: Counter(
        pd.read_parquet(path)[["shard", "key", "score"]].itertuples(index=False, name=None)
    ),
    "polars": lambda path: Counter(pl.scan_parquet(path).select("shard", "key", "score").collect().rows()),
    "pyarrow": lambda path: Counter(
        tuple(row.values()) for row in pq.read_table(path, columns=["shard", "key", "score"]).to_pylist()
    ),
}


@pytest.mark.slow
def test_a_run_of_two_thousand_units(tmp_path: Path) -> None:
    """Compacted, killed at each kind of step, audited, resumed and queried: the same rows before and after."""
    plan = SyntheticRun(images=4000, methods=["ig"], metrics=["insertion"], maps="float16", side=4, unit_size=2)
    directory = write_synthetic_run(tmp_path / "synthetic", plan)
    run = Path(directory.root)
    assert directory.manifest.unit_count == 2000
    before = {(name, table): read(f"{run}/{table}") for name, read in READERS.items() for table in TABLES}
    content = opened(run)
    for number, step in enumerate(QUICK):
        killed(compact_run, run, step, tmp_path / f"faults-{number}")
        for table in TABLES:
            assert READERS["duckdb"](f"{run}/{table}") == before["duckdb", table]
        assert opened(run) == content
    compact_run(run)
    after = {(name, table): read(f"{run}/{table}") for name, read in READERS.items() for table in TABLES}
    assert after == before
    assert opened(run) == content
    assert {len(list(run.glob(f"{table}/*/*/*"))) for table in TABLES} == {1}
    assert audit(str(run)).problems == []
    directory.refresh()
    assert directory.remaining(directory.labels) == []
