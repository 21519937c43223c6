"""The audit proves a sound run and names every tampering."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.checks.audit import audit
from pipeline.run.canonical import checksum
from pipeline.run.records import RefusedError
from ssig.errors import UsageError

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "support"))

import tampering as t

Make = Callable[..., Any]


_sound: list[Path] = []


@pytest.fixture
def run(make_shard: Make, make_job: Make, work_off: Make, tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A copy of a sound run that is made once; with the parameter `earlier`, as earlier versions write it."""
    if not _sound:
        job = make_job(make_shard(count=6), metrics=["roc_auc"], output__path=str(tmp_path / "whole"))
        _sound.append(work_off(job))
        assert audit(str(_sound[0])).ok
    shutil.copytree(_sound[0], tmp_path / "run")
    if getattr(request, "param", "now") == "earlier":
        t.in_earlier_form(tmp_path / "run")
        assert audit(str(tmp_path / "run")).ok
    return tmp_path / "run"


BOTH_FORMS = pytest.mark.parametrize("run", ["now", "earlier"], indirect=True)


@BOTH_FORMS
@pytest.mark.parametrize(
    ("tamper", "problem"),
    [
        (t.delete_a_row, "bytes are not the committed"),
        (t.delete_a_row_and_mend_the_commit, "1 samples of the manifest have no row"),
        (t.flip_a_byte, "bytes are not the committed"),
        (t.copy_to_a_second_unit, "bytes are not the committed"),
        (t.copy_to_a_new_unit, "unreferenced file"),
        (t.remove_a_commit, "have no commit"),
        (t.remove_a_file, "missing, though its unit is committed"),
        (t.add_an_orphan, "attributions/orphan.parquet: unexpected file"),
        (t.add_a_stranger, "notes.txt"),
        (t.edit_a_commit, "counts {'ok': 5}"),
        (t.tear_a_commit, "not JSON"),
        (t.edit_a_config, "does not have its fingerprint"),
        (t.remove_a_config, "whose configuration is gone"),
        (
            t.copy_with_its_commit,
            "/000000-000006-000010.json: unreferenced file",
        ),
        (t.add_an_orphan_of_no_label, "method=gone/000000-000000-000004.parquet: unreferenced file"),
        (t.empty_a_commit, "not an ssig commit record"),
        (t.cut_a_file, "bytes are not the committed"),
        (t.edit_the_seed, "its seed is 0"),
        (t.empty_the_run_record, "no data set"),
        (t.shrink_the_manifest, "its bytes are not those that manifest.json names"),
        (t.edit_the_unit_size, "run.json: its content does not have its checksum"),
        (t.edit_the_seconds, "its content does not have its checksum"),
        (t.edit_what_is_said_of_shards, "manifest.parquet: its bytes are not those that manifest.json names"),
    ],
)
def test_tampering_is_found(run: Path, tamper: Callable[[Path], None], problem: str) -> None:
    tamper(run)
    result = audit(str(run))
    assert not result.ok
    assert any(problem in line for line in result.problems), result.problems


def test_labels_of_one_run_have_one_schema_and_the_same_columns(run: Path) -> None:
    path = sorted((run / "config").glob("*.json"))[0]
    whole = json.loads(path.read_text())
    for field, value, problem in (
        ("columns", [], "its tables have other columns"),
        ("schema_version", 1, "its schema_version is 1"),
    ):
        path.write_text(json.dumps({**whole, field: value}))
        assert any(problem in line for line in audit(str(run)).problems)
    path.write_text(json.dumps(whole))
    assert audit(str(run)).ok


def rewrite(path: Path, **fields: Any) -> None:
    """Changes fields of a record, with a checksum that fits."""
    record = {**json.loads(path.read_text()), **fields}
    path.write_text(json.dumps({**record, "checksum": checksum(record)}))


def test_a_label_of_other_data_is_found(run: Path) -> None:
    assert audit(str(run)).problems == []
    dataset = json.loads((run / "run.json").read_text())["dataset"]
    rewrite(run / "run.json", dataset={**dataset, "identity": "another"})
    assert any("another manifest" in line for line in audit(str(run)).problems)


def test_a_seal_that_was_edited_is_found(run: Path) -> None:
    seal = json.loads((run / "manifest.json").read_text())
    (run / "manifest.json").write_text(json.dumps({**seal, "note": "edited"}))
    assert "manifest.json: its content does not have its checksum" in audit(str(run)).problems
    rewrite(run / "manifest.json", dataset={**seal["dataset"], "samples": 99})
    assert any("manifest.json: 99 samples, the manifest has" in line for line in audit(str(run)).problems)
    rewrite(run / "manifest.json", dataset=seal["dataset"])
    dataset = json.loads((run / "run.json").read_text())["dataset"]
    shards = [{**shard, "size": 1} for shard in dataset["shards"]]
    rewrite(run / "run.json", dataset={**dataset, "shards": shards})
    assert "manifest.parquet: its shards are not those that run.json names" in audit(str(run)).problems


MEASURE = """
import resource, sys
from pipeline.checks.audit import audit
audit(sys.argv[1])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
problems = audit(sys.argv[2]).problems
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, len(problems))
"""


def test_a_table_larger_than_the_memory_is_checked_all_the_same(run: Path, tmp_path: Path) -> None:
    large = tmp_path / "large"
    shutil.copytree(run, large)
    for path in sorted(large.glob("attributions/*/*/*.parquet")):
        rows = pq.read_table(path, partitioning=None)
        ballast = pa.array([os.urandom(2**25) for _ in range(len(rows))])  # 32 MiB a row, that no codec makes less
        pq.write_table(rows.append_column("ballast", ballast), path)
        t.mend_the_commit(large, path)
    command = [sys.executable, "-c", MEASURE, str(run), str(large)]
    grown, problems = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    assert int(problems) == 4  # a column too many in each, and hashes that hold
    assert int(grown) < 100 * 2**10  # KiB; the largest of these tables has 128 MiB, all have 384


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
