"""FiftyOne's format on disk: its documented structure, the photographs as they are, and maps where they belong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from small_runs import do_units

from pipeline.report.export import fiftyone
from pipeline.report.export.fiftyone import placed
from pipeline.report.export.fiftyone_fields import field_name, object_id
from pipeline.report.export.writing import Wanted, export, opened
from ssig.errors import UsageError


@pytest.fixture(scope="module")
def printed() -> list[str]:
    return []


@pytest.fixture(scope="module")
def folder(written_run: Any, tmp_path_factory: pytest.TempPathFactory, printed: list[str]) -> Path:
    to = tmp_path_factory.mktemp("fiftyone") / "out"
    files = export(opened(str(written_run.path)), str(to), Wanted("fiftyone"), printed.append)
    assert [path.name for path in files] == ["data", "fields", "metadata.json", "samples.json"]
    return to


@pytest.fixture(scope="module")
def samples(folder: Path) -> list[dict[str, Any]]:
    records: list[dict[str, Any]] = json.loads((folder / "samples.json").read_text())["samples"]
    return records


def test_a_sample_has_what_fiftyone_writes_of_one(samples: list[dict[str, Any]]) -> None:
    assert len(samples) == 24
    for sample in samples:
        assert {"_id", "filepath", "tags", "metadata", "_media_type", "_rand"} <= set(sample)
        assert set(sample["_id"]) == {"$oid"}
        assert len(sample["_id"]["$oid"]) == 24
        assert 0.999 <= sample["_rand"] < 1
    labels = [value for sample in samples for value in sample.values() if isinstance(value, dict) and "_cls" in value]
    assert {label["_cls"] for label in labels} == {"Classification", "Detections", "Heatmap"}
    ids = [label["_id"]["$oid"] for label in labels if "_id" in label] + [s["_id"]["$oid"] for s in samples]
    assert len(set(ids)) == len(ids)


def test_every_field_is_declared_with_its_class(folder: Path, samples: list[dict[str, Any]]) -> None:
    metadata = json.loads((folder / "metadata.json").read_text())
    assert (metadata["version"], metadata["media_type"]) == ("1.4.0", "image")
    assert metadata["default_classes"] == ["tench", "<b>goldfish</b>", "great white shark"]
    declared = {each["db_field"]: each for each in metadata["sample_fields"]}
    used = {name for sample in samples for name in sample} - {"_media_type", "_rand"}
    assert used <= set(declared)
    for sample in samples:
        for name, value in sample.items():
            if isinstance(value, dict) and "_cls" in value:
                assert declared[name]["embedded_doc_type"] == f"fiftyone.core.labels.{value['_cls']}"
            elif isinstance(value, float) and not name.startswith("_"):
                assert declared[name]["ftype"].endswith(".FloatField")
    assert "higher" not in declared["ssig"]["description"]


def test_photographs_are_copied_as_the_shards_hold_them(
    written_run: Any, folder: Path, samples: list[dict[str, Any]], printed: list[str]
) -> None:
    for sample, written in zip(samples, written_run.samples, strict=True):
        assert (folder / sample["filepath"]).read_bytes() == written.jpeg
    assert any(line.startswith("copies 24 photographs") and "are free" in line for line in printed)


def test_classes_status_and_boxes(written_run: Any, samples: list[dict[str, Any]]) -> None:
    sample = samples[1]
    assert (sample["key"], sample["status"], sample["tags"]) == ("photo_0001", "ok", [])
    assert sample["ground_truth"]["label"] == "<b>goldfish</b>"
    assert "confidence" not in sample["ground_truth"]
    assert sample["target"]["confidence"] == pytest.approx(0.8)
    x0, y0, x1, y1 = written_run.samples[1].boxes[0]
    box = sample["objects"]["detections"][0]["bounding_box"]
    np.testing.assert_allclose(box, [x0 / 60, y0 / 48, (x1 - x0) / 60, (y1 - y0) / 48])
    assert (samples[3]["status"], samples[3]["tags"]) == ("undecodable", ["undecodable"])
    assert "ssig" not in samples[3]


def test_numbers_are_those_of_the_run(written_run: Any, samples: list[dict[str, Any]]) -> None:
    stored = written_run.values["ssig"]["insertion"]
    for sample, value in zip(samples, stored, strict=True):
        assert sample["ssig_insertion"] == (None if np.isnan(value) else pytest.approx(value, rel=1e-5))


def test_heatmaps_lie_on_the_whole_photograph(written_run: Any, folder: Path, samples: list[dict[str, Any]]) -> None:
    """The network saw the middle 48 x 48 pixels of 60 x 48, in 16 x 16."""
    path = samples[1]["ssig"]["map_path"]
    assert path.startswith("fields/ssig/")
    pixels = np.asarray(Image.open(folder / path))
    assert (pixels.dtype, pixels.shape) == (np.uint8, (16, 20))
    assert not pixels[:, :2].any()
    assert not pixels[:, 18:].any()
    values = written_run.maps["ssig"][1]
    shares = np.clip(values / np.percentile(np.abs(values), 99.5), 0, 1)
    np.testing.assert_allclose(pixels[:, 2:18] / 255, shares, atol=0.01)


def test_what_speaks_against_the_target_has_its_own_heatmap(
    written_run: Any, folder: Path, samples: list[dict[str, Any]]
) -> None:
    name = field_name(written_run.samples and "ig_50 & #1 {x}~")
    towards, against = (
        np.asarray(Image.open(folder / samples[1][part]["map_path"]))[:, 2:18] for part in (name, f"{name}_against")
    )
    assert not ((towards > 0) & (against > 0)).any()
    signed = towards.astype(float) - against
    stored = written_run.maps[next(label for label in written_run.maps if label != "ssig")][1]
    assert np.corrcoef(signed.ravel(), stored.ravel())[0, 1] > 0.98
    assert "ssig_against" not in samples[1]


def test_where_there_is_no_room_nothing_is_written(
    written_run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines: list[str]
) -> None:
    monkeypatch.setattr(fiftyone.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 1000})())
    with pytest.raises(UsageError, match="a disk with"):
        export(opened(str(written_run.path)), str(tmp_path / "out"), Wanted("fiftyone"), lines.append)
    assert list(tmp_path.iterdir()) == []


def test_two_models_have_predictions_of_their_own(
    make_shard: Any, make_job: Any, tmp_path: Path, lines: list[str]
) -> None:
    shard = make_shard(count=2)
    for model in ("networks:tiny", "networks:raises_on_white"):
        run = do_units(make_job(shard, model__name=model, methods=["gradient"], metrics=["completeness"]))
    export(opened(str(run)), str(tmp_path / "out"), Wanted("fiftyone"), lines.append)
    sample = json.loads((tmp_path / "out" / "samples.json").read_text())["samples"][0]
    names = {name for name in sample if name.endswith(("_prediction", "_target"))}
    models = ("tiny", "raises_on_white")
    assert names == {f"networks_{model}_{kind}" for model in models for kind in ("prediction", "target")}
    declared = json.loads((tmp_path / "out" / "metadata.json").read_text())["sample_fields"]
    fields = [each["name"] for each in declared]
    assert names <= set(fields)
    assert len(set(fields)) == len(fields)


@pytest.mark.parametrize(("text", "name"), [("ig-50", "ig_50"), ("50", "x_50"), ("$x.y", "x_y"), ("é", "x")])
def test_names_of_fields(text: str, name: str) -> None:
    assert field_name(text) == name


def test_ids_are_the_same_each_time() -> None:
    assert object_id("a") == object_id("a") != object_id("b")


def test_a_crop_beyond_the_photograph_is_cut() -> None:
    picture = placed(np.ones((4, 4)), [-10, 0, 30, 40], (20, 40))
    assert picture.size == (2, 4)
    assert np.asarray(picture).min() == 255
