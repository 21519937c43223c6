"""Figures as files: fonts are embedded as outlines, and strips show the maps that are stored."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image
from small_runs import do_units

from pipeline.report.exhibits import StoredMaps
from pipeline.report.export.figures import samples_named, strip_figure
from pipeline.report.export.writing import Wanted, export, opened
from pipeline.run.reader import open_run
from ssig.errors import UsageError


@pytest.fixture(scope="module")
def folder(written_run: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    to = tmp_path_factory.mktemp("figures") / "out"
    export(opened(str(written_run.path)), str(to), Wanted("figures", samples=("photo_0001", "photo_0003")), str)
    return to


def test_every_figure_is_there_twice_and_has_a_caption(folder: Path) -> None:
    names = {path.stem for path in folder.glob("*.pdf")}
    assert names == {path.stem for path in folder.glob("*.svg")}
    assert {"forest", "curves-insertion", "curves-deletion", "maps-1-photo-0001", "maps-2-photo-0003"} <= names
    captions = (folder / "captions.md").read_text()
    assert all(f"**{name}.** " in captions for name in names)
    assert "N 22" in captions


def test_fonts_of_a_pdf_are_embedded_as_outlines(folder: Path) -> None:
    for path in folder.glob("*.pdf"):
        data = path.read_bytes()
        assert b"/FontFile2" in data
        assert b"/Type3" not in data
        assert b"/CreationDate" not in data


def test_an_svg_is_well_formed_whatever_a_label_holds(folder: Path) -> None:
    for path in folder.glob("*.svg"):
        root = ElementTree.parse(path).getroot()
        assert root.tag.endswith("svg")
    texts = "".join(ElementTree.parse(folder / "forest.svg").getroot().itertext())
    assert r"ig_50 & #1 {x" in texts


def test_a_strip_shows_the_photograph_and_each_map(written_run: Any) -> None:
    run = open_run(written_run.path)
    (expected,) = samples_named(run, ["photo_0001"])
    figure, caption = strip_figure(run, run.commits[0].model, expected)
    assert [axes.get_title() for axes in figure.axes] == ["photograph", "ssig", "ig_50 & #1 {x}~\\%…"]
    assert all(len(axes.images) == 1 for axes in figure.axes)
    assert "<b>goldfish</b> (probability 0.800)" in caption
    stored = StoredMaps(run, run.commits[0].model, "ssig").read(expected)
    assert stored.values is not None
    np.testing.assert_allclose(stored.values, written_run.maps["ssig"][1], rtol=2e-3, atol=2e-3)


def test_a_sample_without_a_map_says_so(written_run: Any) -> None:
    run = open_run(written_run.path)
    (expected,) = samples_named(run, ["photo_0003"])  # it cannot be decoded
    figure, _ = strip_figure(run, run.commits[0].model, expected)
    assert [len(axes.images) for axes in figure.axes] == [0, 0, 0]
    assert figure.axes[1].texts[0].get_text() == "no map stored"


def test_samples_are_named_by_key_or_by_shard_and_key(written_run: Any) -> None:
    run = open_run(written_run.path)
    (row,) = samples_named(run, ["shard-1.tar:photo_0013"])
    assert (row["shard"], row["key"]) == ("shard-1.tar", "photo_0013")
    with pytest.raises(UsageError, match="did you mean photo_0013"):
        samples_named(run, ["photo_013"])
    assert "manifest" not in vars(run)  # it is read in pieces


def test_a_key_of_two_samples_is_refused_with_both(make_shard: Any, make_job: Any) -> None:
    run = open_run(do_units(make_job(make_shard("a.tar", 2), make_shard("b.tar", 2), metrics=["completeness"])))
    with pytest.raises(UsageError, match=r"a\.tar:image0001, b\.tar:image0001"):
        samples_named(run, ["image0001"])
    assert len(samples_named(run, ["b.tar:image0001"])) == 1


def test_many_maps_are_laid_out_in_rows_of_equal_length() -> None:
    from pipeline.report.export.figures import _tiled

    tiles: Any = [(f"m{number}", Image.new("RGB", (8, 8)), "") for number in range(11)]
    places = [axes.get_position() for axes in _tiled(tiles, "words", (8, 8)).axes]
    assert len({round(place.y0, 3) for place in places}) == 2
    assert len({round(place.x0, 3) for place in places}) == 6
