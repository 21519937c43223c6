"""The pictures: which images are chosen, where the photograph comes from, how maps are coloured."""

from __future__ import annotations

import base64
import io
import json
from dataclasses import replace

import numpy as np
import pytest
from measured import stored_numbers
from PIL import Image

from pipeline.report.descriptions import photograph_text, tile_text
from pipeline.report.gallery import gallery
from pipeline.report.measurements import gather
from pipeline.run.reader import open_run

MODEL = "small & quick"


def pixels(uri: str) -> np.ndarray:
    assert uri.startswith("data:image/webp;base64,")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))))


def shown(fake_run):
    run = open_run(fake_run.path)
    return gallery(run, gather(run, MODEL))


def test_best_median_and_worst_by_the_reference_methods_gap(finished_run):
    found = shown(finished_run)
    gap = finished_run.values["ssig"]["insertion_deletion_gap"]
    order = [index for index in np.argsort(-gap, kind="stable") if np.isfinite(gap[index])]
    assert found.column == "insertion_deletion_gap"
    assert [item.rank for item in found.exhibits] == ["best", "median", "worst"]
    expected = [order[0], order[len(order) // 2], order[-1]]
    assert [item.key for item in found.exhibits] == [f"photo_{index:04d}" for index in expected]
    for item, index in zip(found.exhibits, expected, strict=True):
        assert [tile.value for tile in item.tiles] == pytest.approx(
            [finished_run.values[method]["insertion_deletion_gap"][index] for method in ("ssig", "ig/50")], abs=1e-6
        )


def test_the_photograph_is_the_crop_and_its_box_lies_on_the_object(finished_run):
    for item in shown(finished_run).exhibits:
        picture = pixels(item.photograph)
        assert picture.shape == (item.size[1], item.size[0], 3) == (224, 224, 3)
        ((x, y, width, height),) = item.boxes
        inside = picture[int(y) + 6 : int(y + height) - 6, int(x) + 6 : int(x + width) - 6]
        assert inside.mean() > picture.mean() + 30
        backdrop = pixels(item.backdrop).astype(int)
        assert backdrop.shape == picture.shape
        assert np.ptp(backdrop, axis=2).max() < 8
        assert backdrop.min() > 140


def test_names_come_from_the_categories(finished_run):
    item = shown(finished_run).exhibits[0]
    known = ["tench", "<b>goldfish</b>", "great white shark"]
    assert item.label == item.target == known[int(item.key[-4:]) % 3]
    assert item.probability == pytest.approx(0.8)


def test_signed_and_magnitude_maps_are_told_apart(finished_run):
    for item in shown(finished_run).exhibits:
        assert [tile.signed for tile in item.tiles] == [False, True]


def test_an_unreadable_shard_is_said_in_place_of_the_photograph(fake_run):
    for path in fake_run.path.parent.glob("*.tar"):
        path.unlink()
    for item in shown(fake_run).exhibits:
        assert item.photograph is item.backdrop is None
        assert "shard cannot be read" in item.missing
        assert all(tile.picture for tile in item.tiles)


def test_a_shard_that_changed_is_not_shown(fake_run):
    for path in fake_run.path.parent.glob("*.tar"):
        path.write_bytes(path.read_bytes() + b"\0")
    assert all("as it was when the run began" in item.missing for item in shown(fake_run).exhibits)


def test_a_run_with_one_image_shows_it_once(finished_run):
    run = open_run(finished_run.path)
    found = gather(run, MODEL)
    values = np.concatenate(list(found.values.pieces_of_images(range(len(found.columns)))))
    values[1:] = np.nan
    assert [item.rank for item in gallery(run, replace(found, values=stored_numbers(values))).exhibits] == ["best"]
    assert gallery(run, replace(found, values=stored_numbers(np.full_like(values, np.nan)))) is None


def test_an_uncommitted_map_is_said_to_be_missing(fake_run):
    for path in (fake_run.path / "commits").rglob("method=ig*/*.json"):
        path.write_text(json.dumps({**json.loads(path.read_text()), "fingerprint": "another"}))
    for item in shown(fake_run).exhibits:
        assert [tile.missing for tile in item.tiles] == ["", "no map stored"]


def test_the_first_screen_shows_maps_of_the_median_image_controls_last(finished_run):
    found = shown(finished_run)
    assert found.typical.rank == "median"
    assert [(number, tile.method) for number, tile in found.shown([])] == [(1, "ssig"), (2, "ig/50")]
    assert [(number, tile.method) for number, tile in found.shown(["ssig"])] == [(2, "ig/50"), (1, "ssig")]
    item = found.typical
    many = replace(found, exhibits=(replace(item, tiles=(replace(item.tiles[0], picture=None), *item.tiles * 5)),))
    assert [number for number, _ in many.shown([])] == [2, 3, 4, 5, 6]


def test_no_picture_stands_alone_in_the_last_row(finished_run):
    item = shown(finished_run).typical
    for maps in range(1, 32):
        columns = replace(item, tiles=item.tiles[:1] * maps).columns
        assert columns in (3, 4)
        assert (1 + maps) % columns != 1 or maps % 12 == 0


def test_pictures_are_described(finished_run):
    item = shown(finished_run).exhibits[0]
    assert photograph_text(item) == f"Photograph {item.key}: labelled {item.label}, predicted {item.predicted}."
    texts = [tile_text(tile, item, "Insertion AUC") for tile in item.tiles]
    assert texts[0].startswith(f"ssig: map of magnitudes of {item.key} for {item.target}; Insertion AUC 0.")
    assert texts[1].startswith(f"ig/50: signed map of {item.key}")
