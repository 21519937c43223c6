"""The report of many images: no figure or table of the page holds a point or a row for each of them."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from pipeline.driver.synthetic import SyntheticRun, write_synthetic_run
from pipeline.report import build_report
from pipeline.report.classes import class_means
from pipeline.report.columns import Column, Source
from pipeline.report.comparison import compare
from pipeline.report.distributions import MOST_MARKS, distributions
from pipeline.report.effects import effects
from pipeline.report.image_numbers import ImageNumbers
from pipeline.report.measurements import EFFORT, Measurements, gather, lists
from pipeline.report.statistics import STUDENTISED
from pipeline.run.reader import open_run
from ssig.registry import FAMILIES

FEW, MANY = 2 * MOST_MARKS, STUDENTISED + 500


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """A run of few images and one of many, each with its report."""
    folders = {}
    for images in (FEW, MANY):
        folder = tmp_path_factory.mktemp(str(images))
        write_synthetic_run(folder, SyntheticRun(images, unit_size=1000))
        build_report(str(folder / "run"))
        folders[images] = folder / "run"
    return folders


def test_the_files_of_the_report_are_as_large_for_many_images_as_for_few(runs: dict[int, Path]) -> None:
    for name in ("index.html", "report.md", "report.json"):
        few, many = (len((run / "report" / name).read_bytes()) for run in runs.values())
        assert many == pytest.approx(few, rel=0.1), name


def test_a_mean_curve_is_that_of_all_images(runs: dict[int, Path]) -> None:
    (model,) = json.loads((runs[MANY] / "report" / "report.json").read_text())["models"]
    run = open_run(runs[MANY])
    for curve in model["curves"]:
        values = lists(run, "synthetic", curve["method"], curve["column"])
        assert curve["count"] == len(values) == MANY
        np.testing.assert_allclose(curve["mean"], values.mean(axis=0), rtol=1e-5)
        # Student's interval, of numbers that are uniform on [0, 1).
        width = np.subtract(curve["high"], curve["low"])
        np.testing.assert_allclose(width, 2 * 1.961 * values.std(axis=0, ddof=1) / np.sqrt(MANY), rtol=1e-3)


def test_numbers_take_four_bytes_each_and_lie_column_by_column(runs: dict[int, Path]) -> None:
    found = gather(open_run(runs[MANY]), "synthetic", curves=False)
    assert found.curves == {}
    arrays = [found.values.of_method(0, 0), found.effort.of_method(0, 0)]
    arrays += [found.probability, found.label, found.predicted]
    assert {array.itemsize for array in arrays} == {4}
    assert all(array.strides[0] == 4 for array in arrays)


def numbers_of(images: int, columns: int, methods: int = 3) -> Measurements:
    named = tuple(
        Column(f"c{number}", f"c{number}", Source(f"m{number}"), "higher", headline=True, family=FAMILIES[0])
        for number in range(columns)
    )
    values = ImageNumbers(images, methods, columns)
    for method, column in np.ndindex(methods, columns):
        numbers = np.random.default_rng(method + column).random(images, np.float32)
        values.write(np.arange(images), method, column, numbers)
    effort = ImageNumbers(images, methods, len(EFFORT))
    classes = np.arange(images, dtype=np.int32) % 10
    names = tuple(f"m{number}" for number in range(methods))
    return Measurements("m", names, named, values, effort, classes, classes, classes.astype(np.float32))


def peak_of_statistics(found: Measurements) -> int:
    """Bytes beside the measurements."""
    tracemalloc.start()
    effects(found, compare(found).leads, [])
    distributions(found)
    class_means(found, [])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def test_memory_is_that_of_a_few_columns_however_many_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    images = 50_000
    monkeypatch.setattr("pipeline.report.image_numbers._IN_MEMORY", 4 * images)
    few, many = (peak_of_statistics(numbers_of(images, columns)) for columns in (8, 32))
    assert many < 1.2 * few  # all columns are 4.8 and 19.2 MB


def test_memory_is_that_of_a_column_of_one_method_however_many_images_there_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("pipeline.report.image_numbers._IN_MEMORY", 1)
    monkeypatch.setattr("pipeline.report.image_numbers._RANKED", 2**14)
    few, many = (peak_of_statistics(numbers_of(images, 2, methods=12)) for images in (100_000, 400_000))
    assert many - few < 16 * 300_000  # a column of one method takes 4 bytes an image, one of all methods 48
