"""The engine against a peer in one process: gradients per second, the ratio of each round, how far the maps differ.

Both sides explain the same logits of the same images from the same baseline with equally many gradients. The peer runs
the plain network in float32 at its fastest setting, which is measured first. ssig runs its optimised replica. The
search for settings and the first call of each side are not timed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from scipy.stats import spearmanr
from torch import Tensor

from jobs.bench import peers
from jobs.bench.networks import Case, load, network_case, pictures
from jobs.bench.peers import Setting
from jobs.bench.timing import Timer, alternate, machine, ratios, summary
from ssig.acceleration.allocator import keep_memory, usual_memory
from ssig.acceleration.ready_replica import ready_replica
from ssig.api import attribute
from ssig.engine.replica import Replica
from ssig.errors import UsageError
from ssig.estimators.integrands import readout
from ssig.registry import METHODS
from ssig.types import SCORE_AND_GRADIENT, Attribution

SIZES = (1, 2, 4, 8, 16, 32)
SEARCH_ROUNDS = 3
SPREAD = "min - median - max over the rounds; ratio: ssig's rate over the peer's in the same round"
BARE = "bare loop"
CALLED = "ssig.attribute"
PLAIN = "the peer runs the network as loaded: eager, contiguous, float32"
RANDOM = "the two sides draw different noise, so only ranks are compared"


@dataclass(frozen=True)
class Comparison:
    """A method of ssig and the peer's function for it.

    Attributes:
        theirs: `(case, steps, setting)` to attributions (B, C, H, W).
        options: number of steps -> options of ssig's method with which both compute the same.
        sizes: points that the peer can evaluate at once.
        groups: whether the peer takes several images in one call.
        random: whether each side draws its own noise.
    """

    theirs: Callable[[Case, int, Setting], Tensor]
    options: Callable[[int], dict[str, Any]]
    sizes: tuple[int, ...] = SIZES
    groups: bool = False
    random: bool = False


COMPARISONS: dict[tuple[str, str], Comparison] = {
    ("captum", "ig"): Comparison(
        peers.captum_ig, lambda steps: {"steps": steps, "rule": "gauss-legendre"}, groups=True
    ),
    ("pair", "ig"): Comparison(peers.pair_ig, lambda steps: {"steps": steps, "rule": "endpoints"}),
    ("pair", "guided-ig"): Comparison(peers.pair_guided_ig, lambda steps: {"steps": steps}, sizes=(1,)),
    ("pair", "blur-ig"): Comparison(peers.pair_blur_ig, lambda steps: {"steps": steps, **peers.BLUR}),
    ("pair", "smoothgrad"): Comparison(
        peers.pair_smoothgrad, lambda steps: {"samples": steps, "sigma": peers.NOISE}, sizes=(1,), random=True
    ),
}


def measure(
    *,
    network: str = "lite0",
    precision: str = "fp32",
    peer: str = "captum",
    method: str = "ig",
    images: int = 8,
    steps: int = 32,
    rounds: int = 5,
    shards: Sequence[str] = (),
) -> dict[str, Any]:
    """Times both sides in turn and compares their maps.

    Args:
        network: one of `jobs.bench.networks.NETWORKS`.
        precision: of ssig's network.
        peer, method: a key of `COMPARISONS`.
        images, steps: how many images, and gradients for each.
        rounds: how often each side is timed.
        shards: patterns of shards to take images from.

    Raises:
        UsageError: an unknown choice, a peer that is not installed, or too few images.
    """
    comparison = _comparison(peer, method)
    peers.package(peer)
    options = comparison.options(steps)
    readout_name = METHODS[method].parse(options).readout
    case = network_case(network, pictures(images, shards))
    model = load(network, precision)
    replica = ready_replica(model)
    usual_memory()
    run_ours, run_bare = ours(replica, case, method, options), partial(bare, replica, case, steps)
    run_called = partial(attribute, model, case.images, case.targets, method, baseline=case.baselines, **options)
    setting = best_setting(comparison, case, steps)
    run_theirs = partial(comparison.theirs, case, steps, setting)
    maps = run_ours().map.float(), readout(readout_name, run_theirs()).float()
    run_called()  # which makes the network ready
    seconds = alternate({"ssig": run_ours, CALLED: run_called, peer: run_theirs, BARE: run_bare}, rounds)
    gradients = images * steps
    return {
        "network": network,
        "method": method,
        "images": f"{images}, {case.source}",
        "gradients": f"{steps} for each image",
        "rounds": rounds,
        "sides": [
            _side("ssig", precision, f"{replica.micro_batch} points", gradients, seconds["ssig"]),
            _side(CALLED, precision, "its own", gradients, seconds[CALLED]),
            _side(peers.release(peer), "fp32", _text(setting), gradients, seconds[peer]),
            _side(BARE, precision, f"{replica.micro_batch} points", gradients, seconds[BARE]),
        ],
        "ratio": summary(ratios(seconds[peer], seconds["ssig"])),
        f"ratio of {CALLED}": summary(ratios(seconds[peer], seconds[CALLED])),
        "ratio of the bare loop": summary(ratios(seconds[peer], seconds[BARE])),
        "difference": _difference(*maps, comparison.random),
        "notes": [SPREAD, PLAIN, *([RANDOM] if comparison.random else [])],
        "machine": machine(),
    }


def relative_difference(ours: Tensor, theirs: Tensor) -> Tensor:
    """`||ours - theirs|| / ||theirs||` of each image, (B,)."""
    difference: Tensor = (ours - theirs).flatten(1).norm(dim=1) / theirs.flatten(1).norm(dim=1)
    return difference


def rank_correlation(ours: Tensor, theirs: Tensor) -> Tensor:
    """Spearman's correlation of the pixels of each map, (B,)."""
    pairs = zip(ours.flatten(1).numpy(), theirs.flatten(1).numpy(), strict=True)
    return torch.tensor([float(spearmanr(a, b).statistic) for a, b in pairs])


def _difference(ours: Tensor, theirs: Tensor, random: bool) -> dict[str, float | None]:
    """Medians over the images; where each side draws its own noise only ranks are compared."""
    return {
        "relative_l2_median": None if random else float(relative_difference(ours, theirs).median()),
        "spearman_median": float(rank_correlation(ours, theirs).median()),
    }


def ours(replica: Replica, case: Case, method: str, options: Mapping[str, Any]) -> Callable[[], Attribution]:
    """A function that attributes all images of the case with ssig."""

    def run() -> Attribution:
        with _replica_memory():
            return attribute(replica, case.images, case.targets, method, baseline=case.baselines, **options)

    return run


def bare(replica: Replica, case: Case, steps: int) -> None:
    """Equally many gradients of ssig's network and nothing else: no method can be faster."""
    count = len(case.images) * steps
    with _replica_memory():
        for start in range(0, count, replica.micro_batch):
            rows = torch.arange(start, min(start + replica.micro_batch, count)) % len(case.images)
            replica.evaluate(case.images[rows], case.targets[rows], "logit", SCORE_AND_GRADIENT)


@contextmanager
def _replica_memory() -> Iterator[None]:
    """Sets the allocator as for a ready replica, and back as usual for the peer."""
    keep_memory()
    try:
        yield
    finally:
        usual_memory()


def settings(comparison: Comparison, images: int, steps: int) -> list[Setting]:
    """The settings to try for a peer: points of one image at once or, if it takes several, of a group of images."""
    single = [Setting(1, points) for points in comparison.sizes if points <= steps]
    if not comparison.groups:
        return single
    largest = 1 << (images.bit_length() - 1)  # a power of two, so that all settings compute equally many
    groups = [Setting(min(points, largest), points) for points in comparison.sizes if points <= largest * steps]
    return list(dict.fromkeys([*single, *groups]))


def best_setting(comparison: Comparison, case: Case, steps: int, timer: Timer = time.perf_counter) -> Setting:
    """The peer's fastest setting. Each is measured over the same number of gradients."""
    choices = settings(comparison, len(case.images), steps)
    if len(choices) == 1:
        return choices[0]
    gradients = max(choice.points for choice in choices)
    runs = {
        choice: partial(comparison.theirs, case.part(0, choice.images), gradients // choice.images, choice)
        for choice in choices
    }
    seconds = alternate(runs, SEARCH_ROUNDS, timer)
    return min(choices, key=lambda choice: min(seconds[choice]))


def _comparison(peer: str, method: str) -> Comparison:
    if peer not in peers.PEERS:
        raise UsageError("--peer", peer, peers.PEERS)
    if (peer, method) not in COMPARISONS:
        raise UsageError("--method", method, [name for allowed_peer, name in COMPARISONS if allowed_peer == peer])
    return COMPARISONS[peer, method]


def _side(name: str, precision: str, setting: str, gradients: int, seconds: Iterable[float]) -> dict[str, Any]:
    rates = summary(gradients / duration for duration in seconds)
    return {"side": name, "precision": precision, "at once": setting, "gradients/s": rates}


def _text(setting: Setting) -> str:
    return f"{setting.points} points, {setting.images} images"
