"""Metrics of a unit, from its maps as they are stored."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipeline.unit.inputs import Prepared
from pipeline.unit.tables import Measured, merged
from ssig.engine.device import Device
from ssig.metrics.evaluation import Evaluation, Explainer
from ssig.models import Model
from ssig.options import build
from ssig.registry import METRICS

# Images measured at once: enough to fill micro-batches, few enough to hear of progress.
CHUNK = 16
# Points that a metric makes at a time: several micro-batches where those are small.
LEAST_POINTS = 64

# (images, targets, the images' shards and keys) -> the method under evaluation, for them.
Explain = Callable[[Tensor, Tensor, tuple[tuple[str, str], ...]], Explainer]


def evaluate(
    device: Device,
    model: Model,
    prepared: Prepared,
    kept: Sequence[int],
    maps: np.ndarray,
    metrics: Mapping[str, Mapping[str, Any]],
    scalars: Mapping[str, Tensor | None],
    seed: int,
    measured_some: Callable[[int], None] = lambda count: None,
    explain: Explain | None = None,
    tidy: Callable[[], None] = lambda: None,
) -> Measured:
    """Every metric for the samples of a unit that have a map.

    Args:
        device: the network.
        model: for its normalisation.
        prepared: the unit.
        kept: which of the unit's ok samples have maps.
        maps: (n, H, W) float32, theirs.
        metrics: metric -> its recorded options.
        scalars: `score`, `baseline_score` and `completeness_residual` of the attribution, (n,) or None.
        seed: of the run.
        measured_some: told how many images have just been measured.
        explain: gives the method, for the metrics that call it again.
        tidy: called after each metric, which leaves freed blocks of many sizes behind.
    """
    parts = []
    for start in range(0, len(kept), CHUNK):
        span = slice(start, start + CHUNK)
        some = {name: None if values is None else values[span] for name, values in scalars.items()}
        images, targets = prepared.images[list(kept[span])], prepared.targets[list(kept[span])]
        keys = tuple(prepared.identity(k) for k in kept[span])
        evaluation = Evaluation(
            images=images,
            maps=torch.from_numpy(maps[span]),
            targets=targets,
            forward=device.forward,
            mean=model.mean.cpu(),
            std=model.std.cpu(),
            masks=tuple(prepared.masks[k] for k in kept[span]),
            score=some["score"],
            baseline_score=some["baseline_score"],
            completeness_residual=some["completeness_residual"],
            logits=prepared.logits[list(kept[span])],
            batch=max(LEAST_POINTS, device.replica.micro_batch),
            boxes=tuple(prepared.boxes[k] for k in kept[span]),
            keys=keys,
            seed=seed,
            explainer=None if explain is None else explain(images, targets, keys),
            activations=device.activations,
            _of_images=prepared.known.setdefault(tuple(kept[span]), {}),
        )
        parts.append(_measured(evaluation, metrics, device.clock, tidy))
        measured_some(len(evaluation))
    return merged(parts)


def _measured(
    evaluation: Evaluation,
    metrics: Mapping[str, Mapping[str, Any]],
    clock: Callable[[], float],
    tidy: Callable[[], None],
) -> Measured:
    measured = Measured(excluded=[{} for _ in range(len(evaluation))])
    for name, recorded in metrics.items():
        spec = METRICS[name]
        started = clock()
        result = spec.compute(evaluation, build(spec.options, recorded, where=f"metrics.{name}"))
        seconds = (clock() - started) / len(evaluation)
        measured.seconds[name] = np.full(len(evaluation), seconds)
        measured.columns.update(result.columns)
        measured.lists.update(result.curves)
        measured.lists.update(result.vectors)
        for mine, theirs in zip(measured.excluded, result.excluded, strict=False):
            mine.update(theirs)
        tidy()
    return measured
