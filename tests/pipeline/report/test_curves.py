"""Mean curves and their intervals."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.report.curves import mean_curves
from pipeline.report.measurements import gather, lists
from pipeline.run.reader import open_run

MODEL = "small & quick"


@pytest.fixture
def drawn(finished_run):
    run = open_run(finished_run.path)
    return run, mean_curves(run, gather(run, MODEL))


def test_mean_and_band_are_of_the_images_that_have_a_curve(drawn):
    run, found = drawn
    assert [(curve.metric, curve.method) for curve in found] == [
        ("insertion", "ssig"),
        ("insertion", "ig/50"),
        ("deletion", "ssig"),
        ("deletion", "ig/50"),
    ]
    values = lists(run, MODEL, "ssig", "insertion_curve")
    np.testing.assert_allclose(found[0].mean, np.nanmean(values, axis=0), atol=1e-6)
    assert found[0].count == 22
    assert all(low <= mean <= high for low, mean, high in zip(found[0].low, found[0].mean, found[0].high, strict=True))


def test_the_axis_is_the_fraction_of_pixels_of_the_metric(drawn):
    fraction = drawn[1][0].fraction
    # 28 steps of 16 x 16 pixels: whole pixels, from none to all.
    assert fraction == [step * 256 // 28 / 256 for step in range(29)]
