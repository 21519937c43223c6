"""How alike maps are, of the samples that a seed chooses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.stats import spearmanr

from pipeline.report.compare.maps import alike, expected, likenesses
from pipeline.report.compare.matching import common_samples, pairs
from pipeline.report.exhibits import StoredMaps
from pipeline.run.reader import open_run


def test_likeness_is_the_rank_correlation_and_the_cosine() -> None:
    generator = np.random.default_rng(0)
    first, second = generator.normal(size=(2, 6, 5))
    correlation, cosine = alike(first, second)
    assert correlation == pytest.approx(spearmanr(first.ravel(), second.ravel()).statistic)
    assert cosine == pytest.approx((first * second).sum() / np.sqrt((first**2).sum() * (second**2).sum()))
    assert alike(first, 3 * first) == pytest.approx((1, 1))
    assert alike(first, -first) == pytest.approx((-1, -1))
    assert alike(first, np.ones((6, 5)))[0] is None
    assert alike(first, np.zeros((6, 5))) == (None, None)


def test_the_most_changed_come_first(two_runs: tuple[Path, Path]) -> None:
    """Noise grows with the number of the image."""
    first, second = map(open_run, two_runs)
    common, (paired, _) = common_samples(first, second), pairs(first, second)
    result = likenesses(first, second, paired, common, 100, 0)
    assert len(result.compared) == 44
    assert result.left_out == {"no map stored in one of the runs": 4}
    keys = [expected(first, int(common.first[each.position]))["key"] for each in result.most_changed]
    assert len(keys) == len(set(keys)) == 22
    places = [int(key[-4:]) for key in keys]
    assert np.corrcoef(places, np.arange(22))[0, 1] < -0.9
    assert places[-1] == 0
    for each in result.compared[:3]:
        stored = [
            StoredMaps(run, each.pair.first_model, each.pair.method).read(expected(run, each.position)).values
            for run in (first, second)
        ]
        correlation = spearmanr(*(values.ravel() for values in stored if values is not None)).statistic
        assert each.rank_correlation == pytest.approx(correlation, abs=1e-6)


def test_a_seed_chooses_the_same_samples_again(two_runs: tuple[Path, Path]) -> None:
    first, second = map(open_run, two_runs)
    common, (paired, _) = common_samples(first, second), pairs(first, second)
    drawn = [
        tuple(dict.fromkeys(each.position for each in likenesses(first, second, paired, common, 6, seed).compared))
        for seed in (0, 0, 1)
    ]
    assert drawn[0] == drawn[1] != drawn[2]
    assert len(drawn[0]) <= 6
    assert likenesses(first, second, paired, common, 0, 0).compared == ()
