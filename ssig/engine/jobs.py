"""A method on one image, as a job of the engine: its coroutine with its group."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from ssig.engine.micro_batches import Job, Tag
from ssig.estimators.baselines import baselines
from ssig.images.postprocess import finishing
from ssig.randomness import Stream
from ssig.registry import MethodSpec
from ssig.types import Group, References


def method_job(
    tag: Tag,
    spec: MethodSpec,
    options: Any,
    images: Tensor,
    targets: Tensor,
    streams: tuple[Stream, ...],
    *,
    mean: Tensor,
    score: str,
    baseline: Tensor | None = None,
    budget: int = 1,
    scores: Tensor | None = None,
    baseline_scores: Tensor | None = None,
    references: References | None = None,
    logits: Tensor | None = None,
    network: Callable[[Tensor], Tensor] | None = None,
) -> Job[Tag]:
    """The engine's job of one method on one group of images.

    Args:
        tag: returned with the result.
        spec, options: the method and its parsed options; `options.score`, if set, goes before `score`.
        images: (B, C, H, W) on the device.
        targets: (B,) int64.
        streams: of the images, under this method's name.
        mean: (C,) of the network.
        score: the model's score.
        baseline: (B, C, H, W) in place of `options.baseline`.
        budget: points per image that a request may hold.
        scores, baseline_scores: (B,) target scores of images and baselines, where already known.
        references: for methods that compare with images of the data set.
        logits: (B, classes) of the images, where already known.
        network: the plain network, for methods that want it.
    """
    reference = baselines(options.baseline, images, mean, streams) if baseline is None else baseline
    scores, baseline_scores, logits = (
        None if values is None else values.to(images.device) for values in (scores, baseline_scores, logits)
    )
    score = options.score or score
    group = Group(
        images, reference, streams, budget, scores, baseline_scores, references, targets, logits, score, network
    )
    steps = finishing(spec.run(group, options), images, options.smoothing, options.regions)
    return Job(tag, steps, targets, score)
