"""The shards of a run, listed while units are done: what is asked for, what is stored, and what is refused."""

from __future__ import annotations

import json
import os
import shutil
import sys
import threading
import uuid
import weakref
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "support"))

from counting import Requests, counted_requests
from tests_shards import members, write_tar

from jobs.commands.progress import state
from pipeline.checks.audit import audit
from pipeline.driver.admission import check_output, record_run
from pipeline.driver.attribute import attribute
from pipeline.driver.listing import Listing, by_threads, list_all
from pipeline.driver.progress import Progress
from pipeline.driver.schedule import Work
from pipeline.job.configuration import Job
from pipeline.run.directory import RunDirectory
from pipeline.run.reader import open_run
from pipeline.run.records import RefusedError
from pipeline.shards.indexing import index_shards
from pipeline.shards.survey import ShardRecord, Survey
from pipeline.storage import locate, open_storage
from ssig.errors import UsageError

MakeJob = Callable[..., Job]
SMALL = {"methods": ["gradient"], "metrics": ["gini"], "unit_size": 2, "actors__executor": "local"}


@pytest.fixture
def requests() -> Iterator[Requests]:
    with counted_requests() as counted:
        yield counted


@pytest.fixture
def shards(tmp_path: Path) -> list[str]:
    """Six shards of four samples each, in an object store."""
    root = f"memory://{uuid.uuid4().hex}/shards"
    urls = [f"{root}/{number}.tar" for number in range(6)]
    for number, url in enumerate(urls):
        storage, name = locate(url)
        storage.put(name, write_tar(tmp_path / name, members(4 * number, 4)).read_bytes())
    return urls


def begun(make_job: MakeJob, shards: list[str], **overrides: Any) -> RunDirectory:
    """A run that is recorded, with the part of its first shard."""
    job = make_job(*shards, **SMALL, **overrides)
    directory = RunDirectory(open_storage(job.output.path))
    assert check_output(job, directory, shards) is None
    record_run(job, directory, shards)
    return directory


def test_a_run_is_recorded_before_its_shards_are_read(
    make_job: MakeJob, shards: list[str], requests: Requests
) -> None:
    directory = begun(make_job, shards)
    assert requests.of("entry", ".tar") == 6 + 1
    assert {name for kind, name in requests.names if kind == "read_range"} == {"0.tar"}
    document = json.loads(directory.storage.read("run.json"))
    assert document["dataset"]["manifest_hash"] is None
    assert document["dataset"]["samples"] is None
    assert [shard["name"] for shard in document["dataset"]["shards"]] == [f"{number}.tar" for number in range(6)]
    assert directory.unsealed is not None
    assert "1 of 6 shards are listed so far" in directory.unsealed
    assert len(directory.manifest) == 4
    run = open_run(directory.root)
    for samples in ("manifest", "expected"):
        with pytest.raises(UsageError, match=r"1 of 6 shards .* a run whose shards are all listed"):
            getattr(run, samples)


def test_each_shard_is_asked_for_once_and_the_manifest_is_that_of_one_reading(
    make_job: MakeJob, shards: list[str], requests: Requests
) -> None:
    directory = begun(make_job, shards)
    manifest = list_all(directory)
    # Two shards' worth of requests: where it lies and whether it changed; its own index and DALI's; one range.
    assert all(requests.names["entry", f"{number}.tar"] == 2 for number in range(6))
    assert all(requests.names["read_range", f"{number}.tar"] <= 3 for number in range(6))
    directory.refresh()
    assert directory.is_sealed
    assert [unit.id for unit in directory.manifest.units()] == [unit.id for unit in manifest.units()]
    assert directory.manifest.unit_count == 12
    assert not list(directory.storage.list("manifest"))
    assert directory.described()["dataset"]["samples"] == 24


def test_indexed_shards_are_not_read(make_job: MakeJob, shards: list[str], requests: Requests) -> None:
    index_shards(shards)
    requests.clear()
    list_all(begun(make_job, shards))
    assert requests.kinds["read_range"] == requests.kinds["open"] == 0
    assert requests.kinds["read"] == 6
    assert requests.kinds["entry"] == 6


@pytest.mark.parametrize(("limit", "needed"), [(1, 1), (4, 1), (5, 2), (9, 3), (24, 6), (99, 6)])
def test_a_limit_needs_the_first_shards_alone(
    make_job: MakeJob, shards: list[str], requests: Requests, limit: int, needed: int
) -> None:
    directory = begun(make_job, shards, dataset__limit=limit)
    manifest = list_all(directory)
    assert {name for kind, name in requests.names if kind == "read_range"} == {f"{n}.tar" for n in range(needed)}
    assert len(manifest) == min(limit, 24)
    directory.refresh()
    assert [shard.name for shard in directory.shards] == [f"{number}.tar" for number in range(needed)]
    # More shards may come behind those that the limit needs.
    job = make_job(*shards, "memory://elsewhere/z.tar", **SMALL, dataset__limit=limit)
    if limit < 24:
        assert check_output(job, directory, [*shards, "memory://elsewhere/z.tar"]) is not None


def test_units_come_shard_by_shard_in_order(make_job: MakeJob, shards: list[str]) -> None:
    directory = begun(make_job, shards)
    listing = Listing(directory)
    assert listing.listed == directory.listed == (1, 6)
    listing.start(by_threads)
    listing.wait(60)
    assert listing.take() == []  # of no label
    assert listing.is_over
    assert listing.listed is None
    assert [row.key for row in listing.manifest.rows("000003-000002-000004")] == ["image0014", "image0015"]
    directory.refresh()
    assert listing.manifest.rows("000003-000002-000004") == directory.manifest.rows("000003-000002-000004")


def test_parts_are_the_same_whoever_writes_them(make_job: MakeJob, shards: list[str], tmp_path: Path) -> None:
    contents = []
    for name in ("one", "two"):
        directory = begun(make_job, shards, output__path=str(tmp_path / name))
        contents.append(directory.storage.read("manifest/000000.parquet"))
        list_all(directory)
        contents.append(directory.storage.read("manifest.parquet"))
    assert contents[:2] == contents[2:]


def test_faults_are_recorded_once_though_a_driver_was_killed_between(
    make_job: MakeJob, make_shard: Callable[..., Path]
) -> None:
    paths = [make_shard("a.tar", files=[("README", b"x"), *members(0, 2)]), make_shard("b.tar", count=2, first=2)]
    paths[1].write_bytes(paths[1].read_bytes()[:1024])
    directory = begun(make_job, list(map(str, paths)))
    assert directory.quarantined == 0
    list_all(directory)
    directory.refresh()
    assert [record["kind"] for record in directory.quarantine] == ["skipped", "truncated"]
    assert audit(directory.root).problems == ["config: the run has no labels"]


def test_shards_without_a_sample_make_no_run(make_job: MakeJob, make_shard: Callable[..., Path]) -> None:
    shards = [str(make_shard(f"{name}.tar", files=[])) for name in "ab"]
    with pytest.raises(UsageError, match=r"a\.tar: no samples.*and 1 more"):
        begun(make_job, shards)
    assert not Path(make_job(*shards).output.path, "run.json").exists()


def test_a_copy_of_shards_is_refused_unless_they_are_trusted_or_hashed(
    make_job: MakeJob, make_shard: Callable[..., Path], tmp_path: Path
) -> None:
    shard = make_shard(count=4)
    job = make_job(shard, **SMALL)
    assert attribute(job).exit_code == 0
    os.utime(shard, ns=(1, 1))
    with pytest.raises(RefusedError, match="--trust-shards"):
        attribute(job)
    assert attribute(job, trust_shards=True).exit_code == 0
    shutil.rmtree(job.output.path)
    index_shards([str(shard)], hashed=True)
    assert attribute(job).exit_code == 0
    assert open_run(job.output.path).document["dataset"]["shards"][0]["sha256"] is not None
    os.utime(shard, ns=(2, 2))
    assert attribute(job).exit_code == 0


def test_trusted_shards_are_listed_on(make_job: MakeJob, make_shard: Callable[..., Path]) -> None:
    shards = [str(make_shard(f"{name}.tar", count=2)) for name in "abc"]
    directory = begun(make_job, shards)
    for shard in shards:
        os.utime(shard, ns=(1, 1))
    job = make_job(*shards, **SMALL)
    with pytest.raises(RefusedError, match=r"(?s)a\.tar: version.*c\.tar: version"):
        check_output(job, directory, shards)
    assert attribute(job, trust_shards=True).exit_code == 0
    directory.refresh()
    assert len(directory.manifest) == 6
    assert audit(directory.root).ok


def test_a_method_that_needs_references_waits_for_all_shards(
    make_job: MakeJob, make_shard: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    shards = [make_shard(f"{name}.tar", count=2, first=2 * n) for n, name in enumerate("abc")]
    job = make_job(*shards, **{**SMALL, "methods": [{"name": "expected-gradients", "samples": 2}]})
    was_told, told = threading.Event(), []

    def taken_later(listing: Listing, survey: Survey) -> list[Work]:
        was_told.wait(60)
        return taken(listing, survey)

    def listen(progress: Progress, _: str | None) -> None:
        if progress.listed is not None:
            told.append((progress.phase, state(progress)))
            was_told.set()

    taken = Listing._taken
    monkeypatch.setattr(Listing, "_taken", taken_later)
    monkeypatch.setattr("pipeline.driver.campaign.FIRST_SECONDS", 0.01)
    assert attribute(job, listen).exit_code == 0
    assert told[0] == ("listing the shards", "1 of 3 shards listed")
    # Once a shard is listed, all are, since the method waits for them.
    assert {phase for phase, _ in told} == {"listing the shards"}


def test_a_shard_that_goes_while_units_are_done_ends_the_command(
    make_job: MakeJob, make_shard: Callable[..., Path]
) -> None:
    shards = [make_shard(f"{name}.tar", count=2) for name in "abc"]
    directory = begun(make_job, list(map(str, shards)))
    os.unlink(shards[2])
    listing = Listing(directory)
    listing.start(by_threads)
    listing.wait(60)
    with pytest.raises(OSError, match="it is gone since it was looked up"):
        listing.take()
    assert listing.is_over
    assert not directory.is_sealed


def test_an_index_that_is_passed_over_is_told(make_job: MakeJob, make_shard: Callable[..., Path]) -> None:
    shards = [make_shard(f"{name}.tar", count=2) for name in "abcdefg"]
    index_shards(list(map(str, shards)))
    for shard in shards:
        os.utime(shard, ns=(7, 7))
    told: list[str] = []
    Listing(begun(make_job, list(map(str, shards))), tell=told.append).run()
    assert [note.partition(":")[0] for note in told[:3]] == [f"{name}.tar.index.parquet" for name in "bcd"]
    assert told[3:] == ["and so on: further indexes are passed over in silence"]


def test_what_was_found_in_a_shard_is_not_kept(make_job: MakeJob, make_shard: Callable[..., Path]) -> None:
    first = make_shard("00.tar", count=2)
    shards = [str(first)]
    for number in range(1, 40):
        shards.append(str(first.with_name(f"{number:02d}.tar")))
        os.link(first, shards[-1])
    found: list[weakref.ref[Survey]] = []
    kept: list[int] = []

    def surveys(records: Sequence[ShardRecord]) -> Generator[Survey, None, None]:
        for survey in by_threads(records):
            found.append(weakref.ref(survey))
            kept.append(sum(reference() is not None for reference in found))
            yield survey

    assert len(Listing(begun(make_job, shards)).run(surveys)) == 80
    assert len(kept) == 39
    assert max(kept) <= 2
