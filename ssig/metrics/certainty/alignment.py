"""Sample alignment: how near the points at which a method takes its gradients are to natural images.

    kid      = mean_{i != j} k(a_i, a_j) + k(b_i, b_j) - k(a_i, b_j) - k(b_i, a_j),   k(a, b) = (a . b / d + 1)^3
    frechet  = |mu_a - mu_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2))
    spectrum = sqrt( mean_r (mean_i ln P_r(a_i) - mean_i ln P_r(b_i))^2 )

a_i: features of one sample drawn for image i; b_i: those of image i itself; P_r: power in ring r of the Fourier plane.
KID: Binkowski, Sutherland, Arbel, Gretton, *Demystifying MMD GANs* (2018); Frechet distance: Heusel et al. (2017).
Both are of this network's features and not of Inception's, so values compare methods on one network and nothing else.
The claim that samples near natural images explain best is that of Luo, McDermott, O'Riordan, *Sampling Matters in
Explanations* (2025); this measures its premise.

Pairs i = j stay out of all four terms of `kid`: a sample depends on its own image, and without them the statistic is
the unbiased U-statistic of Gretton et al. (2012) all the same. A law that gives the image itself scores exactly 0.
`alignment_kid_error` is its first-order standard error over images: right where the laws differ much, and too large,
by up to sqrt(2), where they are nearly equal, since it counts twice the part of the variance that is then left. The
Frechet distance is biased upwards, the more so with few images (at least several times d are wanted), and
equal N is the condition of any comparison.

Features of more than 64 entries are projected on 64 random orthonormal directions, the same everywhere, which keeps
`a . b / d` in expectation. The points at which the method took its gradients are drawn again: the image is explained
once more, without gradients where the points are known before them (`MethodSpec.path`). Of S of them `draws` are
taken evenly, floor((i + .5) S / draws), so that a path or a stratified sampler is seen from end to end, and those that
count are chosen at random among them for each image, at the same places for every method that has as many. Nodes of a
quadrature rule count equally, whatever their weights.

What it is not. Features of the explained network see what that network sees: a sample that fools it looks near.
Spectra are of pixel space, means over channels, without a window, so the jump at the borders is in them; power below
the rounding of 8-bit images is lifted to it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import Tensor

from ssig.engine.layers import PENULTIMATE
from ssig.errors import ModelError
from ssig.estimators.samplers import frequency_radii, rings
from ssig.metrics.shared.assemble import assemble
from ssig.metrics.shared.content import by_content
from ssig.options import option
from ssig.randomness import Stream
from ssig.registry import METRICS, MetricSpec
from ssig.types import Evaluation, Explainer, MetricResult

FEATURES = ("penultimate", "logits")
DEGREE = 3
QUANTISATION = (1 / 255) ** 2 / 12  # variance of the rounding to 8 bits: its power in every Fourier coefficient

_COLUMNS = ("alignment", "alignment_spectrum")
_DATASET = ("alignment_kid", "alignment_kid_error", "alignment_frechet", "alignment_spectrum_distance")
_CHUNK = 1024  # rows of the kernel matrix at a time

Look = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class AlignmentOptions:
    """Which points are drawn, and which features are compared."""

    features: str = option("penultimate", "what the last linear layer takes, or logits", choices=FEATURES)
    samples: int = option(1, "points of each image that count", at_least=1)
    draws: int = option(
        128, "points of the method that these are chosen from, evenly over all of its points", at_least=1
    )
    dimensions: int = option(64, "features are projected on this many, if they are more", at_least=1)
    most: int = option(10_000, "most images for the numbers of the data set", at_least=2)
    seed: int = option(0, "random seed for the choice of images", at_least=0)


def alignment(evaluation: Evaluation, options: AlignmentOptions) -> MetricResult:
    """Distance of the samples from their own image, in features and in spectrum, and the vectors of both.

    The vectors hold the image first and then its samples: (1 + samples) d features, (1 + samples) times ln P_r.
    """
    measured: dict[int, tuple[np.ndarray, np.ndarray]] = {}
    reason = "method takes no gradients at points"
    look = _look(evaluation, options.features)
    if evaluation.explainer is None:
        reason = "the method is not at hand"
    elif look is None:
        reason = "the network's features are not at hand"
    else:
        try:
            measured = dict(_measured(evaluation, evaluation.explainer, look, options))
        except ModelError as error:
            reason = str(error)
    columns = {name: np.full(len(evaluation), np.nan) for name in _COLUMNS}
    vectors = {name: np.full((len(evaluation), 1), np.nan) for name in _COLUMNS}
    for number, (name, distance) in enumerate(zip(_COLUMNS, (relative_distance, spectral_distance), strict=True)):
        if measured:
            vectors[name] = np.full((len(evaluation), next(iter(measured.values()))[number].size), np.nan)
        for row, pair in measured.items():
            columns[name][row] = distance(pair[number][0], pair[number][1:])
            vectors[name][row] = pair[number].ravel()
    return assemble(
        columns=columns,
        excluded=[{} if row in measured else dict.fromkeys(_COLUMNS, reason) for row in range(len(evaluation))],
        vectors={f"{name}_vector": rows for name, rows in vectors.items()},
    )


def relative_distance(image: np.ndarray, samples: np.ndarray) -> float:
    """Root mean square distance of the samples' features (S, d) from the image's (d,), over the norm of these."""
    norm = np.linalg.norm(image)
    return float(np.sqrt(((samples - image) ** 2).sum(axis=1).mean()) / norm) if norm > 0 else np.nan


def spectral_distance(image: np.ndarray, samples: np.ndarray) -> float:
    """Root mean square over rings of the mean difference of ln P, of samples (S, R) and image (R,)."""
    return float(np.sqrt(((samples - image).mean(axis=0) ** 2).mean()))


def dataset(columns: Mapping[str, np.ndarray], options: AlignmentOptions) -> dict[str, float]:
    """KID with its standard error, Frechet distance and distance of the spectra; NaN of fewer than two images."""
    if len(columns["alignment_vector"]) < 2:
        return dict.fromkeys((*_DATASET, "alignment_images"), np.nan)
    features, spectra = (
        columns[f"{name}_vector"].reshape(len(columns[f"{name}_vector"]), 1 + options.samples, -1) for name in _COLUMNS
    )
    # Spectra are computed on the CPU, so they are equal to the bit whatever was in the batch.
    chosen = by_content(spectra[:, 0], options.seed)[: options.most]
    features, spectra = (rows[chosen].astype(np.float64) for rows in (features, spectra))
    images, sample_sets = features[:, 0], [features[:, number] for number in range(1, 1 + options.samples)]
    distances = [kernel_distance(samples, images) for samples in sample_sets]
    return {
        "alignment_kid": float(np.mean([distance for distance, _ in distances])),
        "alignment_kid_error": float(np.mean([error for _, error in distances])),
        "alignment_frechet": float(np.mean([frechet_distance(samples, images) for samples in sample_sets])),
        "alignment_spectrum_distance": spectral_distance(spectra[:, 0].mean(axis=0), spectra[:, 1:].mean(axis=0)),
        "alignment_images": float(len(chosen)),
    }


def kernel_distance(first: np.ndarray, second: np.ndarray) -> tuple[float, float]:
    """Unbiased KID of features (N, d) and (N, d), row by row of the same image, and its standard error."""
    count, dimensions = first.shape
    sums = np.empty(count)
    for start in range(0, count, _CHUNK):
        rows = slice(start, start + _CHUNK)

        def kernel(left: np.ndarray, right: np.ndarray, rows: slice = rows) -> np.ndarray:
            values: np.ndarray = (left[rows] @ right.T / dimensions + 1) ** DEGREE
            return values

        core = kernel(first, first) + kernel(second, second) - kernel(first, second) - kernel(second, first)
        diagonal = np.arange(count)[rows]
        core[diagonal - start, diagonal] = 0
        sums[rows] = core.sum(axis=1)
    means = sums / (count - 1)
    return float(means.mean()), float(2 * means.std(ddof=1) / np.sqrt(count))


def frechet_distance(first: np.ndarray, second: np.ndarray) -> float:
    """Frechet distance of the Gaussians with the means and covariances of features (N, d) and (M, d)."""
    shift = first.mean(axis=0) - second.mean(axis=0)
    first_covariance, second_covariance = (np.atleast_2d(np.cov(rows, rowvar=False)) for rows in (first, second))
    values, vectors = np.linalg.eigh(first_covariance)
    root = (vectors * np.sqrt(values.clip(min=0))) @ vectors.T
    # tr (C_a C_b)^(1/2), by a symmetric matrix of the same eigenvalues: stable where the covariances are singular.
    cross = np.sqrt(np.linalg.eigvalsh(root @ second_covariance @ root).clip(min=0)).sum()
    # Rounding alone makes it negative.
    return max(0.0, float(shift @ shift + np.trace(first_covariance) + np.trace(second_covariance) - 2 * cross))


def log_spectrum(image: np.ndarray) -> np.ndarray:
    """(R,) ln of the power (mean over channels) in each ring of the Fourier plane that has a coefficient.

    Power is per pixel and coefficient: white noise of variance v has v in every ring. The mean colour stays out.
    """
    centred = image - image.mean(axis=(1, 2), keepdims=True)
    power = (np.abs(np.fft.rfft2(centred)) ** 2).mean(axis=0) / centred[0].size
    band = rings(frequency_radii((image.shape[1], image.shape[2]))).ravel()
    total, count = np.bincount(band, weights=power.ravel()), np.bincount(band)
    result: np.ndarray = np.log(total[count > 0] / count[count > 0] + QUANTISATION)
    return result


@cache
def directions(features: int, dimensions: int) -> np.ndarray:
    """(features, dimensions), random orthonormal columns, the same everywhere; the identity where that is enough."""
    if features <= dimensions:
        return np.eye(features)
    basis, triangle = np.linalg.qr(Stream(0).generator(0).standard_normal((features, dimensions)))
    result: np.ndarray = basis * np.sign(np.diag(triangle))
    return result


def _look(evaluation: Evaluation, features: str) -> Look | None:
    """Points (n, C, H, W) -> features (n, d), or None."""
    if features == "logits":
        return evaluation.forward
    activations = evaluation.activations
    return None if activations is None else lambda points: activations(points, PENULTIMATE)


def _measured(
    evaluation: Evaluation, explainer: Explainer, look: Look, options: AlignmentOptions
) -> Iterator[tuple[int, tuple[np.ndarray, np.ndarray]]]:
    """Row -> features (1 + S, d) and log spectra (1 + S, R), of the image and its samples."""
    pending: dict[int, Tensor] = {}
    for row, points in _points(evaluation, explainer, options):
        pending[row] = points
        if len(pending) * len(points) >= evaluation.batch:
            yield from _features_and_spectra(pending, look, evaluation.batch, options.dimensions)
            pending = {}
    yield from _features_and_spectra(pending, look, evaluation.batch, options.dimensions)


def _points(evaluation: Evaluation, explainer: Explainer, options: AlignmentOptions) -> Iterator[tuple[int, Tensor]]:
    """Row -> (1 + S, C, H, W), the image and those of the method's points that count."""
    for row, source in enumerate(evaluation.streams("alignment")):
        points = explainer.samples(row, options.draws)
        if points is not None:
            places = np.resize(source.generator(0).permutation(len(points)), options.samples)
            image = evaluation.images[row : row + 1]
            yield row, torch.cat([image, points[torch.from_numpy(places).to(points.device)].to(image)])


def _features_and_spectra(
    pending: Mapping[int, Tensor], look: Look, batch: int, dimensions: int
) -> Iterator[tuple[int, tuple[np.ndarray, np.ndarray]]]:
    if not pending:
        return
    parts = torch.split(torch.cat(list(pending.values())), batch)
    activations = torch.cat([look(part).cpu().double() for part in parts]).numpy()
    features = activations @ directions(activations.shape[1], dimensions)
    for (row, points), image_features in zip(pending.items(), np.split(features, len(pending)), strict=True):
        spectra = np.stack([log_spectrum(point) for point in points.double().cpu().numpy()])
        yield row, (image_features, spectra)


METRICS.add(
    MetricSpec(
        name="alignment",
        compute=alignment,
        options=AlignmentOptions,
        columns={"alignment": "lower", "alignment_spectrum": "lower"},
        definition="distance of the method's samples from their images; over a data set KID, Frechet, spectra",
        range="[0, inf), 0 for samples that are the image",
        reference="Binkowski et al., ICLR 2018; Heusel et al., NeurIPS 2017; Luo, McDermott, O'Riordan 2025",
        forwards=lambda options: 1 + options.samples,
        family="certainty",
        explanations=lambda options: 1,
        descriptions={
            "alignment": "distance of the samples' features from the image's (root mean square), over their norm",
            "alignment_spectrum": "root mean square difference of log power spectra, samples to their image",
            "alignment_vector": "features of the image, then of each sample",
            "alignment_spectrum_vector": "log power by ring of the Fourier plane of the image, then of each sample",
            "alignment_kid": "kernel distance (KID) of the samples' features from the images', on this network",
            "alignment_kid_error": "standard error of alignment_kid: too large where the laws are nearly equal",
            "alignment_frechet": "Frechet distance of the samples' features from the images', biased upwards",
            "alignment_spectrum_distance": "root mean square difference of mean log power spectra, samples to images",
            "alignment_images": "number of images that the numbers of the data set are made from",
        },
        needs=frozenset({"samples", "model"}),
        vectors=("alignment_vector", "alignment_spectrum_vector"),
        dataset_columns={
            "alignment_kid": "lower",
            "alignment_kid_error": "none",
            "alignment_frechet": "lower",
            "alignment_spectrum_distance": "lower",
            "alignment_images": "none",
        },
        dataset=dataset,
    )
)
