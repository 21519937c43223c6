"""A run that was tampered with is mended, completed by its own command, and comes out as if nothing had happened."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from pipeline.checks.audit import audit
from pipeline.checks.findings import Kind
from pipeline.checks.repair import repair
from pipeline.job.configuration import Job
from pipeline.run.lease import Lease, LeaseHeldError
from pipeline.run.records import RefusedError
from pipeline.storage import open_storage
from ssig.errors import UsageError

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "support"))

import tampering as t
from command_line import Cli, command_line

Make = Callable[..., Any]
_pristine: list[tuple[Path, Path]] = []


@pytest.fixture
def run(make_shard: Make, make_job: Make, work_off: Make, tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A sound run in `tmp_path / "run"`, a copy of one that is made once."""
    if not _pristine:
        shard = make_shard(count=6)
        _pristine.append((shard, Path(work_off(job_of(make_job, shard, tmp_path / "whole")))))
    shutil.copytree(_pristine[0][1], tmp_path / "run")
    if getattr(request, "param", "now") == "earlier":
        t.in_earlier_form(tmp_path / "run")
    return tmp_path / "run"


EARLIER = pytest.mark.parametrize("run", ["earlier"], indirect=True)
BOTH_FORMS = pytest.mark.parametrize("run", ["now", "earlier"], indirect=True)


def job_of(make_job: Make, shard: Path, run: Path) -> Job:
    job: Job = make_job(shard, metrics=["roc_auc", {"name": "insertion", "steps": 2}], output__path=str(run))
    return job


@pytest.fixture
def finish(run: Path, make_job: Make, work_off: Make) -> Callable[[], None]:
    """Runs the run's own command, without Ray."""
    return lambda: work_off(job_of(make_job, _pristine[0][0], run))


def files(run: Path) -> dict[str, bytes]:
    """Every file of a run; a lease's folder is left empty."""
    return {str(path.relative_to(run)): path.read_bytes() for path in run.rglob("*") if path.is_file()}


def tables(names: Iterable[str]) -> set[str]:
    return {name for name in names if name.endswith(".parquet")}


def rows(run: Path) -> Iterator[Any]:
    """Everything that tables hold but how long it took."""
    for path in sorted(run.glob("*/model=*/method=*/*.parquet")):
        table = pq.read_table(path, partitioning=None)
        kept = [name for name in table.column_names if not name.startswith("seconds_")]
        yield str(path.relative_to(run)), table.select(kept).to_pylist()


DAMAGES: list[tuple[Callable[[Path], None], int]] = [
    (t.delete_a_row, 1),
    (t.delete_a_row_and_mend_the_commit, 1),
    (t.flip_a_byte, 1),
    (t.copy_to_a_second_unit, 1),
    (t.copy_to_a_new_unit, 0),
    (t.copy_with_its_commit, 0),
    (t.remove_a_commit, 1),
    (t.remove_a_file, 1),
    (t.add_an_orphan_of_no_label, 0),
    (t.edit_a_commit, 1),
    (t.tear_a_commit, 1),
    (t.empty_a_commit, 1),
    (t.cut_a_file, 1),
    (t.all_at_once, 3),
]


@EARLIER
@pytest.mark.parametrize(("tamper", "units_undone"), DAMAGES)
def test_what_is_damaged_goes_and_the_same_command_completes_the_run(
    run: Path, finish: Callable[[], None], tamper: Callable[[Path], None], units_undone: int
) -> None:
    before = files(run)
    tamper(run)
    tampered = files(run)
    assert not audit(str(run)).ok
    done = repair(str(run))
    assert done.done
    assert done.sound == audit(str(run)).ok == (units_undone == 0)
    after = files(run)
    assert set(after) <= set(tampered) & set(before)
    assert all(after[name] == tampered[name] for name in after)
    assert len([name for name in before if name.startswith("commits/") and name not in after]) == units_undone
    assert len(before) - len(after) == 3 * units_undone
    left = audit(str(run))
    assert {finding.kind for finding in left.findings} <= {Kind.UNFINISHED}
    assert repair(str(run)).done == []
    assert files(run) == after
    finish()
    assert audit(str(run)).problems == []
    now = files(run)
    assert all(now[name] == after[name] for name in after)
    assert tables(now) == tables(before)
    assert list(rows(run)) == list(rows(_pristine[0][1]))


@pytest.mark.parametrize(("tamper", "units_undone"), DAMAGES)
def test_labels_of_a_batch_that_are_sound_stay_done(
    run: Path, finish: Callable[[], None], tamper: Callable[[Path], None], units_undone: int
) -> None:
    """A commit of a batch goes with a damaged label of its own; each of the others gets a commit of its own before."""
    before = files(run)
    tamper(run)
    tampered = files(run)
    done = repair(str(run))
    assert done.done
    assert done.sound == audit(str(run)).ok == (units_undone == 0)
    after = files(run)
    assert all(after[name] == tampered[name] == before[name] for name in tables(after))
    commit_is_damaged = tamper in (t.remove_a_commit, t.edit_a_commit, t.tear_a_commit, t.empty_a_commit)
    if units_undone == 1:
        assert len(tables(before)) - len(tables(after)) == (4 if commit_is_damaged else 2)
        assert sum("method=" in name for name in after if name.startswith("commits/")) == (not commit_is_damaged)
    assert {finding.kind for finding in audit(str(run)).findings} <= {Kind.UNFINISHED}
    assert repair(str(run)).done == []
    finish()
    assert audit(str(run)).problems == []
    now = files(run)
    assert all(now[name] == after[name] for name in after)
    assert tables(now) == tables(before)
    assert list(rows(run)) == list(rows(_pristine[0][1]))


@pytest.mark.parametrize("tamper", [t.add_an_orphan, t.add_a_stranger, t.add_a_config_of_nobody])
def test_files_of_others_are_named_and_left(run: Path, tamper: Callable[[Path], None]) -> None:
    before = set(files(run))
    tamper(run)
    (stranger,) = set(files(run)) - before
    done = repair(str(run))
    assert done.done == []
    assert [line for line in done.left if stranger in line and "left alone" in line]
    assert not done.sound
    assert set(files(run)) == before | {stranger}
    (run / stranger).unlink()
    assert audit(str(run)).ok


@pytest.mark.parametrize(
    ("tamper", "name"),
    [
        (t.edit_a_config, "config/"),
        (t.tear_a_config, "config/"),
        (t.shrink_the_manifest, "manifest.parquet"),
        (t.tear_the_manifest, "manifest.parquet"),
        (t.remove_the_manifest, "manifest.parquet"),
        (t.tear_the_run_record, "run.json"),
        (t.empty_the_run_record, "run.json"),
        (t.edit_the_seed, "seed"),
    ],
)
def test_records_by_which_all_is_judged_are_not_repaired(run: Path, tamper: Callable[[Path], None], name: str) -> None:
    t.flip_a_byte(run)
    tamper(run)
    before = files(run)
    with pytest.raises((RefusedError, UsageError), match=name):
        repair(str(run))
    assert files(run) == before


@BOTH_FORMS
def test_a_configuration_that_is_removed_is_recorded_again(run: Path, finish: Callable[[], None]) -> None:
    before = files(run)
    t.edit_a_config(run)
    t.remove_a_config(run)
    done = repair(str(run))
    assert done.done == []
    assert [line for line in done.left if "2 commits whose configuration is gone" in line]
    finish()
    assert audit(str(run)).ok
    assert {name: data for name, data in files(run).items() if "config" not in name} == {
        name: data for name, data in before.items() if "config" not in name
    }


def test_what_the_storage_does_not_give_is_not_damaged(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pipeline.storage.local import LocalStorage

    whole = LocalStorage.read

    def fails(self: LocalStorage, name: str) -> Any:
        if name.startswith("metrics/"):
            raise OSError(5, "Input/output error", name)
        return whole(self, name)

    monkeypatch.setattr(LocalStorage, "read", fails)
    before = files(run)
    done = repair(str(run))
    assert done.done == []
    assert {finding.kind for finding in done.audit.findings} == {Kind.UNREADABLE, Kind.UNFINISHED}
    assert files(run) == before
    monkeypatch.undo()
    assert audit(str(run)).ok


def test_columns_of_another_version_are_not_damaged(run: Path) -> None:
    for path in run.glob("metrics/*/*/*.parquet"):
        table = pq.read_table(path, partitioning=None)
        pq.write_table(table.append_column("novel", table["probability"]), path)
        t.mend_the_commit(run, path)
    before = files(run)
    done = repair(str(run))
    assert {finding.kind for finding in done.audit.findings} == {Kind.OTHER_VERSION}
    assert (done.done, done.sound) == ([], False)
    assert files(run) == before


def test_records_of_faults_logs_and_reports_are_no_orphans(run: Path) -> None:
    for name in (
        "quarantine/unit-000000-000000-000004.json",
        "logs/abc.jsonl",
        "report/notes.txt",
    ):
        path = run / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"{}")
    before = files(run)
    assert repair(str(run)).sound
    assert files(run) == before


def test_a_run_at_work_is_not_repaired(run: Path) -> None:
    t.flip_a_byte(run)
    with Lease(open_storage(str(run))):
        before = files(run)
        with pytest.raises(LeaseHeldError):
            repair(str(run))
        assert files(run) == before
    assert repair(str(run)).done


def test_a_repair_that_was_overtaken_during_its_audit_touches_nothing(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    t.flip_a_byte(run)
    storage = open_storage(str(run))

    def slow(root: str, examine: Any) -> Any:
        found = audit(root, examine)
        storage.create(".lease/000002.json", b"{}")
        return found

    monkeypatch.setattr("pipeline.checks.repair.audit", slow)
    before = files(run)
    with pytest.raises(LeaseHeldError, match="taken this run over"):
        repair(str(run))
    after = {name: data for name, data in files(run).items() if not name.startswith(".lease/")}
    assert after == before


def test_what_is_no_run_is_left_alone(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"run\.json"):
        repair(str(tmp_path))
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    return command_line(monkeypatch, capsys, "audit")


def test_the_command_says_what_it_did(run: Path, cli: Cli, finish: Callable[[], None]) -> None:
    sound = cli(run)
    assert (sound.code, sound.out.splitlines()[-1]) == (0, "sound")
    assert "6 expected = 6 ok" in sound.out
    t.flip_a_byte(run)
    t.add_a_stranger(run)
    found = cli(run, "--json")
    assert found.code == 1
    record = json.loads(found.out)
    assert not record["ok"]
    assert {finding["kind"] for finding in record["findings"]} == {"damaged", "unfinished", "foreign"}
    assert len(record["problems"]) == len(record["findings"])
    mended = cli(run, "--repair")
    assert mended.code == 1
    assert [line for line in mended.out.splitlines() if line.startswith("removed commits/")]
    assert "notes.txt" in mended.out
    assert mended.out.splitlines()[-1].startswith("incomplete")
    (run / "notes.txt").unlink()
    again = json.loads(cli(run, "--repair", "--json").out)
    assert (again["done"], again["sound"]) == ([], False)
    finish()
    assert cli(run, "--repair").code == 0
    t.tear_the_manifest(run)
    refused = cli(run, "--repair")
    assert refused.code == 2
    assert "manifest.parquet" in refused.err
