"""Questions 2 and 4: suppression against noise at equal change of the pixels.

For each image, noise is interpolated between its strengths, to where it changes that image as much as the law of
suppression does; an image for which no measured strength reaches that far does not count. Each quantity goes with the
change of the samples that it is of.

    2  nearness    kernel distance, distance of the features, distance of the spectrum: lower is nearer
    4  saturation  ln of the mean |gradient| over the image's own, and the target's probability
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from jobs.study.data import Study
from jobs.study.design import LAWS
from jobs.study.inference import Estimate, Tested, corrected, mean_difference
from jobs.study.labels import NOISE

NEARNESS = {"kid": "kernel distance", "distance": "distance of the features", "spectrum": "distance of the spectrum"}
SATURATION = {"log_gradient": "ln of the relative gradient", "probability": "probability of the target"}
CHANGE = {**dict.fromkeys(NEARNESS, "sample_change"), **dict.fromkeys(SATURATION, "change")}
FADE = "fade"  # the image, faded as a whole by one strength: no method samples so
IMAGE = f"{FADE} 0"
LEAST_CHANGE = 1e-3  # below, both are the image


@dataclass(frozen=True)
class Curve:
    """One law on one network: (N, S) of each quantity, by rising strength.

    Attributes:
        strengths: (S,).
        columns: quantity -> (N, S).
    """

    law: str
    strengths: tuple[float, ...]
    columns: Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Contrast(Tested):
    """A law minus noise at equal change, by one quantity.

    Attributes:
        change: mean root mean square change of a pixel, of the law.
        level, of_noise: what is compared, over the images that have both.
    """

    network: str
    law: str
    strength: float
    quantity: str
    change: float
    level: Estimate
    of_noise: Estimate


def by_law(row: Contrast) -> tuple[str, float]:
    """What is looked at on each network: a law at a strength."""
    return row.law, row.strength


def curves(study: Study, network: str) -> list[Curve]:
    """The laws of a network, with the relative gradient; empty without its block."""
    for rows, _ in study.of(LAWS, network):
        return _curves(rows)
    return []


def _curves(rows: pa.Table) -> list[Curve]:
    images = sorted(set(rows["key"].to_pylist()))
    place = {image: number for number, image in enumerate(images)}
    keys = np.array([place[key] for key in rows["key"].to_pylist()])
    laws, strengths = np.array(rows["law"].to_pylist()), rows["strength"].to_numpy()
    names = ("change", "sample_change", "probability", "gradient", *NEARNESS)
    numbers = {name: rows[name].to_numpy().astype(np.float64) for name in names}
    found, own = [], np.full(len(images), np.nan)
    whole = np.array(rows["method"].to_pylist()) == IMAGE
    own[keys[whole]] = numbers["gradient"][whole]
    for law in dict.fromkeys(laws.tolist()):
        levels = sorted(set(strengths[laws == law].tolist()))
        columns = {name: np.full((len(images), len(levels)), np.nan) for name in names}
        for column, level in enumerate(levels):
            chosen = (laws == law) & (strengths == level)
            for name in names:
                columns[name][keys[chosen], column] = numbers[name][chosen]
        with np.errstate(divide="ignore", invalid="ignore"):
            logarithm = np.log(columns["gradient"] / own[:, None])
        columns["log_gradient"] = np.where(np.isfinite(logarithm), logarithm, np.nan)
        found.append(Curve(law, tuple(round(level, 4) for level in levels), columns))
    return found


def contrasts(study: Study, quantities: Iterable[str]) -> list[Contrast]:
    """Every law and strength of suppression against noise at equal change, on each network that has the block."""
    found: list[Contrast] = []
    for network in study.networks(LAWS):
        found += corrected(_contrasts(network, curves(study, network), tuple(quantities)))
    return found


def _contrasts(network: str, laws: Sequence[Curve], quantities: Sequence[str]) -> list[Contrast]:
    noise = next((curve for curve in laws if curve.law == NOISE), None)
    if noise is None:
        return []
    found = []
    for curve in laws:
        for column, strength in enumerate(curve.strengths):
            if curve.law == NOISE or np.nanmean(curve.columns["change"][:, column]) < LEAST_CHANGE:
                continue
            for quantity in quantities:
                change = curve.columns[CHANGE[quantity]][:, column]
                rival = at_change(noise, quantity, change)
                # The shares of the kernel distance are those of pairs of images.
                own, dependence = curve.columns[quantity][:, column], 2.0 if quantity == "kid" else 1.0
                estimate = mean_difference(own - rival, dependence)
                both = np.isfinite(own - rival)
                level, of_noise = (mean_difference(values[both], dependence) for values in (own, rival))
                mean = float(np.nanmean(change))
                found.append(
                    Contrast(network, curve.law, strength, quantity, mean, level, of_noise, estimate=estimate)
                )
    return found


def at_change(curve: Curve, quantity: str, change: np.ndarray) -> np.ndarray:
    """(N,) a quantity of a law, interpolated image by image to a change (N,); NaN beyond the measured ones."""
    changes, values = curve.columns[CHANGE[quantity]], curve.columns[quantity]
    result: np.ndarray = np.array(
        [
            np.interp(wanted, changes[row], values[row], left=np.nan, right=np.nan) if np.isfinite(wanted) else np.nan
            for row, wanted in enumerate(change)
        ]
    )
    return result
