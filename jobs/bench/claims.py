"""Simulations with a known truth for the report's statistics: coverage of intervals, claims about equal methods.

    coverage       share of 95 % intervals that contain the true mean, over many samples
    false claims   two methods that are exchangeable, one column: how often one is called better
    reports        exchangeable methods, many columns: how many reports name a leader, how many call a method better or
                   worse than the reference, and how many such verdicts a report has on average

*Before* is the percentile interval of 2,000 bootstrap samples, without a correction for the number of comparisons: a
claim wherever it excludes 0. *After* is what `pipeline.report.statistics` and `pipeline.report.ranks` do.

Methods are exchangeable: all of a column's images share a difficulty, each method has a part that its columns share,
and the rest is independent,

    z = sqrt(.4) difficulty(image, column) + sqrt(.2) taste(image, method) + sqrt(.4) noise(image, method, column)

and a law turns z into numbers. With *gaps* a method lacks an image of a column the likelier the harder it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from jobs.bench.timing import machine
from pipeline.report.coverage import skewness
from pipeline.report.pairs import paired
from pipeline.report.ranks import lead
from pipeline.report.statistics import ALPHA, CONFIDENCE, holm, intervals

COUNTS = (2, 3, 5, 8, 10, 20, 50, 200)
RESAMPLES = 2000
SIGMAS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0)
TABLE_COUNTS = (10, 20, 50, 100, 200, 500, 1000, 2000, 2001, 5000)
_PASS = 2**21  # numbers drawn at once
# Methods, columns, images, law, whether there are gaps.
REPORTS = (
    (2, 36, 10, "normal", False),
    (2, 36, 20, "normal", False),
    (2, 36, 50, "normal", False),
    (2, 36, 50, "normal", True),
    (2, 36, 50, "lognormal", False),
    (2, 36, 50, "share .93", False),
    (2, 36, 200, "normal", False),
    (31, 36, 50, "normal", False),
    (31, 36, 50, "lognormal", True),
    (31, 36, 50, "share .93", False),
)


@dataclass(frozen=True)
class Law:
    """A law: makes numbers from standard normal ones. `mean` is its mean; `share`: its numbers are 0 or 1."""

    make: Callable[[np.ndarray], np.ndarray]
    mean: float
    share: bool = False


def lognormal(sigma: float) -> Law:
    """exp(sigma z); the normal law itself at 0."""
    return Law(lambda z: np.exp(sigma * z) if sigma else z, float(np.exp(sigma**2 / 2)) if sigma else 0.0)


def bernoulli(share: float) -> Law:
    return Law(lambda z: (z < stats.norm.ppf(share)).astype(np.float64), share, share=True)


LAWS = {
    "normal": lognormal(0.0),
    "lognormal": lognormal(1.0),
    "lognormal, sigma 1.5": lognormal(1.5),
    "share .93": bernoulli(0.93),
    "share .5": bernoulli(0.5),
}


@dataclass(frozen=True)
class Claims:
    """The claims of several reports on exchangeable methods.

    Attributes:
        led: (reports,) bool, whether a leader is named.
        verdicts: (reports,) how often a method is called better or worse than the reference.
    """

    led: np.ndarray
    verdicts: np.ndarray


def measure(samples: int = 10_000, reports: int = 2000, seed: int = 0, table: bool = False) -> dict[str, Any]:
    """The three tables.

    Args:
        samples: number of samples for each law and number of images.
        reports: number of reports of each kind; a tenth if there are many methods.
        seed: random seed.
        table: return the coverage by skewness that `pipeline.report.coverage` stores, in place of the three tables.
    """
    settings = {"samples": samples, "reports": reports, "seed": seed, "machine": machine()}
    if table:
        return {**settings, "reached": [reached(count, samples, seed) for count in TABLE_COUNTS]}
    cases = [(name, count) for name in LAWS for count in COUNTS]
    return {
        **settings,
        "coverage": [_coverage_row(name, count, samples, seed) for name, count in cases],
        "false_claims": [_claims_row(name, count, samples, seed) for name, count in cases],
        "reports_on_equal_methods": [
            _report_row(*case, max(1, reports // (10 if case[0] > 2 else 1)), seed) for case in REPORTS
        ],
    }


def coverage(law: Law, count: int, samples: int, seed: int) -> tuple[float, float]:
    """The share of 95 % intervals of `count` numbers that hold the law's mean, before and after."""
    covered = np.zeros(2)
    for z in _passes(count, samples, seed):
        values = law.make(z)
        before, after = percentile(values, seed), intervals(values, np.full(values.shape[1], law.share))
        covered += [_covered(*before, law.mean), _covered(after.low, after.high, law.mean)]
    before_share, after_share = covered / samples
    return float(before_share), float(after_share)


def false_claims(law: Law, count: int, samples: int, seed: int) -> tuple[float, float]:
    """How often one of two exchangeable methods is called better from `count` images, before and after."""
    claimed = np.zeros(2)
    for z in _passes(count, samples, seed, methods=2):
        first, second = np.split(law.make(z), 2, axis=1)
        low, high = percentile(first - second, seed)
        after = paired(first, second, np.full(first.shape[1], law.share))
        claimed += [((low > 0) | (high < 0)).sum(), (after.p <= ALPHA).sum()]
    before_share, after_share = claimed / samples
    return float(before_share), float(after_share)


def claims(
    methods: int, columns: int, images: int, law: Law, gaps: bool, reports: int, seed: int
) -> tuple[Claims, Claims]:
    """Claims of reports on exchangeable methods, before and after."""
    generator = np.random.default_rng(seed)
    panels = [panel(generator, images, methods, columns, law, gaps) for _ in range(reports)]
    claimed = [
        (*_claims_before(values, number), *_claims_after(values, law.share)) for number, values in enumerate(panels)
    ]
    led_before, verdicts_before, led_after, verdicts_after = (np.array(each) for each in zip(*claimed, strict=True))
    return Claims(led_before, verdicts_before), Claims(led_after, verdicts_after)


def panel(
    generator: np.random.Generator, images: int, methods: int, columns: int, law: Law, gaps: bool = False
) -> np.ndarray:
    """(images, methods, columns) numbers of exchangeable methods."""
    difficulty = generator.normal(size=(images, 1, columns))
    taste = generator.normal(size=(images, methods, 1))
    noise = generator.normal(size=(images, methods, columns))
    values = law.make(np.sqrt(0.4) * difficulty + np.sqrt(0.2) * taste + np.sqrt(0.4) * noise)
    if gaps:
        lacking = 0.3 * stats.norm.cdf(2 * difficulty)
        values[generator.random(values.shape) < lacking] = np.nan
    return values


def percentile(values: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Percentile intervals of the means of columns (N, K), NaN left out."""
    count = len(values)
    draws = np.random.default_rng([seed, count]).integers(count, size=(RESAMPLES, count))
    draws += count * np.arange(RESAMPLES)[:, None]
    weights = np.bincount(draws.ravel(), minlength=RESAMPLES * count).reshape(RESAMPLES, count).astype(np.float64)
    valid = np.isfinite(values)
    size = np.full(values.shape[1], float(count)) if valid.all() else weights @ valid
    tails = [50 * (1 - CONFIDENCE), 50 * (1 + CONFIDENCE)]
    low, high = np.nanpercentile(weights @ np.where(valid, values, 0) / size, tails, axis=0)
    return low, high


def reached(count: int, samples: int, seed: int) -> dict[str, Any]:
    """The coverage of intervals of `count` numbers by their skewness, for laws from the normal to a very skewed one.

    Returns:
        for each lognormal law, the median skewness of its samples, and the share of intervals that hold the mean.
    """
    skews, shares = [], []
    for sigma in SIGMAS:
        law, covered, skewnesses = lognormal(sigma), 0, []
        for z in _passes(count, samples, seed):
            values = law.make(z)
            bounds = intervals(values)
            covered += _covered(bounds.low, bounds.high, law.mean)
            skewnesses.append(skewness(values))
        skews.append(round(float(np.median(np.concatenate(skewnesses))), 2))
        shares.append(round(covered / samples, 3))
    return {"images": count, "skewness": [abs(skew) for skew in skews], "coverage": shares}


def _coverage_row(name: str, count: int, samples: int, seed: int) -> dict[str, Any]:
    before, after = coverage(LAWS[name], count, samples, seed)
    return {"law": name, "N": count, "coverage before": before, "coverage after": after}


def _claims_row(name: str, count: int, samples: int, seed: int) -> dict[str, Any]:
    before, after = false_claims(LAWS[name], count, samples, seed)
    return {"law": name, "N": count, "false claims before": before, "false claims after": after}


def _report_row(
    methods: int, columns: int, images: int, name: str, gaps: bool, reports: int, seed: int
) -> dict[str, Any]:
    before, after = claims(methods, columns, images, LAWS[name], gaps, reports, seed)
    return {
        **{"methods": methods, "columns": columns, "N": images, "law": name + " with gaps" * gaps, "reports": reports},
        **{"lead before": float(before.led.mean()), "lead after": float(after.led.mean())},
        **{"verdicts before": float(before.verdicts.mean()), "verdicts after": float(after.verdicts.mean())},
        **{"any verdict before": float((before.verdicts > 0).mean())},
        **{"any verdict after": float((after.verdicts > 0).mean())},
    }


def _passes(count: int, samples: int, seed: int, methods: int = 1) -> Iterator[np.ndarray]:
    """Standard normal numbers (count, methods k), in passes of k samples."""
    generator = np.random.default_rng([seed, count])
    step = max(1, _PASS // count)
    for start in range(0, samples, step):
        yield generator.normal(size=(count, methods * min(step, samples - start)))


def _covered(low: np.ndarray, high: np.ndarray, mean: float) -> int:
    return int(((low <= mean) & (mean <= high)).sum())


def _claims_before(values: np.ndarray, seed: int) -> tuple[bool, int]:
    """Whether a leader is separated from the runner-up on any column, and how many differences to the first method
    are separated."""
    images, methods, columns = values.shape
    order = np.argsort(np.nanmean(values, axis=0), axis=0)
    every = np.arange(columns)
    ahead = values[:, order[-1], every] - values[:, order[-2], every]
    against = (values[:, 1:] - values[:, :1]).reshape(images, (methods - 1) * columns)
    low, high = percentile(np.concatenate([ahead, against], axis=1), seed)
    return bool((low[:columns] > 0).any()), int(((low > 0) | (high < 0))[columns:].sum())


def _claims_after(values: np.ndarray, share: bool) -> tuple[bool, int]:
    """Whether any column has a leader, and how many verdicts the first method gets, with Holm's correction."""
    leads = [lead([values[:, :, column]], 1, share) for column in range(values.shape[2])]
    led = holm(np.array([column_lead.p for column_lead in leads])) <= ALPHA
    verdicts = holm(np.array([column_lead.pairs.p[1:, 0] for column_lead in leads])) <= ALPHA
    return bool(led.any()), int(verdicts.sum())
