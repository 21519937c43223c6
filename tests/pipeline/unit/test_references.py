"""Images that methods compare with: drawn from the run's own shards, the same for every worker."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from pipeline.checks.audit import audit
from pipeline.driver.admission import record_run
from pipeline.driver.listing import list_all
from pipeline.run.directory import RunDirectory
from pipeline.run.maps import decode_maps
from pipeline.run.reader import open_run
from pipeline.storage import open_storage
from pipeline.unit import attributor
from pipeline.unit.references import ReferencePool
from ssig.acceleration.ready_replica import ready_replica
from ssig.engine.device import Device
from ssig.engine.shared_paths import together
from ssig.errors import UsageError
from ssig.models import load_model
from ssig.types import Attribution, Request, Response, Steps

Make = Callable[..., Any]
WorkOff = Callable[..., Path]


def pool_of(job: Any, shards: list[str], seed: int = 0) -> ReferencePool:
    storage = open_storage(job.output.path)
    directory = RunDirectory(storage)
    record_run(job, directory, shards)
    list_all(directory)
    model = load_model("networks:tiny")
    return ReferencePool(storage, model, Device(ready_replica(model, micro_batch=4)), seed)


def test_references_are_images_of_the_run_and_depend_on_its_seed_alone(
    make_shard: Make, make_job: Make, tmp_path: Path
) -> None:
    shards = [str(make_shard("a.tar", count=5)), str(make_shard("b.tar", count=6, first=5))]
    jobs = [make_job(*shards, unit_size=size, output__path=str(tmp_path / f"run-{size}")) for size in (2, 64)]
    first, other = (pool_of(job, shards)(4) for job in jobs)
    assert first is not None
    assert other is not None
    assert torch.equal(first.images, other.images)
    torch.testing.assert_close(first.logits, other.logits)  # of other micro-batches, perhaps
    reseeded = pool_of(make_job(*shards, output__path=str(tmp_path / "seed")), shards, seed=1)(4)
    assert reseeded is not None
    assert not torch.equal(first.images, reseeded.images)
    whole = pool_of(make_job(*shards, output__path=str(tmp_path / "whole")), shards)(100)
    assert whole is not None
    assert len(whole) == 11
    assert torch.equal(whole.images[:4], first.images)


def test_what_cannot_be_decoded_is_no_reference(make_shard: Make, make_job: Make) -> None:
    files = [(f"{number}.{extension}", b"0") for number in range(3) for extension in ("jpg", "cls")]
    shards = [str(make_shard("broken.tar", files=files))]
    with pytest.raises(UsageError, match="at least one image"):
        pool_of(make_job(*shards), shards)(2)


@pytest.mark.parametrize("network", ["raises_on_white", "gives_nan_on_white"])
def test_an_image_that_breaks_the_network_is_replaced_by_the_next(
    make_shard: Make, make_job: Make, tmp_path: Path, network: str
) -> None:
    from tests_shards import members

    white = 3
    shards = [str(make_shard("a.tar", files=members(0, 8, white=white)))]
    sound = pool_of(make_job(*shards, output__path=str(tmp_path / "sound")), shards)(8)
    assert sound is not None
    kept = [k for k, image in enumerate(sound.images) if image.mean() < 0.98]
    assert len(kept) == 7
    job = make_job(*shards, output__path=str(tmp_path / "run"))
    storage = open_storage(job.output.path)
    directory = RunDirectory(storage)
    record_run(job, directory, shards)
    list_all(directory)
    model = load_model(f"networks:{network}")
    for count in (3, 7):  # whoever draws how many of them
        pool = ReferencePool(storage, model, Device(ready_replica(model, micro_batch=4)), 0)(count)
        assert pool is not None
        assert torch.equal(pool.images, sound.images[kept][:count])
        assert torch.allclose(pool.logits, sound.logits[kept][:count], atol=1e-4)
    (record,) = [json.loads(storage.read(entry.name)) for entry in storage.list("quarantine")]
    assert (record["kind"], record["key"]) == ("reference", f"image{white:04d}")


def test_methods_with_references_and_shared_paths_run_in_the_pipeline(
    make_shard: Make, make_job: Make, work_off: WorkOff
) -> None:
    line = {"steps": 8}
    methods = [
        {"name": "ig", "rule": "left", **line},
        {"name": "expected-gradients", "samples": 4, "pool": 6},
        {"name": "idgi-ig", **line},
        {"name": "lpi", "paths": 2, "steps": 2, "pool": 6},
        {"name": "left-ig", **line},
        {"name": "ssig", "samples": "auto", "most": 12},
    ]
    run = work_off(make_job(make_shard(count=6), methods=methods, metrics=["roc_auc"]))
    assert audit(str(run)).ok
    opened = open_run(str(run))
    counts = {
        method: {
            count
            for table in opened.tables("attributions", model, method)
            for count in table["gradient_evaluations"].to_pylist()
        }
        for model, method in opened.config
    }
    assert counts["ig"] == counts["idgi-ig"] == counts["left-ig"] == {8}
    assert counts["expected-gradients"] == {4}
    assert counts["ssig"] <= {8, 12}


ON_ONE_LINE = [
    {"name": "ig", "rule": "left", "steps": 8},
    *({"name": name, "steps": 8} for name in ("idgi-ig", "left-ig")),
]
OF_ONE_LAW = [
    {"name": "ssig", "samples": 4, "integrand": name, "label": f"ssig-{name}"} for name in ("magnitude", "product")
]


@pytest.mark.parametrize("methods", [ON_ONE_LINE, OF_ONE_LAW], ids=["one line", "one law"])
def test_methods_that_share_points_give_what_each_gives_alone(
    make_shard: Make,
    make_job: Make,
    work_off: WorkOff,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    methods: list[dict[str, Any]],
) -> None:
    shard, at_once = make_shard(count=3), list[int]()

    def counted(steps: Sequence[Steps]) -> Generator[Request, Response, list[Attribution]]:
        at_once.append(len(steps))
        return together(steps)

    monkeypatch.setattr(attributor, "together", counted)

    def maps(methods: list[Any], folder: str) -> dict[str, np.ndarray]:
        run = work_off(make_job(shard, methods=methods, output__maps="float32", output__path=str(tmp_path / folder)))
        files = sorted((run / "attributions").rglob("*.parquet"))
        return {file.parent.name: decode_maps(pq.read_table(file)) for file in files}

    shared = maps(methods, "together")
    assert set(at_once) == {len(methods)}
    for number, method in enumerate(methods):
        ((folder, alone),) = maps([method], f"alone-{number}").items()
        # Which points a device evaluates together is not the same in both runs.
        np.testing.assert_allclose(shared[folder], alone, rtol=0, atol=1e-5 * np.abs(alone).max())
