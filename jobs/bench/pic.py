"""AIC and SIC of one map: ssig and PAIR's `saliency.metrics.pic`, on the same image, random pixels and network.

    ratio of a round = seconds of PAIR / seconds of ssig, in that round, in one thread

PAIR has a call for each of the two curves. ssig shares the images, their sizes and the network's outputs between them,
triangulates once for all channels, and evaluates the network in batches. Both use the plain network in float32.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from jobs.bench import peers
from jobs.bench.networks import Case, network_case, pictures
from jobs.bench.timing import alternate, machine, ratios, summary
from ssig.api import attribute
from ssig.errors import UsageError
from ssig.metrics.information.partial_images import THRESHOLDS, eight_bit, random_pixels
from ssig.registry import METRICS
from ssig.types import Evaluation, evaluation_of

CURVES = ("aic", "sic")
RANDOM = 0.01
LEAST = 0.5  # lowest probability of an image that is measured, as in PAIR's notebook
PROTOCOL = {"preset": "pair", "random_fraction": RANDOM, "min_probability": LEAST}
TOLERANCE = 2e-3
STEPS = 8  # steps of integrated gradients; the map is their magnitude
SPREAD = "min - median - max over the rounds; ratio: PAIR's seconds over ssig's in the same round"

Areas = dict[str, float]


def measure(*, network: str = "lite0", images: int = 8, rounds: int = 3, shards: Sequence[str] = ()) -> dict[str, Any]:
    """Times both sides in turn on the first image that has both curves, and compares the curves of all.

    Args:
        network: one of `jobs.bench.networks.NETWORKS`.
        images: how many maps are compared, those without a curve included.
        rounds: how often each side is timed.
        shards: patterns of shards to take images from.

    Raises:
        UsageError: an unknown network, PAIR is not installed, or no image has both curves.
    """
    peers.package("pair")
    case = network_case(network, pictures(images, shards))
    maps = attribute(case.model, case.images, case.targets, "ig", baseline=case.baselines, steps=STEPS).map.float()
    parts = [evaluation(case.part(row, row + 1), maps[row : row + 1]) for row in range(images)]
    pairs = [(ours(part), theirs(case.model, part)) for part in parts]
    complete = [row for row, (our_areas, _) in enumerate(pairs) if np.isfinite(list(our_areas.values())).all()]
    if not complete:
        raise UsageError("--images", images, "more images: none of these has both curves")
    first = parts[complete[0]]
    sides: dict[str, Callable[[], Areas]] = {
        "ssig": partial(ours, first),
        "pair": partial(theirs, case.model, first),
    }
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        seconds = alternate(sides, rounds)
    finally:
        torch.set_num_threads(threads)
    differences = {name: [difference(first[name], second[name]) for first, second in pairs] for name in CURVES}
    return {
        "network": network,
        "images": f"{images}, {case.source}",
        "map": f"|ig|, {STEPS} steps",
        "rounds": rounds,
        "seconds": {name: summary(values) for name, values in seconds.items()},
        "ratio": summary(ratios(seconds["pair"], seconds["ssig"])),
        "curves": {name: sum(bool(np.isfinite(our_areas[name])) for our_areas, _ in pairs) for name in CURVES},
        "greatest difference of areas": {name: max(values) for name, values in differences.items()},
        "ok": all(value <= TOLERANCE for values in differences.values() for value in values),
        "notes": [SPREAD],
        "peer": peers.release("pair"),
        "machine": machine(),
    }


def evaluation(case: Case, maps: Tensor) -> Evaluation:
    """The images of a case with maps (B, H, W)."""

    def forward(points: Tensor) -> Tensor:
        with torch.inference_mode():
            logits: Tensor = case.model(points)
        return logits

    return evaluation_of(case.images, maps, case.targets, forward)


def ours(batch: Evaluation) -> Areas:
    """ssig's areas for a batch of one image; NaN for a curve that the image does not have."""
    fresh = batch.changed()
    results = {name: METRICS[name].compute(fresh, METRICS[name].parse(PROTOCOL)) for name in CURVES}
    return {name: float(result.columns[f"{name}_abs"][0]) for name, result in results.items()}


def theirs(network: nn.Module, batch: Evaluation) -> Areas:
    """PAIR's areas for a batch of one image; NaN for a curve that it refuses."""
    target = int(batch.targets[0])

    def logits(images: np.ndarray) -> Tensor:
        with torch.inference_mode():
            points = torch.from_numpy(images).movedim(-1, 1).contiguous().to(batch.images) / 255
            curves: Tensor = network(points)
        return curves

    scores: dict[str, peers.Predict] = {
        "aic": lambda images: (logits(images).argmax(dim=1) == target).double().numpy(),
        "sic": lambda images: logits(images).double().softmax(dim=1)[:, target].numpy(),
    }
    image, saliency = eight_bit(batch)[0], batch.maps[0].abs().numpy()
    pixels = random_pixels(batch, RANDOM)[0]
    curves = {name: peers.pair_pic(image, saliency, pixels, scores[name], THRESHOLDS, LEAST) for name in CURVES}
    return {name: float("nan") if result is None else float(result.auc) for name, result in curves.items()}


def difference(first: float, second: float) -> float:
    """Distance of two areas: 0 where neither side has one, infinite where only one has."""
    if np.isnan(first) or np.isnan(second):
        return 0.0 if np.isnan(first) and np.isnan(second) else float("inf")
    return abs(first - second)
