"""The laws of suppression and of noise at equal change: what their samples look like, and what the network answers.

For each image, law and strength:

    change       root mean square difference of sample and image, over pixels and channels
    probability  softmax probability of the target at the samples
    gradient     mean |grad f_y| over pixels and channels, f_y the logit
    dead         share of the network's ReLU units that pass no gradient
    kid          the image's share of the kernel distance (KID) of samples and images: its mean over images is the KID
    distance     distance of the sample's features from the image's, over their norm
    spectrum     root mean square difference of log power spectra, sample to image
    sample_change  the change of the sample that the three distances are of; the others are means over `DRAWS`

The definitions are those of `ssig.estimators.saturation` and of the metric `alignment`. A law without a strength has
one point.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from jobs.study.parts import Part, joined, network_of
from pipeline.run.revisions import revisions
from pipeline.unit.inputs import Prepared
from ssig.acceleration.ready_replica import ready_replica
from ssig.engine.device import Device
from ssig.engine.layers import PENULTIMATE
from ssig.estimators.samplers import Cells, Frequency, Sampler
from ssig.estimators.saturation import LAWS as STRONG
from ssig.estimators.saturation import QUANTITIES, saturation
from ssig.metrics.certainty.alignment import (
    DEGREE,
    directions,
    frechet_distance,
    log_spectrum,
    relative_distance,
    spectral_distance,
)
from ssig.models import Model
from ssig.randomness import stream
from ssig.types import Group

DRAWS = 4
DIMENSIONS = 64
NOISE_STRENGTHS = (0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.6)
SUPPRESSION_STRENGTHS = (0.1, 0.25, 0.5, 0.75, 0.9, 1.0)
WEAKEST = 0.0  # of each law: the image itself
ONLY = 1.0  # the strength of a law that has one
WITHOUT_STRENGTH: Mapping[str, Sampler] = {
    "bernoulli": Cells(),
    "patch-14": Cells(14),
    "smooth-14": Cells(14, smooth=True),
    **{f"frequency-{spectrum}": Frequency(spectrum) for spectrum in ("bins", "gains", "rings", "low-pass")},
}
SETTINGS: Mapping[str, tuple[float, ...]] = {
    "fade": (WEAKEST, *SUPPRESSION_STRENGTHS),
    "noise": NOISE_STRENGTHS,
    "uniform": SUPPRESSION_STRENGTHS,
    "uniform-channel": SUPPRESSION_STRENGTHS,
    **dict.fromkeys(WITHOUT_STRENGTH, (ONLY,)),
}
COLUMNS = (*QUANTITIES, "kid", "distance", "spectrum", "sample_change")


def measure(
    model: Mapping[str, Any],
    shards: Sequence[str],
    folder: Path,
    weights: Path | None = None,
    limit: int | None = None,
) -> tuple[pa.Table, dict[str, Any]]:
    """The table and the record of the block of laws.

    Args:
        model: fields of a job's `model`.
        shards: paths, in order.
        folder: where parts are kept, so that a stopped block goes on where it was.
        weights: a folder to import the network from.
        limit: only the first so many images.

    Raises:
        UsageError, ModelError: there is no such network, or no image that can be explained.
    """
    network = network_of(model, weights)
    device = Device(ready_replica(network))
    try:
        asked = [dict(model), settings(), COLUMNS, DRAWS, DIMENSIONS, revisions(None, ())]
        parts = joined(
            device, network, shards, folder, lambda prepared: _measured(device, network, prepared), asked, limit
        )
    finally:
        device.close()
    return tabulated(parts), {
        "methods": {"laws": {"entry": "laws", "name": "laws", "options": {"draws": DRAWS}, "evaluations": _cost()}},
        "refused": {},
        "curves": {},
        "whole": _whole(parts),
        "model": {"name": network.name, "weights_hash": network.weights_hash},
        "metric_options": {"dimensions": DIMENSIONS, "draws": DRAWS},
        "images": len(parts["key"]),
        "spent": {"command": "python -m jobs.study run", "seconds": round(float(parts["seconds"].sum()), 1)},
    }


def settings() -> list[tuple[str, float]]:
    """Law and strength, in the order of the parts' columns."""
    return [(law, strength) for law, strengths in SETTINGS.items() for strength in strengths]


def tabulated(parts: Part) -> pa.Table:
    """A row for each image, law and strength, of arrays (N, S) and the vectors (N, 1 + S, ...)."""
    laws = settings()
    images = len(parts["key"])
    features = parts["features"]
    values = {name: parts[name] for name in (*QUANTITIES, "sample_change")}
    values["kid"] = np.stack([kid_shares(features[:, 1 + s], features[:, 0]) for s in range(len(laws))], axis=1)
    values["distance"] = np.array(
        [[relative_distance(rows[0], rows[1 + s : 2 + s]) for s in range(len(laws))] for rows in features]
    )
    values["spectrum"] = np.array(
        [[spectral_distance(rows[0], rows[1 + s : 2 + s]) for s in range(len(laws))] for rows in parts["spectra"]]
    )
    columns: dict[str, Any] = {
        "key": np.repeat(parts["key"], len(laws)).tolist(),
        "method": [f"{law} {strength:g}" for law, strength in laws] * images,
        "law": [law for law, _ in laws] * images,
        "strength": np.tile(np.array([strength for _, strength in laws], np.float32), images),
    }
    columns |= {name: values[name].astype(np.float32).ravel() for name in COLUMNS}
    return pa.table(columns)


def kid_shares(samples: np.ndarray, images: np.ndarray) -> np.ndarray:
    """(N,) numbers whose mean is the unbiased KID of features (N, d) and (N, d), row by row of the same image.

    The standard error of the mean of a first-order U-statistic is twice that of independent numbers.
    """

    def kernel(left: np.ndarray, right: np.ndarray) -> np.ndarray:
        values: np.ndarray = (left @ right.T / left.shape[1] + 1) ** DEGREE
        return values

    core = kernel(samples, samples) + kernel(images, images) - kernel(samples, images) - kernel(images, samples)
    np.fill_diagonal(core, 0)
    shares: np.ndarray = core.sum(axis=1) / max(len(core) - 1, 1)
    return shares


def _whole(parts: Part) -> dict[str, dict[str, Any]]:
    """The Frechet distance and that of the mean spectra, which no mean over images gives."""
    features, spectra = parts["features"], parts["spectra"]
    found: dict[str, dict[str, Any]] = {"frechet": {}, "spectrum_distance": {}}
    for place, (law, strength) in enumerate(settings(), 1):
        distances = {
            "frechet": frechet_distance(features[:, place], features[:, 0]) if len(features) > 1 else None,
            "spectrum_distance": spectral_distance(spectra[:, 0].mean(axis=0), spectra[:, place : place + 1].mean(0)),
        }
        for name, value in distances.items():
            found[name][f"{law} {strength:g}"] = {"value": value, "low": None, "high": None, "count": len(features)}
    return found


def _cost() -> int:
    return len(settings()) * DRAWS


def _measured(device: Device, model: Model, prepared: Prepared) -> Part:
    """Of n images and S settings: (n, S) of each quantity, and the vectors of image and samples."""
    start = time.monotonic()
    keys = [prepared.identity(number) for number in range(len(prepared.ok))]
    images = prepared.images.to(model.device)
    group = Group(
        images,
        model.mean.to(images).view(1, -1, 1, 1).expand_as(images),
        tuple(stream(0, *key, "saturation") for key in keys),
    )
    curves: dict[str, list[np.ndarray]] = {name: [] for name in QUANTITIES}
    points = [images]
    for law, strengths in SETTINGS.items():
        sampler_of = _sampler_of(law)
        measured = saturation(model, group, prepared.targets, sampler_of, strengths, samples=DRAWS)
        for name in QUANTITIES:
            curves[name].append(getattr(measured, name))
        # One of the draws; of stratified laws, each image has another stratum.
        points += [_spread(sampler_of(strength), group) for strength in strengths]
    part: Part = {name: np.concatenate(columns, axis=1) for name, columns in curves.items()}
    part["features"] = np.stack([_features(device, each) for each in points], axis=1)
    part["spectra"] = np.stack(
        [np.stack([log_spectrum(point) for point in each.double().cpu().numpy()]) for each in points], axis=1
    )
    part["sample_change"] = np.stack([_change(point, images) for point in points[1:]], axis=1)
    part["key"] = np.array([key[-1] for key in keys])
    part["seconds"] = np.array([time.monotonic() - start])
    return part


def _sampler_of(law: str) -> Callable[[float], Sampler]:
    if law in WITHOUT_STRENGTH:
        return lambda strength: WITHOUT_STRENGTH[law]
    return STRONG[law]


def _spread(sampler: Sampler, group: Group) -> torch.Tensor:
    """One of `DRAWS` samples of each image, (B, C, H, W): the number of the sample goes round with the image."""
    drawn = torch.stack([sampler.point(group, k, DRAWS) for k in range(DRAWS)])
    places = torch.arange(len(group)) % DRAWS
    return drawn[places, torch.arange(len(group))]


def _change(points: torch.Tensor, images: torch.Tensor) -> np.ndarray:
    """(B,) root mean square difference over pixels and channels."""
    change: np.ndarray = (points - images).square().mean(dim=(1, 2, 3)).sqrt().cpu().numpy()
    return change


def _features(device: Device, points: torch.Tensor) -> np.ndarray:
    """(B, d) features behind the last layer, projected on at most `DIMENSIONS` directions."""
    activations = torch.cat([device.activations(part, PENULTIMATE) for part in torch.split(points, 4)])
    values = activations.cpu().double().numpy()
    features: np.ndarray = values @ directions(values.shape[1], DIMENSIONS)
    return features
