"""Explanation certainty of a data set: how well maps tell images apart, as a lower bound of their information.

    c_f(i, j) = mean over cells of z_i phi_jf          both standardised on one grid of 28 x 28 cells
    S_ij = sum_f beta_f c_f(i, j)                      beta: weights of the features over a temperature
    I(x; z) >= ln N + mean_i ln softmax_j(S_ij)[j = i]   in nats, at most ln N

InfoNCE (van den Oord, Li, Vinyals, 2018; a bound for any critic that has not seen the images: Poole et al., 2019),
with the critic of a feature bank (`ssig.metrics.certainty.image_features`). Half of the images fit beta, a convex
problem with a Gaussian prior that matters for few images only, and the bound is taken on the other half; then the
other way round, and the two are averaged.

Workers store the standardised map and the image's standardised features; the number is made from these vectors. The
per-image columns are the largest and the mean of the correlations with the image's own features.

What it is not. The bound holds on average over data sets, and its estimate may lie above. It says nothing about what
lies above it: the critic sees linear relations to five features, so a method may know more of its image than is
counted, and a bad critic may score below 0. It saturates at ln N: compare methods on the same N. Images are taken as
independent draws, so near duplicates lower it. The standard error treats the terms of the mean as independent and the
critic as given: of 60 images it was .6 of the true spread for maps that tell nothing, and 1.1 of it for maps that tell
much. Unlike `certainty`, an average shape that all maps share earns nothing here: it tells no image from another.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.special import log_softmax

from ssig.metrics.certainty.image_features import READINGS, constant, image_features, pooled_maps
from ssig.metrics.shared.assemble import assemble
from ssig.metrics.shared.content import by_content
from ssig.options import option
from ssig.registry import METRICS, MetricSpec
from ssig.types import Evaluation, MetricResult

_COLUMNS = ("certainty_nce", "certainty_nce_features")
_DATASET = ("certainty_nce_nats", "certainty_nce_error", "certainty_nce_ceiling", "certainty_nce_top1")


@dataclass(frozen=True)
class CertaintyNceOptions:
    """What is stored, and how the critic is fitted."""

    size: int = option(28, "cells of the grid each way; at most the pixels of the input", at_least=2)
    reading: str = option("magnitude", "what is compared: |map|, or the signed map", choices=READINGS)
    most: int = option(2000, "most images for the bound", at_least=4)
    ridge: float = option(0.02, "inverse variance of the prior of beta, relative to a sum over images", above=0)
    seed: int = option(0, "random seed for the choice of images and of the halves", at_least=0)


@dataclass(frozen=True)
class Bound:
    """InfoNCE on images that the critic was not fitted on.

    Attributes:
        nats: (N,) `ln N + ln softmax` of each image's own entry; the bound is their mean.
        is_largest: (N,) bool, whether the image's own entry is its row's largest.
    """

    nats: np.ndarray
    is_largest: np.ndarray


def certainty_nce(evaluation: Evaluation, options: CertaintyNceOptions) -> MetricResult:
    """Correlations of the map with its own image's features, and the vectors for the bound."""
    maps = pooled_maps(evaluation, options.size, options.reading)
    bank = image_features(evaluation, options.size)
    flat = [constant(cells) for cells in maps]
    reason = dict.fromkeys(_COLUMNS, "map is constant on the grid")
    cells, features = standardised(maps), standardised(bank)
    matches = np.einsum("bhw,bfhw->bf", cells, features) / cells[0].size if len(cells) else np.zeros((0, 1))
    return assemble(
        columns={"certainty_nce": matches.max(axis=1), "certainty_nce_features": matches.mean(axis=1)},
        excluded=[reason if is_flat else {} for is_flat in flat],
        vectors={
            "certainty_nce_vector": cells.reshape(len(cells), np.prod(cells.shape[1:])),
            "certainty_nce_features_vector": features.reshape(len(features), np.prod(features.shape[1:])),
        },
    )


def standardised(planes: np.ndarray) -> np.ndarray:
    """Planes (..., h, w) of mean 0 and variance 1 over their cells; constant ones are 0."""
    centred = planes - planes.mean(axis=(-2, -1), keepdims=True)
    spread = np.sqrt((centred**2).mean(axis=(-2, -1), keepdims=True))
    negligible = spread <= 1e-9 * np.abs(planes).max(axis=(-2, -1), keepdims=True, initial=0.0)
    result: np.ndarray = np.divide(centred, spread, out=np.zeros_like(centred), where=~negligible)
    return result


def dataset(columns: Mapping[str, np.ndarray], options: CertaintyNceOptions) -> dict[str, float]:
    """The bound in nats, its standard error, its ceiling, and how often the own entry is largest; NaN for under 4."""
    maps, bank = columns["certainty_nce_vector"], columns["certainty_nce_features_vector"]
    chosen = by_content(bank, options.seed)[: options.most]
    half = len(chosen) // 2
    if half < 2:
        return dict.fromkeys((*_DATASET, "certainty_nce_images"), np.nan)
    halves = [correlations(maps[part], bank[part]) for part in (chosen[:half], chosen[half : 2 * half])]
    parts = [bound(fitted(training, options.ridge), held_out) for training, held_out in (halves, halves[::-1])]
    nats = np.concatenate([part.nats for part in parts])
    return {
        "certainty_nce_nats": float(nats.mean()),
        "certainty_nce_error": float(nats.std(ddof=1) / np.sqrt(len(nats))),
        "certainty_nce_ceiling": float(np.log(half)),
        "certainty_nce_top1": float(np.concatenate([part.is_largest for part in parts]).mean()),
        "certainty_nce_images": float(2 * half),
    }


def correlations(maps: np.ndarray, bank: np.ndarray) -> np.ndarray:
    """(F, N, N) `c_f(i, j)` of standardised maps (N, P) and features (N, F P)."""
    cells = maps.shape[1]
    features = bank.reshape(len(bank), -1, cells).astype(np.float64)
    result: np.ndarray = np.einsum("ip,jfp->fij", maps.astype(np.float64), features, optimize=True) / cells
    return result


def fitted(correlations: np.ndarray, ridge: float) -> np.ndarray:
    """(F,) `beta` that maximises the bound on correlations (F, N, N), less `ridge |beta|^2 / 2N`."""
    penalty = ridge / correlations.shape[1]

    def loss(beta: np.ndarray) -> tuple[float, np.ndarray]:
        logs = log_softmax(np.tensordot(beta, correlations, 1), axis=1)
        surplus = np.exp(logs) - np.eye(len(logs))
        gradient = np.tensordot(correlations, surplus, 2) / len(logs) + penalty * beta
        return float(penalty * beta @ beta / 2 - np.trace(logs) / len(logs)), gradient

    beta: np.ndarray = minimize(loss, np.zeros(len(correlations)), jac=True, method="L-BFGS-B").x
    return beta


def bound(beta: np.ndarray, correlations: np.ndarray) -> Bound:
    """The bound's terms on correlations (F, N, N)."""
    logs = log_softmax(np.tensordot(beta, correlations, 1), axis=1)
    images = np.arange(len(logs))
    return Bound(nats=np.log(len(logs)) + logs[images, images], is_largest=logs.argmax(axis=1) == images)


METRICS.add(
    MetricSpec(
        name="certainty_nce",
        compute=certainty_nce,
        options=CertaintyNceOptions,
        columns={"certainty_nce": "higher", "certainty_nce_features": "higher"},
        definition="largest correlation of the map with a feature of its image; over a data set InfoNCE",
        range="[-1, 1]; InfoNCE: at most ln N, in nats",
        reference="van den Oord, Li, Vinyals, 2018; Poole et al., ICML 2019",
        forwards=lambda options: 0,
        family="certainty",
        descriptions={
            "certainty_nce": "largest correlation of the map with a feature of its image, on a grid",
            "certainty_nce_features": "mean correlation of the map with the features of its image, on a grid",
            "certainty_nce_vector": "the map on a grid, standardised",
            "certainty_nce_features_vector": "the image's features on a grid, each standardised",
            "certainty_nce_nats": "InfoNCE: estimate of a lower bound of what maps tell of their images, in nats",
            "certainty_nce_error": "standard error of certainty_nce_nats, the critic taken as given",
            "certainty_nce_ceiling": "greatest value that certainty_nce_nats can take: ln of the images in a half",
            "certainty_nce_top1": "share of maps that fit their own image best among those of their half",
            "certainty_nce_images": "number of images that the numbers of the data set are made from",
        },
        needs=frozenset({"map"}),
        vectors=("certainty_nce_vector", "certainty_nce_features_vector"),
        dataset_columns={
            "certainty_nce_nats": "higher",
            "certainty_nce_error": "none",
            "certainty_nce_ceiling": "none",
            "certainty_nce_top1": "higher",
            "certainty_nce_images": "none",
        },
        dataset=dataset,
    )
)
