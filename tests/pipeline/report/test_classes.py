"""Means by class: which classes have them, in which order, and that nothing is concluded from them."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from measured import DOWN, UP, measured

from pipeline.report.classes import class_means
from pipeline.report.measurements import Measurements


def labelled(labels: list[int], missing: int = 0) -> Measurements:
    """Two methods and two columns, image i with the numbers i, i + 1 (columns) and 100 more (methods)."""
    images = np.arange(len(labels), dtype=np.float32)
    values = images[:, None, None] + np.array([0, 100])[None, :, None] + np.array([0, 1])[None, None, :]
    values[:missing, 0, 0] = np.nan
    measurements = measured(values.astype(np.float32), (UP, DOWN), ("ssig", "ig"))
    measurements.label = np.array(labels)
    return measurements


def test_classes_with_the_most_images_come_first_and_small_ones_not_at_all() -> None:
    classes = class_means(labelled([7] * 10 + [3] * 12 + [5] * 9 + [4] * 12 + [-1] * 30), ["a", "b", "c", "d"])
    assert classes is not None
    assert [(row.number, row.name, row.count) for row in classes.rows] == [
        (3, "d", 12),
        (4, "class 4", 12),
        (7, "class 7", 10),
    ]
    assert (classes.count, classes.largest) == (4, 12)


def test_a_mean_is_that_of_the_images_of_the_class_with_a_number() -> None:
    classes = class_means(labelled([2, 1] * 12, missing=3), [])
    assert classes is not None
    (two,) = [row for row in classes.rows if row.number == 2]
    assert two.means["ig"]["higher"].mean == pytest.approx(100 + np.arange(0, 24, 2).mean())
    first = two.means["ssig"]["higher"]
    assert (two.count, first.count) == (12, 10)
    assert first.mean == pytest.approx(np.arange(4, 24, 2).mean())
    assert first.low is not None
    assert first.high is not None
    assert first.low < first.mean < first.high


def test_without_labels_there_are_no_classes() -> None:
    assert class_means(labelled([-1] * 12), []) is None


def test_the_report_shows_them_without_a_verdict(wide_run: Any) -> None:
    folder = wide_run.path / "report"
    page, prose = (Path(folder / name).read_text() for name in ("index.html", "report.md"))
    for text in (page, prose):
        assert "3 of 3 classes have 10 images or more" in text
        assert "No verdict is given per class" in text
    section = page[page.index('<h2 id="classes">') :].split("</section>")[0]
    assert "14 (few)" in section
    assert "better" not in section
    with (folder / "tables" / "classes.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["class_name"] for row in rows} == {"tench", "<b>goldfish</b>", "great white shark"}
    assert len(rows) == 3 * 9 * 6


def test_small_classes_are_said_to_be_small(finished_run: Any) -> None:
    page = (finished_run.path / "report" / "index.html").read_text()
    assert "No class has 10 images, so there are no means by class: the largest of 3 classes has 8." in page
