"""Directories that are no run, or were one: what each command says of them, before it has changed anything.

What tampering the audit finds and `--repair` mends is tested with them; here are the commands that read a run.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from pipeline.checks.audit import audit
from pipeline.checks.repair import repair
from pipeline.checks.status import status
from pipeline.driver.added_metrics import add_metrics
from pipeline.job.configuration import Job, load_evaluation
from pipeline.report import build_report
from pipeline.run.reader import open_run
from pipeline.run.records import RefusedError
from ssig.errors import UsageError

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "support"))

import tampering as t

Make = Callable[..., Any]
Tamper = Callable[[Path], object]
_pristine: list[tuple[Path, Path]] = []


def job_of(make_job: Make, shard: Path, run: Path) -> Job:
    fields = {"methods": ["gradient"], "metrics": ["roc_auc"], "output__path": str(run), "unit_size": 2}
    job: Job = make_job(shard, **fields)
    return job


@pytest.fixture
def run(
    make_shard: Make, make_job: Make, work_off: Make, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A copy of a finished run of four samples."""
    if not _pristine:
        folder = tmp_path_factory.mktemp("pristine")
        shutil.move(make_shard(count=4), folder / "a.tar")
        _pristine.append((folder / "a.tar", work_off(job_of(make_job, folder / "a.tar", folder / "run"))))
    shutil.copytree(_pristine[0][1], tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture
def call(make_job: Make, work_off: Make) -> Callable[[str, Path], object]:
    """`call(command, run)`, without Ray."""
    commands: dict[str, Callable[[Path], object]] = {
        "resume": lambda run: work_off(job_of(make_job, _pristine[0][0], run)),
        "status": lambda run: status(str(run)),
        "audit": lambda run: audit(str(run)),
        "open": lambda run: open_run(run).metrics(),
        "report": lambda run: build_report(str(run)),
        "evaluate": lambda run: add_metrics(str(run), load_evaluation({"metrics": ["energy"]})),
    }
    return lambda command, run: commands[command](run)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def record(**fields: Any) -> Tamper:
    return lambda run: t.edit(run / "run.json", **fields)


def written(name: str, text: str) -> Tamper:
    def write(run: Path) -> None:
        (run / name).parent.mkdir(parents=True, exist_ok=True)
        (run / name).write_text(text)

    return write


def without(field: str) -> Tamper:
    def drop(run: Path) -> None:
        values = json.loads((run / "run.json").read_text())
        del values[field]
        (run / "run.json").write_text(json.dumps(values))

    return drop


def commit(**fields: Any) -> Tamper:
    return lambda run: t.edit(t.commits(run)[0], **fields)


def commits_label(**fields: Any) -> Tamper:
    return lambda run: t.edit_each_label(t.commits(run)[0], **fields)


def config(**fields: Any) -> Tamper:
    return lambda run: t.edit(t.one(run, "config/*.json"), **fields)


def config_without(field: str) -> Tamper:
    def drop(run: Path) -> None:
        path = t.one(run, "config/*.json")
        values = json.loads(path.read_text())
        del values[field]
        path.write_text(json.dumps(values))

    return drop


def emptied(run: Path) -> None:
    shutil.rmtree(run)
    run.mkdir()
    (run / "photo.jpg").write_bytes(b"x")


def of_another_run(run: Path) -> None:
    path = run / "manifest.parquet"
    table = pq.read_table(path)
    keys = table["key"].to_pylist()
    index = table.schema.get_field_index("key")
    pq.write_table(table.set_column(index, table.schema.field(index), [[*keys[1:], "other"]]), path)


def with_units(*names: str) -> Tamper:
    def rewrite(run: Path) -> None:
        path = run / "manifest.parquet"
        table = pq.read_table(path)
        pq.write_table(table.set_column(0, table.schema.field(0), [[*names]]), path)

    return rewrite


READERS = ("status", "audit", "open", "report", "evaluate")
ALL = ("resume", *READERS)
CASES: dict[str, tuple[Tamper, tuple[str, ...], str]] = {
    "a directory of somebody's": (
        emptied,
        ("resume",),
        r"output\.path: .*an empty directory or a run \(it holds photo",
    ),
    "a directory of somebody's, read": (emptied, READERS, r"run\.json"),
    "a newer schema": (record(schema_version=99), ALL, r"schema_version.*99"),
    "an older schema": (record(schema_version=0), ALL, r"schema_version.*0"),
    "a schema in words": (record(schema_version="1"), ALL, r"schema_version.*'1'"),
    "a layout of a later version": (record(layout=["compacted"]), ALL, r"layout is \['compacted'\], which a later"),
    "a layout that is none": (record(layout="?"), ALL, r"layout is '\?'"),
    "a record of nothing": (written("run.json", "{}"), ("resume", "status", "audit", "evaluate"), "schema_version"),
    "a record that is a list": (written("run.json", "[]"), ALL, r"run\.json.*JSON object"),
    "a record that is cut": (t.tear_the_run_record, ALL, r"run\.json"),
    "a record of bytes": (lambda run: (run / "run.json").write_bytes(b"\xff\xfe\x00\x01"), ALL, r"run\.json"),
    "no data set": (without("dataset"), ("resume",), r"run\.json: no field 'dataset'; not a run of ssig"),
    "no seed": (without("seed"), ("resume",), r"run\.json: no field 'seed'"),
    "a data set in words": (record(dataset="imagenet"), ("resume",), r"run\.json: its data set is not that of a run"),
    "shards that are numbers": (record(dataset={"shards": [3]}), ("resume",), r"run\.json: its data set is not"),
    "another seed": (record(seed=5), ("resume",), r"seed: recorded 5, asked for 0"),
    "another unit size": (record(unit_size=64), ("resume",), r"unit_size: recorded 64, asked for 2"),
    "no manifest": (t.remove_the_manifest, ("resume", "status", "audit", "evaluate"), r"no manifest\.parquet"),
    "no manifest, reported": (t.remove_the_manifest, ("report",), r"manifest\.parquet"),
    "a cut manifest": (t.tear_the_manifest, ("resume", "status", "audit", "report", "evaluate"), r"manifest\.parquet"),
    "the manifest of another run": (
        of_another_run,
        ("resume",),
        r"manifest\.parquet: its hash is not the one in manifest",
    ),
    "units that climb": (with_units(*["../../etc"] * 4), ("resume", "status"), r"manifest\.parquet"),
    "units of no shard": (with_units(*["000007-000000-000002"] * 4), ("status",), r"manifest\.parquet"),
    "a config of a cut": (t.tear_a_config, ALL, r"config/"),
    "a config of a list": (
        lambda run: t.one(run, "config/*.json").write_text("[]"),
        ALL,
        r"config/.*JSON object",
    ),
    "a config of other options": (
        config(method={"name": "gradient", "options": {}}),
        ("resume",),
        r"label 'gradient' of model 'networks:tiny' exists with other settings",
    ),
    **{
        f"a config with {field} {value!r}": (config(**{field: value}), READERS, rf"config/.*{field} is ")
        for field, value in {
            **{"model_label": 3, "method_label": None, "fingerprint": [], "seed": "0", "maps": 16, "channels": "no"},
            **{"dataset": "x", "model": "resnet", "method": ["ig"], "metrics": ["roc_auc"], "categories": {}},
        }.items()
    },
    "a config of a network without a size": (config(model={"name": "x"}), ("status", "audit", "evaluate"), "no field"),
    "a config whose metric has no options": (
        config(metrics={"roc_auc": 1}),
        READERS,
        r"metrics\.roc_auc has no options",
    ),
    **{
        f"a config without {field}": (
            config_without(field),
            ("resume", "status", "audit", "evaluate"),
            field,
        )
        for field in ("model_label", "fingerprint", "model", "maps", "metrics", "dataset")
    },
    "a commit that is cut": (t.tear_a_commit, ("resume", "status", "open", "report", "evaluate"), r"commits/"),
    "a commit of a list": (
        lambda run: t.commits(run)[0].write_text("[1]"),
        ("resume", "status", "open", "report", "evaluate"),
        r"commits/.*JSON object",
    ),
    "a commit without rows": (
        lambda run: t.commits(run)[0].write_text('{"fingerprint": "x"}'),
        ("resume", "status", "open", "report", "evaluate"),
        r"commits/",
    ),
    "a commit of another configuration": (
        commits_label(fingerprint="0" * 64),
        ("resume",),
        r"commits/.*its fingerprint is '0000.*ssig audit --repair",
    ),
    "rows in words": (commit(rows="two"), ("open", "report"), r'commits/.*rows is "two"'),
    "counts in a list": (commits_label(statuses=["ok"]), ("open", "report"), r'statuses is \["ok"\]'),
    "counts in words": (commits_label(statuses={"ok": "2"}), ("open", "report"), r'statuses\.ok is "2"'),
    "files of a list": (commit(files=["a"]), ("open", "report"), r'files is \["a"\]'),
    "a file that climbs": (
        commit(files={"metrics/../../../secret.parquet": {}}),
        ("open", "report"),
        r"'metrics/\.\./\.\./\.\./secret\.parquet' is no table of the run",
    ),
    "a file from the root": (commit(files={"/etc/passwd": {}}), ("open", "report"), r"'/etc/passwd' is no table"),
    "a stray record among commits": (written("commits/notes.json", "{}"), ("open", "report"), r"commits/notes\.json"),
    "a stray record of an evaluation": (
        written("evaluations/later/config/x.json", '{"model_label": "a", "method_label": "b", "fingerprint": "c"}'),
        ("open", "report"),
        r"evaluations/later/config/x\.json: no field 'evaluation'",
    ),
    "no metrics": (lambda run: shutil.rmtree(run / "metrics"), ("open", "report"), r"passes `ssig audit`"),
    "a table that is cut": (t.cut_a_file, ("open", "report"), r"metrics/.*passes `ssig audit`"),
}


@pytest.mark.parametrize("name", CASES)
def test_a_bad_run_is_refused_in_words_and_left_as_it_is(
    name: str, run: Path, call: Callable[[str, Path], object]
) -> None:
    tamper, commands, message = CASES[name]
    tamper(run)
    before = contents(run)
    for command in commands:
        with pytest.raises((UsageError, RefusedError), match=f"(?s){message}"):
            call(command, run)
        assert contents(run) == before, command


@pytest.mark.parametrize(
    "tamper",
    [
        lambda run: shutil.rmtree(run / "commits"),
        lambda run: shutil.rmtree(run / "config"),
        t.remove_a_commit,
        lambda run: (t.remove_a_commit(run), t.remove_a_file(run)),
        lambda run: [shutil.rmtree(run / name) for name in ("commits", "config", "metrics", "attributions")],
        lambda run: (run / "report").mkdir(exist_ok=True),
        written("evaluations/notes.json", "{}"),
        written("quarantine/odd.json", "{}"),
    ],
)
def test_what_is_missing_of_a_run_is_made_again(
    tamper: Tamper, run: Path, call: Callable[[str, Path], object]
) -> None:
    tamper(run)
    call("resume", run)
    (run / "evaluations" / "notes.json").unlink(missing_ok=True)
    assert audit(str(run)).problems == []
    assert open_run(run).metrics().num_rows == 4


def test_a_shard_that_changed_is_refused(make_shard: Make, make_job: Make, work_off: Make, tmp_path: Path) -> None:
    shard = make_shard(count=2)
    job = job_of(make_job, shard, tmp_path / "run")
    run = work_off(job)
    shard.write_bytes(shard.read_bytes() + bytes(512))
    evaluation = load_evaluation({"metrics": ["energy"]})
    for command in (lambda: work_off(job), lambda: add_metrics(str(run), evaluation)):
        with pytest.raises(RefusedError, match=r"a\.tar: size: recorded \d+, found \d+"):
            command()
    shard.unlink()
    with pytest.raises(UsageError, match=r"dataset\.shards: .*a\.tar"):
        work_off(job)
    with pytest.raises(RefusedError, match=r"a\.tar: recorded \d+ bytes, found no file"):
        add_metrics(str(run), evaluation)


def test_a_file_where_a_run_should_be_is_refused(tmp_path: Path, call: Callable[[str, Path], object]) -> None:
    (tmp_path / "run").write_text("x")
    for command in READERS:
        with pytest.raises((UsageError, RefusedError), match="run"):
            call(command, tmp_path / "run")


@pytest.mark.parametrize(
    ("link", "command"),
    [
        ("report", "report"),
        ("report/tables", "report"),
        (".attempts", "report"),
        (".attempts", "resume"),
        ("commits", "resume"),
        ("attributions/model=networks%3Atiny/method=gradient", "resume"),
        ("metrics/model=networks%3Atiny", "resume"),
        (".lease", "repair"),
        (".attempts", "repair"),
        ("commits/model=networks%3Atiny", "repair"),
    ],
)
def test_no_command_writes_or_removes_anything_where_a_link_of_a_run_leads(
    link: str, command: str, run: Path, call: Callable[[str, Path], object], tmp_path: Path
) -> None:
    call("report", run)
    outside = tmp_path / "outside"
    (run / link).parent.mkdir(exist_ok=True, parents=True)
    (shutil.move if (run / link).exists() else lambda _, folder: folder.mkdir())(run / link, outside)
    (run / link).symlink_to(outside)
    (outside / "theirs.txt").write_text("x")
    os.utime(outside / "theirs.txt", (0, 0))
    if command == "resume":
        for path in t.commits(run):
            path.unlink()
        for path in [*run.glob("attributions/*/*/*"), *run.glob("metrics/*/*/*")]:
            path.unlink()
    if command == "repair":
        t.flip_a_byte(run)
    before = contents(outside)
    with pytest.raises(PermissionError, match=f"leads out of {run}, to {outside}"):
        repair(str(run)) if command == "repair" else call(command, run)
    assert contents(outside) == before
