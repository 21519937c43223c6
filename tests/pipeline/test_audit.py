"""The audit proves a sound run and names every tampering."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from pipeline.audit import audit
from pipeline.plan import RefusedError
from ssig.errors import UsageError

Make = Callable[..., Any]


@pytest.fixture
def run(make_shard: Make, make_job: Make, work_off: Make) -> Path:
    folder: Path = work_off(make_job(make_shard(count=6), metrics=["roc_auc"]))
    assert audit(str(folder)).ok
    return folder


def one(run: Path, pattern: str) -> Path:
    return sorted(run.glob(pattern))[0]


def delete_a_row(run: Path) -> None:
    path = one(run, "metrics/*/*/*.parquet")
    table = pq.read_table(path)
    pq.write_table(table.slice(1), path)


def delete_a_row_and_mend_the_commit(run: Path) -> None:
    path = one(run, "metrics/*/*/*.parquet")
    pq.write_table(pq.read_table(path).slice(1), path)
    from pipeline.writer import identity_of

    commit = one(run, "commits/*/*/*.json")
    record = json.loads(commit.read_text())
    record["files"][str(path.relative_to(run))] = identity_of(path.read_bytes())
    commit.write_text(json.dumps(record))


def flip_a_byte(run: Path) -> None:
    path = one(run, "attributions/*/*/*.parquet")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def copy_to_a_second_unit(run: Path) -> None:
    first, second = sorted(run.glob("metrics/*/method=ig/*.parquet"))
    shutil.copy(first, second)


def copy_to_a_new_unit(run: Path) -> None:
    path = one(run, "metrics/*/*/*.parquet")
    shutil.copy(path, path.with_name("000000-000006-000010.parquet"))


def remove_a_commit(run: Path) -> None:
    one(run, "commits/*/*/*.json").unlink()


def remove_a_file(run: Path) -> None:
    one(run, "attributions/*/*/*.parquet").unlink()


def add_an_orphan(run: Path) -> None:
    (run / "attributions" / "orphan.parquet").write_bytes(b"x")


def add_a_stranger(run: Path) -> None:
    (run / "notes.txt").write_text("x")


def edit_a_commit(run: Path) -> None:
    commit = one(run, "commits/*/*/*.json")
    record = json.loads(commit.read_text())
    record["statuses"] = {"ok": 5}
    commit.write_text(json.dumps(record))


def tear_a_commit(run: Path) -> None:
    commit = one(run, "commits/*/*/*.json")
    commit.write_text(commit.read_text()[:40])


def edit_a_config(run: Path) -> None:
    config = one(run, "config/*.json")
    record = json.loads(config.read_text())
    record["seed"] = 5
    config.write_text(json.dumps(record))


def remove_a_config(run: Path) -> None:
    one(run, "config/*.json").unlink()


def shrink_the_manifest(run: Path) -> None:
    path = run / "manifest.parquet"
    table = pq.read_table(path)
    pq.write_table(table.slice(0, 5).replace_schema_metadata(table.schema.metadata), path)


@pytest.mark.parametrize(
    ("tamper", "problem"),
    [
        (delete_a_row, "bytes are not the committed"),
        (delete_a_row_and_mend_the_commit, "1 samples of the manifest have no row"),
        (flip_a_byte, "bytes are not the committed"),
        (copy_to_a_second_unit, "bytes are not the committed"),
        (copy_to_a_new_unit, "orphan"),
        (remove_a_commit, "have no commit"),
        (remove_a_file, "missing, though its unit is committed"),
        (add_an_orphan, "attributions/orphan.parquet: an orphan"),
        (add_a_stranger, "notes.txt"),
        (edit_a_commit, "counts {'ok': 5}"),
        (tear_a_commit, "not JSON"),
        (edit_a_config, "does not have its fingerprint"),
        (remove_a_config, "orphan"),
        (shrink_the_manifest, "its content is not the one"),
    ],
)
def test_tampering_is_found(run: Path, tamper: Callable[[Path], None], problem: str) -> None:
    tamper(run)
    result = audit(str(run))
    assert not result.ok
    assert any(problem in line for line in result.problems), result.problems


def test_what_is_no_run_is_said(tmp_path: Path, run: Path) -> None:
    with pytest.raises(UsageError, match=r"run\.json"):
        audit(str(tmp_path / "nothing"))
    (run / "manifest.parquet").unlink()
    with pytest.raises(RefusedError, match="manifest"):
        audit(str(run))
    record = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**record, "schema_version": 99}))
    with pytest.raises(RefusedError, match="99"):
        audit(str(run))
