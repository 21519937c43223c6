"""Numbers of one network's images that are kept part by part, so that a stopped block goes on where it was."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.shards import manifest
from pipeline.shards.reading import read_unit
from pipeline.unit.inputs import Prepared, prepare
from ssig.engine.device import Device
from ssig.errors import UsageError
from ssig.models import Model, load_model

CHUNK = 10  # images at a time, and in each part that is kept

Part = dict[str, np.ndarray]


def network_of(model: Mapping[str, Any], weights: Path | None) -> Model:
    """The network of a job's `model`, imported from the folder `weights` where it is packed there.

    Raises:
        UsageError, ModelError: there is no such network.
    """
    if weights is not None and str(weights) not in sys.path:
        sys.path.append(str(weights))
    return load_model(model["name"], input=model.get("input"))


def joined(
    device: Device,
    model: Model,
    shards: Sequence[str],
    folder: Path,
    measured: Callable[[Prepared], Part],
    limit: int | None = None,
) -> Part:
    """The parts of all images that can be explained, one after the other; those that `folder` has are read.

    Args:
        device: predicts.
        model: the same network, for its preprocessing.
        shards: paths, in order.
        folder: where parts are kept.
        measured: makes a part of some images; every array has an image a row.
        limit: only the first so many images.

    Raises:
        UsageError: no image can be explained.
    """
    folder.mkdir(parents=True, exist_ok=True)
    parts = list(_parts(device, model, manifest.build(shards, CHUNK, limit), folder, measured))
    if not parts:
        raise UsageError("shards", list(shards), "shards with images that can be explained")
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _parts(
    device: Device,
    model: Model,
    listing: manifest.Manifest,
    folder: Path,
    measured: Callable[[Prepared], Part],
) -> Iterator[Part]:
    """The parts in order."""
    urls = {shard.name: shard.url for shard in listing.shards}
    for unit in listing.units():
        file = folder / f"{unit.id}.npz"
        if not file.exists():
            samples = read_unit(
                urls[unit.shard], listing.rows(unit.id), needs_label=True, classes=len(model.categories)
            )
            prepared = prepare(samples, model, "label")
            prepared.predict(device.forward)
            if not prepared.ok:
                continue
            beside = file.with_suffix(".part")
            with beside.open("wb") as target:
                np.savez(target, **measured(prepared))  # type: ignore[arg-type]
            beside.replace(file)
        with np.load(file) as stored:
            yield {name: stored[name] for name in stored.files}
