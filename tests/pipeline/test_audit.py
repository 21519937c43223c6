"""The audit proves a sound run and names every tampering."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.audit import audit
from pipeline.plan import RefusedError
from ssig.errors import UsageError

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

import tampering as t

Make = Callable[..., Any]


_sound: list[Path] = []


@pytest.fixture
def run(make_shard: Make, make_job: Make, work_off: Make, tmp_path: Path) -> Path:
    """A copy of a sound run that is made once."""
    if not _sound:
        job = make_job(make_shard(count=6), metrics=["roc_auc"], output__path=str(tmp_path / "whole"))
        _sound.append(work_off(job))
        assert audit(str(_sound[0])).ok
    shutil.copytree(_sound[0], tmp_path / "run")
    return tmp_path / "run"


@pytest.mark.parametrize(
    ("tamper", "problem"),
    [
        (t.delete_a_row, "bytes are not the committed"),
        (t.delete_a_row_and_mend_the_commit, "1 samples of the manifest have no row"),
        (t.flip_a_byte, "bytes are not the committed"),
        (t.copy_to_a_second_unit, "bytes are not the committed"),
        (t.copy_to_a_new_unit, "orphan"),
        (t.remove_a_commit, "have no commit"),
        (t.remove_a_file, "missing, though its unit is committed"),
        (t.add_an_orphan, "attributions/orphan.parquet: an orphan"),
        (t.add_a_stranger, "notes.txt"),
        (t.edit_a_commit, "counts {'ok': 5}"),
        (t.tear_a_commit, "not JSON"),
        (t.edit_a_config, "does not have its fingerprint"),
        (t.remove_a_config, "whose configuration is gone"),
        (t.copy_with_its_commit, "commits/model=networks%3Atiny/method=ig/000000-000006-000010.json: an orphan"),
        (t.add_an_orphan_of_no_label, "method=gone/000000-000000-000004.parquet: an orphan"),
        (t.empty_a_commit, "no commit record of ours"),
        (t.cut_a_file, "bytes are not the committed"),
        (t.edit_the_seed, "its seed is 0"),
        (t.empty_the_run_record, "no data set"),
        (t.shrink_the_manifest, "its content is not the one"),
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
