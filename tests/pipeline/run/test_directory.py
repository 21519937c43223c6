"""The run directory: each record is read once, what is damaged is named, and what it says holds until `refresh`."""

from __future__ import annotations

import dataclasses
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.driver.synthetic import SyntheticRun, write_synthetic_run
from pipeline.run.canonical import checksum
from pipeline.run.directory import RunDirectory
from pipeline.run.layout import MANIFEST, RUN, SEAL, commit_name
from pipeline.run.records import RefusedError
from pipeline.storage.local import LocalStorage
from ssig.errors import UsageError

DATA = Path(__file__).resolve().parents[2] / "data" / "run-0.1.0"


class Counting(LocalStorage):
    """A disk that lists what was read, and refuses the names in `away`."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.names: list[str] = []
        self.threads: set[int] = set()
        self.away: set[str] = set()

    def read(self, name: str) -> bytes:
        self.names.append(name)
        self.threads.add(threading.get_ident())
        if name in self.away:
            raise ConnectionError(name)
        return super().read(name)


@pytest.fixture
def storage(tmp_path: Path) -> Counting:
    """A run of five units under two labels."""
    wanted = SyntheticRun(images=10, methods=["ig", "gradient"], metrics=["gini"], unit_size=2)
    return Counting(Path(write_synthetic_run(tmp_path, wanted).root))


def edit(storage: Counting, name: str, **fields: Any) -> None:
    path = Path(storage.root, name)
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def test_records_are_typed_and_read_once_by_many_threads(storage: Counting) -> None:
    directory = RunDirectory(storage)
    for _ in range(2):
        assert directory.record is not None
        assert (directory.record.unit_size, directory.record.dataset.limit) == (2, 10)
        assert [label.settings.method.name for label in directory.labels] == ["gradient", "ig"]
        assert directory.statuses(directory.labels) == {"gradient": {"ok": 10}, "ig": {"ok": 10}}
        assert directory.remaining(directory.labels) == []
        assert directory.proven(directory.labels) == {"gradient", "ig"}
        assert (directory.evaluations, directory.quarantine) == ([], [])
        directory.refresh()
    commits = [name for name in storage.names if name.startswith("commits/")]
    assert sorted(storage.names) == sorted({RUN, SEAL, *(label.config_name for label in directory.labels), *commits})
    assert len(commits) == 5  # one a unit, for both labels
    assert len(storage.threads) > 1


def test_commits_are_in_order_of_name_whatever_order_they_come_in(storage: Counting) -> None:
    directory = RunDirectory(storage)
    (label, _) = directory.labels
    commits = directory.commits(label)
    assert list(commits) == sorted(commits)
    assert [commit.unit for commit in commits.values()] == [unit.id for unit in directory.manifest.units()]
    assert {(commit.model, commit.method) for commit in commits.values()} == {("synthetic", "gradient")}
    assert all(commit.is_whole for commit in commits.values())


def test_of_two_commits_of_a_unit_that_of_the_batch_counts(storage: Counting) -> None:
    directory = RunDirectory(storage)
    gradient, other = directory.labels
    units = [unit.id for unit in directory.manifest.units()]
    whole = directory.commits(gradient)[gradient.commit_names(units[1])[0]]
    own = Path(storage.root, commit_name("synthetic", "gradient", units[1]))
    own.parent.mkdir(parents=True)
    own.write_text(json.dumps(dataclasses.replace(whole, attempt="alone").record))
    Path(storage.root, whole.source).with_name(f"{units[0]}.json").unlink()
    own.with_name(f"{units[0]}.json").write_text(
        json.dumps(dataclasses.replace(whole, unit=units[0], attempt="alone").record)
    )
    directory.refresh()
    first, second = directory.counted([gradient, other])
    assert [(commit.unit, commit.attempt) for commit in first] == [
        (units[0], "alone"),
        *((unit, "synthetic") for unit in units[1:]),
    ]
    assert [commit.unit for commit in second] == second.units == units[1:]
    assert [list(commits) for commits in directory.counted([gradient, gradient])] == [list(first)] * 2


def test_a_file_that_changed_is_read_again_after_a_refresh_and_no_other(storage: Counting) -> None:
    directory = RunDirectory(storage)
    (label, _) = directory.labels
    (name, *_), before = directory.commits(label), directory.digest()
    edit(storage, name, attempt="another one")
    assert directory.commits(label)[name].attempt == "synthetic"
    storage.names.clear()
    directory.refresh()
    assert directory.commits(label)[name].attempt == "another one"
    assert not directory.commits(label)[name].is_whole
    assert directory.digest() != before
    assert storage.names == [name]


def test_a_commit_that_the_storage_does_not_give_is_asked_for_again(storage: Counting) -> None:
    directory = RunDirectory(storage)
    (label, _) = directory.labels
    (name, _) = label.commit_names(next(directory.manifest.units()).id)
    storage.away = {name}
    for ask in (directory.commits, directory.briefs, directory.done_count):
        with pytest.raises(ConnectionError):
            ask(label)
    storage.away = set()
    assert len(directory.commits(label)) == directory.done_count(label) == 5


def test_a_unit_is_done_where_a_commit_of_this_configuration_says_so(storage: Counting) -> None:
    directory = RunDirectory(storage)
    (label, other) = directory.labels
    first, second, *_ = directory.manifest.units()
    path = Path(storage.root, label.commit_names(first.id)[0])
    record = json.loads(path.read_text())
    labels, files = record["labels"], record["files"]
    others = {name: identity for name, identity in files.items() if "method=ig" in name}
    edit(storage, str(path.relative_to(storage.root)), labels={other.key: labels[other.key]}, files=others)
    Path(storage.root, other.commit_names(second.id)[0]).unlink()
    assert [directory.done(unit.id, label) for unit in (first, second)] == [False, False]
    assert [directory.done(unit.id, other) for unit in (first, second)] == [True, False]
    assert (directory.done_count(label), directory.done_count(other)) == (3, 4)
    assert directory.remaining([other]) == [(second, ("ig",))]
    with pytest.raises(RefusedError, match=r"commits/batch=.*: its labels lack 'synthetic@gradient'.*--repair"):
        directory.remaining([label, other])
    foreign = {**labels, label.key: {**labels[label.key], "fingerprint": "f" * 64}}
    edit(storage, str(path.relative_to(storage.root)), labels=foreign, files=files)
    directory.refresh()
    assert not directory.done(first.id, label)
    with pytest.raises(RefusedError, match=r"commits/batch=.*: its fingerprint is 'fff"):
        directory.remaining([label, other])


def test_a_directory_without_a_run_says_so(tmp_path: Path) -> None:
    directory = RunDirectory(LocalStorage(tmp_path))
    assert directory.document is None
    assert directory.record is None
    assert directory.labels == []
    with pytest.raises(UsageError, match=r"one that holds run\.json"):
        directory.required_record()
    with pytest.raises(RefusedError, match=f"no {MANIFEST}"):
        _ = directory.manifest


def test_unknown_fields_are_kept_and_count_for_checksums(storage: Counting) -> None:
    directory = RunDirectory(storage)
    label = directory.labels[0]
    edit(storage, label.config_name, of_a_later_version={"a": [1]})
    name = next(iter(directory.commits(label)))
    record = {**json.loads(Path(storage.root, name).read_text()), "of_a_later_version": 1}
    edit(storage, name, **{**record, "checksum": checksum(record)})
    directory.refresh()
    assert directory.labels[0].config["of_a_later_version"] == {"a": [1]}
    assert not directory.labels[0].is_genuine
    assert directory.commits(label)[name].is_whole
    edit(storage, name, of_a_later_version=2)
    directory.refresh()
    assert not directory.commits(label)[name].is_whole


def test_runs_of_both_schemas_are_read(storage: Counting) -> None:
    first, second = RunDirectory(LocalStorage(DATA)), RunDirectory(storage)
    assert {label.version for label in (*first.labels, *first.evaluations)} == {1}
    assert [label.evaluation for label in first.evaluations] == ["gini", "gini"]
    assert all(first.done_count(label) == 2 for label in (*first.labels, *first.evaluations))
    assert first.labels[0].is_genuine
    assert first.evaluations[0].is_genuine
    assert {label.version for label in second.labels} == {2}
    with pytest.raises(RefusedError, match=r"a run of ssig 0\.1\.0"):
        first.refuse_earlier()


FAULTS: dict[str, tuple[Callable[[RunDirectory], object], str, dict[str, Any], str]] = {
    "a seed in words": (lambda d: d.record, RUN, {"seed": "0"}, r'run\.json: seed is "0"; not a run of ssig'),
    "a limit in words": (
        lambda d: d.record,
        RUN,
        {"dataset": {"shards": [], "limit": "all", "manifest_hash": None}},
        r'run\.json: its data set is not that of a run \(dataset\.limit is "all"\)',
    ),
    "a target of nothing": (
        lambda d: d.labels,
        "config/synthetic@ig.json",
        {"model": {"name": "x", "input_size": [1, 1], "target": None}},
        r"config/synthetic@ig\.json: model\.target is null; not an ssig configuration",
    ),
    "no revision": (
        lambda d: d.labels,
        "config/synthetic@ig.json",
        {"revisions": {"method": 1, "metrics": {}}},
        r"config/synthetic@ig\.json: no field 'revisions\.preparation'; not an ssig configuration",
    ),
    "a negative count": (
        lambda d: d.commits(d.labels[1]),
        "commits",
        {"labels": {"synthetic@ig": {"fingerprint": "f", "statuses": {"ok": -2}}}, "files": {}},
        r"000000-000000-000002\.json: labels\.synthetic@ig: statuses\.ok is -2; not an ssig commit record",
    ),
    "a table of somebody": (
        lambda d: d.commits(d.labels[1]),
        "commits",
        {"files": {"../x.parquet": {}}},
        r"files '\.\./x\.parquet' is no table of the run; not an ssig commit record",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_what_is_damaged_is_named_in_plain_words(storage: Counting, name: str) -> None:
    ask, file, fields, message = FAULTS[name]
    if file == "commits":
        file = next(entry.name for entry in storage.list("commits"))
    edit(storage, file, **fields)
    with pytest.raises(RefusedError, match=message) as refused:
        ask(RunDirectory(storage))
    assert "Input" not in str(refused.value)
    assert "\n" not in str(refused.value)
