"""How many samples `samples: auto` saves, against a fixed number that is enough for nearly all images.

    saving = 1 - mean of the samples drawn until each image's error met the tolerance
                 / least fixed number whose error meets it for 95 % of the images

Only that fixed number gives the same accuracy without `auto`. Both sides have the same error:

    standard-error  the one that is reported with every map, mean standard error over mean |map|
    spearman        1 - rank correlation of the maps of two halves of the samples, stepped up to all of them; a fixed
                    number n is given two maps of n / 2 independent samples, and images that drew as many samples as
                    they may count as not within the tolerance
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from jobs.bench.networks import ready_case
from jobs.bench.timing import machine
from ssig.api import attribute
from ssig.errors import UsageError
from ssig.estimators.adaptive_sampling import CRITERIA, split_half_error
from ssig.registry import METHODS
from ssig.types import Attribution

SHARE = 0.95
ENOUGH = 0.25
EVERY = 4


def measure(
    network: str = "lite0",
    method: str = "ssig",
    images: int = 50,
    tolerance: float = 0.1,
    sampler: str | None = None,
    criterion: str = CRITERIA[0],
    shards: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Samples with `auto` and with a fixed number, for one tolerance.

    Args:
        network: one of `jobs.bench.networks.NETWORKS`.
        method: one that takes `samples: auto`.
        images: how many.
        tolerance: error to reach.
        sampler: sampler to use; None for the method's default.
        criterion: which error, one of `CRITERIA`.
        shards: where the images come from.
    """
    if criterion not in CRITERIA:
        raise UsageError("criterion", criterion, CRITERIA)
    law: dict[str, Any] = {} if sampler is None else {"sampler": sampler}
    rule = {**law, "samples": "auto", "tolerance": tolerance, "criterion": criterion}
    most = METHODS[method].parse(rule).most
    case = ready_case(network, images, shards or ())

    def explain(**options: Any) -> Attribution:
        return attribute(case.replica, case.images, case.targets, method, **options)

    def fixed(count: int) -> float:
        if criterion == "spearman":
            halves = [explain(**law, samples=count // 2, seed=seed).map for seed in (0, 1)]
            return float((split_half_error(*halves) <= tolerance).double().mean())
        return _share(explain(**law, samples=count), tolerance)

    adaptive = explain(**rule)
    drawn = adaptive.gradient_evaluations.double()
    enough, tried = _least(fixed, float(drawn.quantile(SHARE)))
    saving = 1 - float(drawn.mean()) / enough
    within = _share(adaptive, tolerance) if criterion != "spearman" else float((drawn < most).double().mean())
    return {
        "network": network,
        "method": method if sampler is None else f"{method}, sampler {sampler}",
        "images": f"{images}, {case.source}",
        "criterion": criterion,
        "tolerance": tolerance,
        "samples drawn, mean": float(drawn.mean()),
        "samples drawn, least - median - most": [float(drawn.quantile(q)) for q in (0, 0.5, 1)],
        "images within the tolerance": within,
        "fixed numbers": [{"samples": count, "images within the tolerance": tried[count]} for count in sorted(tried)],
        "fixed number for 95 % of the images": enough,
        "saving": saving,
        "machine": machine(),
        "ok": saving >= ENOUGH,
    }


def _least(share: Callable[[int], float], start: float) -> tuple[int, dict[int, float]]:
    """The least number of samples that is enough for `SHARE` of the images, and the share of each number tried.

    Args:
        share: of the images for which a number of samples is enough.
        start: where nearly all images stopped by themselves.
    """
    tried: dict[int, float] = {}

    def suffices(count: int) -> bool:
        if count not in tried:
            tried[count] = share(count)
        return tried[count] >= SHARE

    short, enough = 0, _rounded(start)
    while not suffices(enough):
        short, enough = enough, _rounded(1.25 * enough)
    while enough - short > EVERY:
        between = _rounded((short + enough) / 2 - EVERY / 2)
        short, enough = (short, between) if suffices(between) else (between, enough)
    return enough, tried


def _rounded(count: float) -> int:
    return max(EVERY, EVERY * math.ceil(count / EVERY))


def _share(result: Attribution, tolerance: float) -> float:
    """Share of the images whose error meets the tolerance."""
    errors = result.standard_error_mean
    if errors is None:
        raise ValueError("a method without randomness has no sampling error")
    return float((errors <= tolerance).double().mean())
