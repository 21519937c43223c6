"""How often the interval of a rank correlation over methods holds the truth, on numbers like the study's.

The published numbers of 100 images stand for all images there are: their rank correlation is the truth, and 25 or 100
images are drawn from them.
"""

from __future__ import annotations

import numpy as np
import pytest

from jobs.study.data import MEASURES, Panel, Study
from jobs.study.design import CONTROLS
from jobs.study.inference import rank_correlation
from jobs.study.labels import is_setting
from jobs.study.page import DATA_FOLDER

REPEATS = 60
PAIRS = (("gap", "diffid"), ("gap", "certainty"), ("insertion", "deletion"), ("deletion", "certainty"))


@pytest.mark.slow
@pytest.mark.parametrize(("images", "least"), [(25, 0.86), (100, 0.91)])
def test_intervals_of_rank_correlations_hold_the_truth_nearly_as_often_as_they_say(images: int, least: float) -> None:
    """.92 at 25 images and .95 at 100 over these pairs; the bounds are three standard errors lower."""
    held = [
        share
        for network in ("mobilenetv2", "vit-tiny")
        for share in shares_held(panel_of(network), images, np.random.default_rng(images))
    ]
    assert np.mean(held) >= least


def panel_of(network: str) -> Panel:
    """Methods under their own names with numbers of all images, without controls."""
    panel = Study(DATA_FOLDER).panel("core", network)
    assert panel is not None
    kept = panel.everywhere(panel.images)
    return panel.some([name for name in kept if not is_setting(name) and name not in CONTROLS])


def shares_held(panel: Panel, images: int, draws: np.random.Generator) -> list[float]:
    """Of each pair of measures, the share of draws whose interval holds the correlation of all images."""
    found = []
    for columns in PAIRS:
        first, second = (turned(panel, column) for column in columns)
        truth = rank_correlation(first, second)[0].mean
        bounds = []
        for _ in range(REPEATS):
            drawn = draws.integers(len(first), size=images)
            estimate, _ = rank_correlation(first[drawn], second[drawn])
            bounds.append((estimate.low, estimate.high))
        low, high = np.array(bounds).T
        found.append(float(((low <= truth + 1e-9) & (truth - 1e-9 <= high)).mean()))
    return found


def turned(panel: Panel, column: str) -> np.ndarray:
    better = next(measure.better for measure in MEASURES if measure.column == column)
    return better * panel.columns[column]
