"""SAMP++: the path of `samp` in steps of bounded length, along a running mean of the gradients.

    |X_{k+1} - X_k|_1 <= |x - x'|_1 / n,   g_k = m grad f_y(X_k) + (1 - m) g_{k-1}

Source: Zhang, Zheng, Zhou, Lu, *Path Choice Matters for Clear Attribution in Path Methods* (2024), and the authors'
code; `ssig.methods.samp` says what a path is and where this project's differ. Of the pixels that a step would move,
all go the same share of their way, so that the step is no longer than the n-th part (`fragments`) of the path: the
authors' infinitesimal constraint. Without the jumps of `samp` the sum tends to the difference of the scores as n
grows. The mean of the gradients is their momentum strategy, with m = .5. It both orders the pixels and is what moves
are multiplied by.

A path takes at least n steps, and at most n + K, where each step may move 1/K (`steps`) of the pixels: not more than
K steps can be shorter than the bound. Images that have arrived cost no more gradients: about 27 by default, 113 with
`preset: paper`, the authors' n = 50 and K = 14, which has at most 128 (EfficientNet-Lite0, six photographs). There the
sums are still 40 and 100 times the difference of the scores. The default has nearly the authors' ratio within 32.
With m = 1 and n = 1, `samp++` is `samp`. Lengths are measured in pixel space; in the authors' code, in the network's
input space, where channels may have other weights.
"""

from __future__ import annotations

from dataclasses import dataclass

from ssig.methods.samp import ManipulationOptions, Plan, manipulations
from ssig.options import option
from ssig.registry import METHODS, MethodSpec
from ssig.types import Group, Steps


@dataclass(frozen=True)
class SampPlusOptions(ManipulationOptions):
    steps: int = option(4, "K: a step moves at most 1/K of the pixels; 14 in the authors' code", at_least=1)
    fragments: int = option(
        12, "n: a step is at most 1/n of the path, of at most n + K steps; 50 in the authors' code", at_least=1
    )
    momentum: float = option(0.5, "m, the newest gradient's share in the mean; 1: no momentum", above=0, at_most=1)


def samp_plus(group: Group, options: SampPlusOptions) -> Steps:
    count = -(-group.images[0, 0].numel() // options.steps)
    counts = [count] * (options.fragments + options.steps)
    return manipulations(group, options, Plan(counts, options.fragments, options.fragments, options.momentum))


METHODS.add(
    MethodSpec(
        name="samp++",
        run=samp_plus,
        options=SampPlusOptions,
        paper="Zhang, Zheng, Zhou, Lu 2024",
        equation="as samp, with |X_{k+1} - X_k|_1 at most 1/n of the path's, and a running mean of the gradients",
        evaluations=lambda options: int(options.directions * (options.fragments + options.steps)),
        complete=True,
        presets={"paper": {"steps": 14, "fragments": 50, "score": "logit"}},
    )
)
