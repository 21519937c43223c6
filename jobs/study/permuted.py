"""Maps that are known to be worse: those of a network with permuted weights, judged on the true network.

The weights of each layer change places among themselves, so that a layer keeps its numbers and loses what it learned
(Adebayo et al., Sanity Checks for Saliency Maps, NeurIPS 2018). Biases and statistics of norms stay. The maps have the
targets and the random draws that the true network's own maps have in a run of the same seed.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from jobs.study.design import SEED
from jobs.study.entries import method_of, metric_of
from jobs.study.parts import Part, joined, network_of
from pipeline.run.revisions import revisions
from pipeline.unit.inputs import Prepared
from ssig.acceleration.ready_replica import ready_replica
from ssig.api import attribute
from ssig.engine.device import Device
from ssig.engine.replica import Replica
from ssig.errors import UsageError
from ssig.models import Model
from ssig.randomness import stream
from ssig.registry import METRICS
from ssig.types import evaluation_of

STREAM = "permuted layer"


def measure(
    model: Mapping[str, Any],
    entries: Mapping[str, str],
    metrics: Sequence[str],
    shards: Sequence[str],
    folder: Path,
    weights: Path | None = None,
    limit: int | None = None,
) -> tuple[pa.Table, dict[str, Any]]:
    """The table and the record of some methods.

    Args:
        model: fields of a job's `model`.
        entries: label -> method, as `ssig attribute --method` takes it.
        metrics: as `ssig attribute --metric` takes them.
        shards: paths, in order.
        folder: where parts are kept.
        weights: a folder to import the network from.
        limit: only the first so many images.

    Raises:
        UsageError, ModelError: there is no such network, method or metric.
    """
    network = network_of(model, weights)
    device = Device(ready_replica(network))
    replica = ready_replica(permuted(network), micro_batch=device.replica.micro_batch)
    try:
        parts = {
            label: joined(
                device,
                network,
                shards,
                folder / label,
                lambda prepared, entry=entry: _measured(device, network, replica, prepared, entry, metrics),  # type: ignore[misc]
                [dict(model), entry, list(metrics), _revisions(entry, metrics)],
                limit,
            )
            for label, entry in entries.items()
        }
    finally:
        device.close()
    seconds = sum(float(part.pop("seconds").sum()) for part in parts.values())
    return _tabulated(parts), {
        "methods": _described(entries),
        "refused": {},
        "curves": {},
        "whole": {},
        "model": {"name": network.name, "weights_hash": network.weights_hash},
        "metric_options": {metric: metric for metric in metrics},
        "images": len(next(iter(parts.values()))["key"]),
        "spent": {"command": "python -m jobs.study run", "seconds": round(seconds, 1)},
    }


def _revisions(entry: str, metrics: Sequence[str]) -> dict[str, Any]:
    """The revisions of a method and of metrics, which change with their results."""
    choice = method_of(entry)
    return revisions(None if choice is None else choice.name, [metric_of(text).name for text in metrics])


def _described(entries: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Label -> how it was asked for, its name, options and cost."""
    chosen = {label: method_of(entry) for label, entry in entries.items()}
    return {
        label: {
            "entry": entries[label],
            "name": choice.name,
            "options": choice.options,
            "evaluations": choice.spec.evaluations(choice.parsed()),
        }
        for label, choice in chosen.items()
        if choice is not None
    }


def permuted(model: Model, seed: int = SEED) -> Model:
    """A copy whose weights of two or more dimensions change places, in each tensor by a draw of its own."""
    twin = copy.deepcopy(model)
    with torch.no_grad():
        for name, weight in twin.named_parameters():
            if weight.ndim > 1:
                draw = stream(seed, "", name, STREAM).generator(0).permutation(weight.numel())
                weight.copy_(weight.flatten()[torch.from_numpy(draw).to(weight.device)].view_as(weight))
    return twin


def _measured(
    device: Device, model: Model, replica: Replica, prepared: Prepared, entry: str, metrics: Sequence[str]
) -> Part:
    """Of n images: their keys, and (n,) of each column of the metrics."""
    start = time.monotonic()
    choice = method_of(entry)
    if choice is None:
        raise UsageError("--method", entry, "a method of this version")
    count = len(prepared.ok)
    keys = tuple(prepared.identity(number) for number in range(count))
    found = attribute(
        replica, prepared.images, prepared.targets, choice.spec, seed=SEED, keys=keys, ready=False, **choice.options
    )
    evaluation = evaluation_of(
        prepared.images.to(device.replica.device),
        found.map.float().cpu(),
        prepared.targets,
        device.forward,
        model,
        masks=prepared.masks,
        boxes=prepared.boxes,
        logits=prepared.logits,
        batch=max(64, device.replica.micro_batch),
        keys=keys,
        seed=SEED,
        activations=device.activations,
    )
    part: Part = {
        "key": np.array([key for _, key in keys]),
        "seconds": np.zeros(count),
        "predicted": prepared.predicted.numpy(),
        "target": prepared.targets.numpy(),
        "probability": prepared.probability.numpy(),
    }
    for text in metrics:
        metric = metric_of(text)
        columns = METRICS[metric.name].compute(evaluation, metric.parsed()).columns
        part |= {name: np.asarray(values, np.float64) for name, values in columns.items()}
    part["seconds"][0] = time.monotonic() - start
    return part


def _tabulated(parts: Mapping[str, Part]) -> pa.Table:
    """A row for each method and image; columns without any number are left out."""
    tables = []
    for label, part in parts.items():
        columns: dict[str, Any] = {"key": part["key"].tolist(), "method": [label] * len(part["key"])}
        for name, values in part.items():
            if name != "key" and (values.dtype.kind != "f" or np.isfinite(values).any()):
                columns[name] = values.astype(np.float32) if values.dtype.kind == "f" else values
        tables.append(pa.table(columns))
    return pa.concat_tables(tables, promote_options="default").sort_by([("method", "ascending"), ("key", "ascending")])
