"""Jobs on a folder of images: packed once, attributed, resumed and audited; a changed source is refused."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from tests_shards import jpeg

from pipeline.checks.audit import audit
from pipeline.driver.attribute import attribute
from pipeline.driver.ending import Summary
from pipeline.job.configuration import load_job
from pipeline.run.reader import open_run
from ssig.errors import UsageError


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "birds"
    for number in range(6):
        path = folder / ("owl" if number % 2 else "tit") / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(jpeg(number))
    return folder


def run_job(tmp_path: Path, **given: Any) -> Summary:
    fields = {
        "model.name": "networks:tiny",
        "methods": ["gradient"],
        "output.path": str(tmp_path / "run"),
        "actors.executor": "local",
        "actors.micro_batch": 4,
        "unit_size": 4,
        **{name.replace("__", "."): value for name, value in given.items()},
    }
    return attribute(load_job(None, fields))


def inodes(folder: Path) -> dict[str, tuple[int, int]]:
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in folder.iterdir()}


def test_a_folder_with_boxes_is_packed_attributed_resumed_and_audited(images: Path, tmp_path: Path) -> None:
    listing = [{"id": number, "file_name": f"{number}.jpg"} for number in range(6)]
    boxes = [{"image_id": number, "bbox": [8, 6, 22, 26]} for number in range(6)]
    (tmp_path / "coco.json").write_text(json.dumps({"images": listing, "annotations": boxes}))
    data = {"dataset__images": str(images), "dataset__boxes": str(tmp_path / "coco.json"), "metrics": ["energy"]}
    first = run_job(tmp_path, **data)
    assert (first.exit_code, first.statuses) == (0, {"gradient": {"ok": 6}})
    packed = tmp_path / "run" / "shards"
    assert sorted(path.name for path in packed.iterdir()) == [
        "birds-000000.tar",
        "birds-000000.tar.index.parquet",
        "classes.json",
        "source.parquet",
    ]
    assert json.loads((packed / "classes.json").read_bytes()) == ["owl", "tit"]
    rows = open_run(str(tmp_path / "run")).metrics().to_pylist()
    assert [row["energy"] is not None for row in rows] == [True] * 6
    before = inodes(packed)
    again = run_job(tmp_path, **data, methods=["gradient", "gradient-x-input"])
    assert again.statuses == {"gradient": {"ok": 6}, "gradient-x-input": {"ok": 6}}
    assert inodes(packed) == before
    assert audit(first.run).problems == []
    (packed / "stray.tar").write_bytes(b"")
    (problem,) = audit(first.run).problems
    assert "shards/stray.tar" in problem


def test_a_changed_source_is_refused_and_the_packed_shards_go_on(images: Path, tmp_path: Path) -> None:
    run_job(tmp_path, dataset__images=str(images))
    os.utime(images / "owl" / "1.jpg", (1, 1))
    with pytest.raises(UsageError, match=r"^dataset\.images: found 'owl/1\.jpg was written again since it was packed"):
        run_job(tmp_path, dataset__images=str(images))
    (images / "owl" / "1.jpg").write_bytes(jpeg(9, (50, 50)))
    (images / "owl" / "7.jpg").write_bytes(jpeg(9))
    with pytest.raises(UsageError, match=r"1\.jpg has \d+ bytes, not \d+, since .*and 1 more.*another --out"):
        run_job(tmp_path, dataset__images=str(images))
    shutil.rmtree(images)
    with pytest.raises(UsageError, match=r"gone since it was packed.*--shards '.*/run/shards/\*\.tar'"):
        run_job(tmp_path, dataset__images=str(images))
    more = run_job(tmp_path, dataset__shards=[f"{tmp_path}/run/shards/*.tar"], methods=["gradient", "ig"])
    assert more.statuses == {"gradient": {"ok": 6}, "ig": {"ok": 6}}


def test_a_packing_that_was_cut_off_is_finished(images: Path, tmp_path: Path) -> None:
    run_job(tmp_path, dataset__images=str(images), dataset__shards_out=str(tmp_path / "out"))
    assert not (tmp_path / "run" / "shards").exists()
    before = inodes(tmp_path / "out")
    (tmp_path / "out" / "source.parquet").unlink()
    again = run_job(tmp_path, dataset__images=str(images), dataset__shards_out=str(tmp_path / "out"))
    assert again.units_to_do == 0
    after = inodes(tmp_path / "out")
    assert {name: after[name] for name in before if name != "source.parquet"} == {
        name: before[name] for name in before if name != "source.parquet"
    }
    assert audit(again.run).problems == []


def test_images_without_classes_explain_what_the_network_predicts(images: Path, tmp_path: Path) -> None:
    shutil.move(images / "owl" / "1.jpg", images / "1.jpg")
    with pytest.raises(UsageError, match="--target predicted"):
        run_job(tmp_path, dataset__images=str(images))
    assert not (tmp_path / "run").exists()
    done = run_job(tmp_path, dataset__images=str(images), model__target="predicted")
    assert done.statuses == {"gradient": {"ok": 6}}
    with pytest.raises(UsageError, match="without classes"):
        run_job(tmp_path, dataset__images=str(images))


def test_a_limit_packs_no_more_shards_than_it_needs(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("pack", "packed"):
        monkeypatch.setattr(f"pipeline.shards.{module}.SHARD_SIZE", 2)
    monkeypatch.setattr("pipeline.shards.pack.Packing.__init__.__defaults__", (2, None))
    out = str(tmp_path / "out")
    run_job(tmp_path, dataset__images=str(images), dataset__limit=3, dataset__shards_out=out)
    shards = [f"birds-{number:06d}.tar" for number in range(3)]
    assert sorted(path.name for path in Path(out).glob("*.tar")) == shards[:2]
    run_job(tmp_path, dataset__images=str(images), dataset__shards_out=out, output__path=str(tmp_path / "all"))
    assert sorted(path.name for path in Path(out).glob("*.tar")) == shards


def test_other_files_where_the_run_shall_be_are_refused(images: Path, tmp_path: Path) -> None:
    (tmp_path / "run" / "shards").mkdir(parents=True)
    (tmp_path / "run" / "shards" / "birds-000009.tar").write_bytes(b"somebody's")
    with pytest.raises(UsageError, match=r"birds-000009\.tar"):
        run_job(tmp_path, dataset__images=str(images))
    assert [path.name for path in (tmp_path / "run" / "shards").glob("*")] == ["birds-000009.tar"]
