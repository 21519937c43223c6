"""The steps of a large run that are measured, each in a process of its own."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jobs.bench.scale.delayed import BUCKET, LISTED, RUN, SHARDS, UNIT_SIZE, Requests, opener
from pipeline.storage import open_storage, opened_by
from pipeline.unit.memory import memory

_URL = f"{BUCKET}/{RUN}"


def measured(step: str, folder: Path, delay: float) -> dict[str, Any]:
    """Does a step on the data in `folder`, each request delayed by `delay` seconds, and counts what it takes.

    Returns:
        `step`, `seconds` (wall), `processor_seconds` (of all threads), `peak_bytes` (of the process; None without
        ``/proc``), what `Requests` counted, and what the step says of itself.
    """
    prepare = _STEPS[step](folder)  # imports, which take seconds, are not the step's
    requests = Requests(delay)
    with opened_by(opener(folder, requests)):
        started, computed = time.perf_counter(), time.process_time()
        about = prepare()
        seconds, computed = time.perf_counter() - started, time.process_time() - computed
    usage = memory()
    return {
        "step": step,
        "seconds": seconds,
        "processor_seconds": computed,
        "peak_bytes": usage.peak if usage else None,
        **requests.record,
        **about,
    }


def _manifest(folder: Path) -> Callable[[], dict[str, Any]]:
    """A run is begun: its first unit is known when `run.json` is written, then all shards are listed and sealed."""
    from pipeline.driver.admission import record_run
    from pipeline.driver.listing import list_all
    from pipeline.job.configuration import load_job
    from pipeline.run.directory import RunDirectory

    urls = [f"{BUCKET}/{SHARDS}/{path.name}" for path in sorted((folder / SHARDS).iterdir())]
    output = f"{BUCKET}/{LISTED}"
    job = load_job(None, {"dataset.shards": urls, "output.path": output, "methods": ["ig"], "unit_size": UNIT_SIZE})

    def begin() -> dict[str, Any]:
        started = time.perf_counter()
        directory = RunDirectory(open_storage(output))
        record_run(job, directory, urls)
        first = time.perf_counter() - started
        return {"images": len(list_all(directory)), "first_unit_seconds": first}

    return begin


def _resume(folder: Path) -> Callable[[], dict[str, Any]]:
    """What a driver does before it dispatches the first unit: run and shards compared, labels, units that are left."""
    from pipeline.driver.admission import check_shards
    from pipeline.driver.remaining import units_to_do
    from pipeline.run.directory import RunDirectory

    def resume() -> dict[str, Any]:
        directory = RunDirectory(open_storage(_URL))
        check_shards(directory)
        return {"units_left": len(units_to_do(directory, directory.labels))}

    return resume


def _commits(folder: Path) -> Callable[[], dict[str, Any]]:
    """How many commit records the run has, from a listing."""

    def count() -> dict[str, Any]:
        return {"commits": sum(1 for _ in open_storage(_URL).list("commits"))}

    return count


def _report(folder: Path) -> Callable[[], dict[str, Any]]:
    from pipeline.report.build import build_report

    def report() -> dict[str, Any]:
        build_report(_URL)
        return {"page_bytes": (folder / RUN / "report" / "index.html").stat().st_size}

    return report


def _audit(folder: Path) -> Callable[[], dict[str, Any]]:
    from pipeline.checks.audit import audit

    def check() -> dict[str, Any]:
        return {"findings": len(audit(_URL).findings)}

    return check


def _duckdb(folder: Path) -> Callable[[], dict[str, Any]]:
    """The README's plain call."""
    import duckdb

    from jobs.bench.scale.duckdb_files import SCHEME, Files
    from pipeline.run.layout import METRICS

    def query() -> dict[str, Any]:
        with duckdb.connect() as connection:
            connection.execute("set enable_progress_bar = false")
            connection.register_filesystem(Files(open_storage(_URL)))
            glob = f"{SCHEME}://{METRICS}/**/*.parquet"
            sql = f"select method, count(*), avg(insertion) from '{glob}' group by method"
            rows = connection.execute(sql).fetchall()
        files = sum(1 for _ in (folder / RUN / METRICS).rglob("*.parquet"))
        return {"files": files, "rows": sum(count for _, count, _ in rows)}

    return query


def _compact(folder: Path) -> Callable[[], dict[str, Any]]:
    from jobs.bench.scale.data import finish_run
    from pipeline.run import compaction
    from pipeline.run.directory import RunDirectory
    from pipeline.run.lease import Lease

    finish_run(folder)

    def compact() -> dict[str, Any]:
        directory = RunDirectory(open_storage(_URL))
        with Lease(directory.storage) as lease:
            result = compaction.compact(directory, lease)
        return {"tables": len(result.tables)}

    return compact


COMPACT, AFTER = "compact", " after"  # a step, and the ending of those that are done after it
# In the order in which they are measured.
_STEPS: dict[str, Callable[[Path], Callable[[], dict[str, Any]]]] = {
    "manifest": _manifest,
    "resume": _resume,
    "commits": _commits,
    "report": _report,
    "audit": _audit,
    "duckdb": _duckdb,
    COMPACT: _compact,
    f"report{AFTER}": _report,
    f"duckdb{AFTER}": _duckdb,
}
STEPS = tuple(_STEPS)
