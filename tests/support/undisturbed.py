"""Runs that nothing happened to, which disturbed ones are compared with: made once, and shared by later commands."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path
from typing import Any

from disturbed import small_job, start, work_off

from pipeline.shards.surveying import look_up
from pipeline.storage.jsontext import to_json

ROOT = Path(__file__).resolve().parents[2]
CODE = ("ssig", "pipeline", "tests/support")


def undisturbed(job_settings: dict[str, Any]) -> Path:
    """The undisturbed run of a job, finished.

    Args:
        job_settings: as `small_job` takes them, with `dataset__shards`.

    Raises:
        SystemExit: it failed.
    """
    run = Path(tempfile.gettempdir()) / f"ssig-undisturbed-{os.getuid()}" / _name(job_settings)
    process = start(work_off, small_job(Path(), run, **job_settings))
    process.join()
    if process.exitcode != 0:
        raise SystemExit("the undisturbed run failed")
    return run


def _name(job_settings: dict[str, Any]) -> str:
    """Another one for other settings, shards, code or pinned packages: the run outlives what it was made from.

    Shards that were copied anew have other versions under the same names, and a run of the old ones is refused.
    """
    shards = [(shard.url, shard.size, shard.version) for shard in look_up(job_settings["dataset__shards"])]
    digest = hashlib.sha256(to_json([job_settings, shards]).encode())
    code = (path for folder in CODE for path in (ROOT / folder).rglob("*.py"))
    for path in [*sorted(code), ROOT / "constraints.txt"]:
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]
