"""The report of many images: no figure or table of the page holds a point or a row for each of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from pipeline.driver.synthetic import SyntheticRun, write_synthetic_run
from pipeline.report import build_report
from pipeline.report.distributions import MOST_MARKS
from pipeline.report.measurements import gather, lists
from pipeline.report.statistics import STUDENTISED
from pipeline.run.reader import open_run

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
    arrays = [found.values, found.probability, found.label, found.predicted, *found.effort.values()]
    assert {array.itemsize for array in arrays} == {4}
    assert all(array.strides[0] == 4 for array in arrays)
