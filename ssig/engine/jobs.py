"""A method on one group of images, as a job of the engine."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ssig.engine.micro_batches import Job, Tag
from ssig.estimators.baselines import baselines
from ssig.images.postprocess import finishing
from ssig.randomness import Stream
from ssig.registry import MethodSpec
from ssig.types import Group


def group_of(
    options: Any,
    images: Tensor,
    targets: Tensor,
    streams: tuple[Stream, ...],
    *,
    mean: Tensor,
    score: str = "logit",
    baseline: Tensor | None = None,
) -> Group:
    """The group of images that a method attributes, with the baseline and the score that its options ask for.

    Add further attributes (budget, references, scores, logits) with `dataclasses.replace`.

    Args:
        options: of the method, parsed; `options.score`, if set, replaces `score`.
        images: (B, C, H, W) on the device.
        targets: (B,) int64, on the CPU.
        streams: of the images, under the method's name.
        mean: (C,) of the network.
        score: the model's score.
        baseline: (B, C, H, W) in place of `options.baseline`.
    """
    reference = baselines(options.baseline, images, mean, streams) if baseline is None else baseline
    return Group(images, reference, streams, targets=targets, score=options.score or score)


def method_job(tag: Tag, spec: MethodSpec, options: Any, group: Group) -> Job[Tag]:
    """The engine's job of one method on one group of images.

    Args:
        tag: returned with the result.
        spec, options: the method and its parsed options.
        group: of images with targets.
    """
    targets = torch.zeros(len(group), dtype=torch.int64) if group.targets is None else group.targets
    steps = finishing(spec.run(group, options), group.images, options.smoothing, options.regions)
    return Job(tag, steps, targets, group.score)
