"""Numbers of one network's images that are kept part by part, so that a stopped block goes on where it was.

A part is kept under a digest of all that it was made of: the bytes of its images, the network, and what was asked. So
copied shards are the same, and nothing is joined with what was measured of another image or in another way.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.shards import manifest
from pipeline.shards.reading import read_unit
from pipeline.shards.samples import ManifestRow
from pipeline.storage import locate
from pipeline.storage.jsontext import to_json
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
    asked: Any,
    limit: int | None = None,
) -> Part:
    """The parts of all images that can be explained, one after the other; those that `folder` has are read.

    Args:
        device: predicts.
        model: the same network, for its preprocessing.
        shards: paths, in order.
        folder: where parts are kept.
        measured: makes a part of some images; every array has an image a row.
        asked: what a part depends on beside its images and the network, as JSON has it.
        limit: only the first so many images.

    Raises:
        UsageError: no image can be explained.
    """
    folder.mkdir(parents=True, exist_ok=True)
    listing = manifest.build(shards, CHUNK, limit)
    made_of = to_json([model.weights_hash, asked], compact=True).encode()
    parts = list(_parts(device, model, listing, folder, measured, made_of))
    if not parts:
        raise UsageError("shards", list(shards), "shards with images that can be explained")
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _parts(
    device: Device,
    model: Model,
    listing: manifest.Manifest,
    folder: Path,
    measured: Callable[[Prepared], Part],
    made_of: bytes,
) -> Iterator[Part]:
    """The parts in order."""
    urls = {shard.name: shard.url for shard in listing.shards}
    for unit in listing.units():
        url, rows = urls[unit.shard], listing.rows(unit.id)
        file = folder / f"{unit.id}-{_digest(url, rows, made_of)}.npz"
        if not file.exists():
            samples = read_unit(url, rows, needs_label=True, classes=len(model.categories))
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


def _digest(url: str, rows: Sequence[ManifestRow], made_of: bytes) -> str:
    """A short digest of the bytes of samples and of what else a part was made of."""
    storage, name = locate(url)
    digest = hashlib.sha256(made_of)
    for row in rows:
        for member in row.members:
            digest.update(to_json([row.key, member.extension, member.size], compact=True).encode())
            digest.update(storage.read_range(name, member.offset, member.size))
    return digest.hexdigest()[:16]
