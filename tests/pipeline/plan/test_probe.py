"""A probe of a tiny network: real units, in this process and in several, in a folder that is gone afterwards."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from tests_shards import members

from pipeline.driver.admission import job_labels
from pipeline.driver.resources import Shape
from pipeline.driver.worker_setup import worker_setup
from pipeline.job.configuration import Job
from pipeline.plan import samples
from pipeline.plan.device import ProbeError, Processes, probe_here, probe_with
from pipeline.plan.probe import probe_data
from pipeline.plan.samples import samples_of
from pipeline.run.layout import ATTRIBUTIONS
from pipeline.unit.setup import WorkerSetup
from ssig.models import load_model

DATA = {"manifest_hash": None}  # of a run that is still to begin
MakeShard = Callable[..., Path]
MakeJob = Callable[..., Job]


def setup_of(job: Job) -> WorkerSetup:
    model = load_model(job.model.name)
    return worker_setup(
        model,
        job_labels(job, DATA, model),
        job.output.path,
        job.seed,
        job.actors,
        Shape(0, 1, 1, 1),
    )


def test_a_probe_measures_every_step_and_leaves_nothing(
    make_shard: MakeShard, make_job: MakeJob, own_temporary_folder: Path
) -> None:
    job = make_job(make_shard(count=8))
    probed = probe_here(setup_of(job), probe_data(job.dataset.shards), on_gpu=False, seconds=0.01)
    assert set(probed.labels) == {"ssig", "ig"}
    for cost in probed.labels.values():
        assert min(cost.steps["attribute"], cost.steps["metrics"], cost.steps["write"]) > 0
        assert set(cost.metrics) == {"insertion", "deletion", "roc_auc", "completeness"}
        assert cost.table_bytes[ATTRIBUTIONS] > 0
    assert probed.labels["ssig"].gradients == 4
    total = sum(sum(cost.steps.values()) for cost in probed.labels.values())
    assert total == pytest.approx(probed.seconds)
    assert probed.worker["micro_batch"] == 4
    assert not Path(job.output.path).exists()
    assert list(own_temporary_folder.iterdir()) == []


def test_methods_that_compare_with_other_images_can_be_probed(make_shard: MakeShard, make_job: MakeJob) -> None:
    job = make_job(make_shard(count=4), methods=[{"name": "expected-gradients", "samples": 2}], metrics=[])
    probed = probe_here(setup_of(job), probe_data(job.dataset.shards), on_gpu=False, seconds=0.01)
    assert probed.labels["expected-gradients"].gradients == 2


@pytest.mark.slow
def test_several_processes_share_the_device(make_shard: MakeShard, make_job: MakeJob) -> None:
    job = make_job(make_shard(count=4), metrics=["gini"])
    processes = Processes(2, False, {"SSIG_TEST_VARIABLE": "1"})
    probed = probe_with(setup_of(job), probe_data(job.dataset.shards), processes, seconds=0.01)
    assert probed.workers == 2
    assert probed.worker_seconds == pytest.approx(2 * probed.seconds)
    assert "SSIG_TEST_VARIABLE" not in os.environ


def test_a_process_that_dies_is_one_clear_line(make_shard: MakeShard, make_job: MakeJob) -> None:
    shard = make_shard(files=members(0, 4, white=0))
    job = make_job(shard, methods=["gradient"], metrics=[], model__name="networks:dies_on_white")
    with pytest.raises(ProbeError, match="died"):
        probe_with(setup_of(job), probe_data(job.dataset.shards), Processes(1, False, {}), seconds=0.01)


def test_samples_are_counted_or_estimated(make_shard: MakeShard, monkeypatch: pytest.MonkeyPatch) -> None:
    shards = [str(make_shard(f"{number}.tar", 6, first=6 * number)) for number in range(5)]
    assert samples_of(shards).of_shards == (6,) * 5
    assert samples_of(shards, 8).of_shards == (6, 2)
    monkeypatch.setattr(samples, "COUNTED_BYTES", 0)
    estimated = samples_of(shards)
    assert not estimated.exact
    assert estimated.total == pytest.approx(30, abs=3)


def test_a_shard_that_cannot_be_read_is_passed_over(make_shard: MakeShard) -> None:
    broken = Path(tempfile.mkdtemp(dir=make_shard("a.tar", 4).parent), "broken.tar")
    broken.write_bytes(b"no tar")
    data = probe_data([str(broken), str(make_shard("a.tar", 4))])
    assert len(data.rows) == 4
    assert data.url.endswith("a.tar")
