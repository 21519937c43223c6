"""What may happen to the files of a run between two commands: each function does one such thing to a run's folder."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from pipeline.run.canonical import checksum
from pipeline.run.commit import own_commit_name, parse_commits
from pipeline.run.publishing import identity_of
from pipeline.storage.local import LocalStorage


def one(run: Path, pattern: str) -> Path:
    return sorted(run.glob(pattern))[0]


def commits(run: Path) -> list[Path]:
    """The commits of a run, of batches or of labels."""
    return sorted((run / "commits").rglob("*.json"))


def commit_of(run: Path, unit: str) -> Path:
    """The commit of a unit under all labels of the only batch."""
    (commit,) = run.glob(f"commits/batch=*/{unit}.json")
    return commit


def in_earlier_form(run: Path) -> None:
    """Makes a run what earlier versions write: a commit for each unit and label."""
    storage = LocalStorage(run)
    for path in list(run.glob("commits/batch=*/*.json")):
        name = str(path.relative_to(run))
        for commit in parse_commits(storage.root, name, path.read_bytes()):
            storage.put(own_commit_name(commit), json.dumps(commit.record).encode())
        path.unlink()
    for folder in run.glob("commits/batch=*"):
        folder.rmdir()
    record = {**json.loads((run / "run.json").read_text()), "layout": []}
    edit(run / "run.json", **{**record, "checksum": checksum(record)})


def edit(path: Path, **fields: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def edit_each_label(path: Path, **fields: Any) -> None:
    """Edits what a commit says of each of its labels."""
    record = json.loads(path.read_text())
    if "labels" in record:
        fields = {"labels": {key: {**part, **fields} for key, part in record["labels"].items()}}
    edit(path, **fields)


def names(commit: Path, table: Path) -> bool:
    """Whether a commit names a table."""
    return any(table.as_posix().endswith(f"/{name}") for name in json.loads(commit.read_text())["files"])


def mend_the_commit(run: Path, path: Path) -> None:
    """Makes the commit of a table say what its bytes are now."""
    name = str(path.relative_to(run))
    commit = next(commit for commit in commits(run) if name in json.loads(commit.read_text())["files"])
    record = json.loads(commit.read_text())
    record["files"][name] = identity_of(path.read_bytes())
    edit(commit, files=record["files"], checksum=checksum(record))


def delete_a_row(run: Path) -> None:
    path = one(run, "metrics/*/*/*.parquet")
    pq.write_table(pq.read_table(path, partitioning=None).slice(1), path)


def delete_a_row_and_mend_the_commit(run: Path) -> None:
    delete_a_row(run)
    mend_the_commit(run, one(run, "metrics/*/*/*.parquet"))


def flip_a_byte(run: Path) -> None:
    path = one(run, "attributions/*/*/*.parquet")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def cut_a_file(run: Path) -> None:
    path = one(run, "metrics/*/*/*.parquet")
    path.write_bytes(path.read_bytes()[:-100])


def copy_to_a_second_unit(run: Path) -> None:
    first, second = sorted(run.glob("metrics/*/method=ig/*.parquet"))
    shutil.copy(first, second)


def copy_to_a_new_unit(run: Path) -> None:
    path = one(run, "metrics/*/*/*.parquet")
    shutil.copy(path, path.with_name("000000-000006-000010.parquet"))


def copy_with_its_commit(run: Path) -> None:
    copy_to_a_new_unit(run)
    commit = commits(run)[0]
    shutil.copy(commit, commit.with_name("000000-000006-000010.json"))


def remove_a_commit(run: Path) -> None:
    commits(run)[0].unlink()


def remove_a_file(run: Path) -> None:
    one(run, "attributions/*/*/*.parquet").unlink()


def add_an_orphan(run: Path) -> None:
    (run / "attributions" / "orphan.parquet").write_bytes(b"x")


def add_an_orphan_of_no_label(run: Path) -> None:
    path = run / "attributions" / "model=networks:tiny" / "method=gone" / "000000-000000-000004.parquet"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"x")


def add_a_stranger(run: Path) -> None:
    (run / "notes.txt").write_text("x")


def add_a_config_of_nobody(run: Path) -> None:
    config = one(run, "config/*.json")
    shutil.copy(config, config.with_name("copy of it.json"))


def edit_a_commit(run: Path) -> None:
    edit_each_label(commits(run)[0], statuses={"ok": 5})


def empty_a_commit(run: Path) -> None:
    edit(commits(run)[0], files=None)


def tear(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:40])


def tear_a_commit(run: Path) -> None:
    tear(commits(run)[0])


def edit_a_config(run: Path) -> None:
    edit(one(run, "config/*.json"), seed=5)


def tear_a_config(run: Path) -> None:
    tear(one(run, "config/*.json"))


def remove_a_config(run: Path) -> None:
    one(run, "config/*.json").unlink()


def shrink_the_manifest(run: Path) -> None:
    path = run / "manifest.parquet"
    table = pq.read_table(path)
    pq.write_table(table.slice(0, 5).replace_schema_metadata(table.schema.metadata), path)


def tear_the_manifest(run: Path) -> None:
    tear(run / "manifest.parquet")


def remove_the_manifest(run: Path) -> None:
    (run / "manifest.parquet").unlink()


def tear_the_run_record(run: Path) -> None:
    tear(run / "run.json")


def empty_the_run_record(run: Path) -> None:
    edit(run / "run.json", dataset=None)


def edit_the_seed(run: Path) -> None:
    edit(run / "run.json", seed=5)


def edit_the_unit_size(run: Path) -> None:
    edit(run / "run.json", unit_size=5)


def edit_the_seconds(run: Path) -> None:
    edit_each_label(commits(run)[0], seconds={"total": 1.5})


def edit_what_is_said_of_shards(run: Path) -> None:
    path = run / "manifest.parquet"
    table = pq.read_table(path)
    about = json.loads(table.schema.metadata[b"ssig.manifest"])
    about["quarantine"].append(["a.tar", "truncated", None, 512, "by hand"])
    pq.write_table(table.replace_schema_metadata({**table.schema.metadata, b"ssig.manifest": json.dumps(about)}), path)


def all_at_once(run: Path) -> None:
    """A table, a commit and a missing file, each of a unit of its own, and two orphans."""
    flip_a_byte(run)
    tables = sorted(run.glob("metrics/*/*/*.parquet"))
    tear(next(path for path in commits(run) if names(path, tables[1])))
    tables[2].unlink()
    copy_to_a_new_unit(run)
    add_an_orphan_of_no_label(run)
