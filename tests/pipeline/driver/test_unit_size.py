"""`unit_size: auto`: measured where the units are done, frozen in the run, and kept when it is resumed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.driver import unit_size as module
from pipeline.driver.attribute import attribute
from pipeline.driver.place import Place, place_of
from pipeline.driver.progress import Progress
from pipeline.driver.remote_probe import probe_there
from pipeline.driver.resources import Shape
from pipeline.driver.worker_setup import worker_setup
from pipeline.job.configuration import Job
from pipeline.plan import samples, unit_size
from pipeline.plan.device import Probed, ProbeError
from pipeline.plan.probe import ProbeData, probe_data
from pipeline.run.records import RefusedError
from pipeline.shards import surveying
from pipeline.shards.survey import ShardRecord, Survey
from pipeline.storage.base import Storage
from pipeline.unit.setup import WorkerSetup
from ssig.errors import UsageError
from ssig.models import load_model

DATA = {"manifest_hash": None}  # of a run that is still to begin
MakeShard = Callable[..., Path]
MakeJob = Callable[..., Job]


def recorded(job: Job) -> int:
    return int(json.loads(Path(job.output.path, "run.json").read_text())["unit_size"])


def small(make_job: MakeJob, shard: Path, **changes: object) -> Job:
    given = {"methods": ["gradient"], "metrics": [], "actors__executor": "local", "actors__max": 1, **changes}
    return make_job(shard, **given)


def test_the_measured_size_is_frozen_and_a_resumed_run_keeps_it(
    make_shard: MakeShard, make_job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unit_size, "FEW", 39)
    shard = make_shard(count=40)
    job = small(make_job, shard, unit_size="auto")
    said: list[str] = []

    def listener(progress: Progress, message: str | None) -> None:
        said.extend([] if message is None else [message])

    assert attribute(job, listener).exit_code == 0
    size = recorded(job)
    assert size in {2**power for power in range(11)}
    assert any(message.startswith(f"unit_size: {size}, at ") for message in said)

    monkeypatch.setattr(module, "probe_data", None)  # a second measurement would fail
    more = small(make_job, shard, unit_size="auto", methods=["gradient", {"name": "ig", "steps": 2}])
    assert attribute(more).exit_code == 0
    assert recorded(job) == size
    assert attribute(small(make_job, shard, unit_size=size)).exit_code == 0
    with pytest.raises(RefusedError, match="unit_size"):
        attribute(small(make_job, shard, unit_size=3))


def test_a_shard_is_surveyed_once_before_the_run_is_recorded(
    make_shard: MakeShard, make_job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its samples are counted, some are probed, and its part is published; on an object store each survey takes a
    request an image."""
    monkeypatch.setattr(unit_size, "FEW", 4)
    read: list[str] = []
    real = surveying._by_reading  # what each survey calls that has no index

    def counted(storage: Storage, shard: ShardRecord, note: str | None, *, hashed: bool) -> Survey:
        read.append(shard.name)
        return real(storage, shard, note, hashed=hashed)

    monkeypatch.setattr(surveying, "_by_reading", counted)
    shards = [str(make_shard(f"{number}.tar", count=2)) for number in range(6)]
    job = small(make_job, Path(shards[0]), unit_size="auto", dataset__shards=shards)
    measured: list[str] = []

    def listener(progress: Progress, message: str | None) -> None:
        if message is not None and message.startswith("unit_size:"):
            measured.extend(read)

    assert attribute(job, listener).exit_code == 0
    assert sorted(measured) == [f"{number}.tar" for number in range(6)]
    assert read.count("0.tar") == 1


def test_a_job_whose_samples_are_not_found_at_once_is_not_refused(
    make_shard: MakeShard, make_job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run goes on to the first shard that has one."""
    monkeypatch.setattr(samples, "COUNTED_BYTES", 0)
    shards = [str(make_shard(f"{number}.tar", count=2 * (number == 1))) for number in range(5)]
    job = small(make_job, Path(shards[0]), unit_size="auto", dataset__shards=shards)
    assert attribute(job).statuses == {"gradient": {"ok": 2}}
    assert recorded(job) == 64


def test_a_number_is_used_as_it_is(make_shard: MakeShard, make_job: MakeJob, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "probe_data", None)
    job = small(make_job, make_shard(count=5), unit_size=3)
    assert attribute(job).exit_code == 0
    assert recorded(job) == 3


@pytest.mark.parametrize(("workers", "size"), [(1, 64), (2, 4)])
def test_few_images_are_not_measured(make_shard: MakeShard, make_job: MakeJob, workers: int, size: int) -> None:
    job = small(make_job, make_shard(count=40), unit_size="auto")

    def measures(setup: WorkerSetup, data: ProbeData) -> Probed:
        pytest.fail("nothing is to be measured")

    place = Place(Shape(0, 1, 1, 1), workers, lambda setup: pytest.fail("no unit is done here"), measures)
    assert module.measured_unit_size(job, load_model(job.model.name), [], job.dataset.shards, place, print) == size


def test_where_nothing_can_be_measured_it_says_so_and_takes_64(
    make_shard: MakeShard, make_job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unit_size, "FEW", 4)
    job = small(make_job, make_shard(count=5), unit_size="auto")

    def fails(setup: WorkerSetup, data: ProbeData) -> Probed:
        raise ProbeError("no node had a place for it in time")

    said: list[str] = []
    model = load_model(job.model.name)
    place = Place(Shape(0, 1, 1, 1), 1, lambda setup: pytest.fail("no unit is done here"), fails)
    assert module.measured_unit_size(job, model, [], job.dataset.shards, place, said.append) == 64
    assert said == ["unit_size: 64, since nothing could be measured (ProbeError: no node had a place for it in time)"]


def test_a_worker_that_cannot_start_is_no_reason_to_go_on(
    make_shard: MakeShard, make_job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unit_size, "FEW", 4)
    job = small(make_job, make_shard(count=5), unit_size="auto")

    def refuses(setup: WorkerSetup, data: ProbeData) -> Probed:
        raise UsageError("actors.device", "cuda", "cpu")

    place = Place(Shape(0, 1, 1, 1), 1, lambda setup: pytest.fail("no unit is done here"), refuses)
    with pytest.raises(UsageError, match=r"actors\.device"):
        module.measured_unit_size(job, load_model(job.model.name), [], job.dataset.shards, place, print)


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_a_node_of_the_cluster_can_be_probed(make_shard: MakeShard, make_job: MakeJob) -> None:
    from pipeline.driver.admission import job_labels

    job = make_job(make_shard(count=5), methods=["gradient"], metrics=["gini"])
    model, size = load_model(job.model.name), Shape(0, 1, 1, 1)
    setup = worker_setup(model, job_labels(job, DATA, model), job.output.path, job.seed, job.actors, size)
    probed = probe_there(setup, probe_data(job.dataset.shards), size=size, seconds=0.01)
    assert probed.workers == 1
    assert probed.labels["gradient"].gradients == 1


def test_the_place_of_a_job_without_ray_measures_in_this_process(make_shard: MakeShard, make_job: MakeJob) -> None:
    job = small(make_job, make_shard(count=5))
    model = load_model(job.model.name)
    from pipeline.driver.admission import job_labels

    with place_of(job.actors, print) as place:
        setup = worker_setup(model, job_labels(job, DATA, model), job.output.path, job.seed, job.actors, place.size)
        assert place.probe(setup, probe_data(job.dataset.shards)).labels["gradient"].gradients == 1
