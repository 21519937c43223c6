"""Local path integration: integrated gradients from images of the data set with similar logits.

    z = sum_r p_r (x - x_r) * integral_0^1 grad f_y(x_r + t (x - x_r)) dt

Source: Yang, Akhtar, Wen, Mian, *Local Path Integration for Attribution* (2023). The logits of the run's reference
images are cut by k-means into `centres` clusters, and each of these into R = `paths` smaller ones. An image has the
centre nearest to its logits; there, `x_r` is the real image nearest to the middle of each of its R clusters, and `p_r`
the cluster's share of the images, so that the `p_r` sum to 1 (the authors' code then divides by R, which only scales
the map). The integral is a quadrature with weights that sum to 1: `rule: endpoints` is the authors' (k points, both
ends included, equal weights), and `rule: right` their k = 1, at the image. `preset: paper` gives their settings, with
256 images in place of the training set.

The sum tends to `f(x) - sum_r p_r f(x_r)`, whose last term is the `baseline_score`; the option `baseline` is not
used. With `compat` it does not, and there is no residual. Clusters are made once a run and with a fixed seed: nothing
is random, so there is no standard error.

References stand for the data set, whichever image is explained: one that is the image itself stays, and its path adds
0 to the sum and to what the sum tends to.

Clusters are fewer where there are fewer distinct logits than clusters asked for, and such an image then takes fewer
evaluations. References whose logits are not finite are left out.

Two errors of the authors' code: its point j of path r goes from reference `(r k + j) mod R` to the image, while its
gradient is multiplied by `x - x_r` (`compat` does the same, and is not complete, however many the steps); and with
several centres, all have the weights of the last.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Generator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ssig.errors import UsageError
from ssig.estimators.common_options import CommonOptions, check_rule
from ssig.estimators.integrands import READOUTS
from ssig.estimators.integration import attribution, endpoints, gradients_of, logits_of
from ssig.estimators.quadrature import RULES, quadrature
from ssig.methods.expected_gradients import references_of, scores_of_references
from ssig.options import option
from ssig.registry import METHODS, MethodSpec
from ssig.types import SCORE, Group, Request, Response, Steps

# The reference's settings of k-means; the seed is ssig's.
RESTARTS, ITERATIONS, SEED = 3, 600, 0
# Two images are equally near to their middle; within this tolerance the first one represents both.
TIE = 1e-3
# Logits of one image in two batches differ by less than this share of the largest; those of two images by more.
SAME = 1e-5


@dataclass(frozen=True)
class LocalPathOptions(CommonOptions):
    readout: str = option("sum", "channels to map", choices=READOUTS)
    centres: int = option(1, "clusters of the data set; an image has the nearest", at_least=1)
    paths: int = option(8, "references R of each centre, one straight path from each", at_least=1)
    steps: int = option(4, "points on each path, one gradient evaluation each", at_least=1)
    rule: str = option("gauss-legendre", "quadrature on each path", choices=RULES)
    pool: int = option(128, "images of the data set to find references among; at least centres * paths", at_least=1)
    compat: bool = option(False, "start from the references of the authors' code; not complete")

    def __post_init__(self) -> None:
        check_rule(self.rule, self.steps)
        if self.pool < self.centres * self.paths:
            raise UsageError("pool", self.pool, f"at least centres * paths ({self.centres * self.paths})")


@dataclass(frozen=True)
class Centre:
    """A cluster of the reference images.

    Attributes:
        logits: (classes,) float64, the mean of its images.
        references: indices of the images that stand for its smaller clusters, ascending, as the authors order them.
        weights: `p_r`, share of the centre's images in each of these, summing to 1.
    """

    logits: NDArray[np.float64]
    references: tuple[int, ...]
    weights: tuple[float, ...]


@dataclass(frozen=True)
class Slot:
    """One point of each image that has points left.

    Attributes:
        owners: (n,) int64, the images.
        start, reference: (n,) int64, the reference that the point's path starts from, and `r` of the formula.
        time: where on the path the point is, in [0, 1].
        weight: `p_r` times the weight of the quadrature, for each image.
    """

    owners: Tensor
    start: Tensor
    reference: Tensor
    time: float
    weight: tuple[float, ...]


def lpi(group: Group, options: LocalPathOptions) -> Steps:
    pool = references_of(group)
    centres = pool.shared(
        ("lpi", options.centres, options.paths),
        lambda: centres_of(pool.logits.double().cpu().numpy(), options.centres, options.paths),
    )
    group, nearest = yield from _nearest(group, centres)
    baseline_scores = [
        scores[list(centre.references)] @ scores.new_tensor(centre.weights)
        for scores, centre in zip(scores_of_references(group, group.score), nearest, strict=True)
    ]
    scores = yield from endpoints(dataclasses.replace(group, baseline_scores=torch.stack(baseline_scores)))
    evaluations = torch.tensor([len(centre.references) * options.steps for centre in nearest])
    values = torch.zeros_like(group.images)
    most = int(evaluations.max())
    for first in range(0, most, group.budget):
        slots = [slot(nearest, number, options) for number in range(first, min(first + group.budget, most))]
        points = []
        for point in slots:
            start = pool.images[point.start].to(values)
            points.append(start + point.time * (group.images[point.owners] - start))
        response = yield Request(torch.cat(points), torch.cat([point.owners for point in slots]))
        gradients = gradients_of(response).split_with_sizes([len(point.owners) for point in slots])
        for point, gradient in zip(slots, gradients, strict=True):
            difference = group.images[point.owners] - pool.images[point.reference].to(values)
            values[point.owners] += values.new_tensor(point.weight).view(-1, 1, 1, 1) * difference * gradient
    return attribution(
        values,
        options.readout,
        scores,
        has_residual=not options.compat,
        error=None,
        evaluations=evaluations,
    )


def centres_of(logits: NDArray[np.float64], centres: int, paths: int) -> list[Centre]:
    """The clusters of a data set by its `logits` (n, classes): at most `centres`, each cut into `paths` at most."""
    finite = np.isfinite(logits).all(axis=1)
    # If no logits are finite, any image will do.
    usable = np.flatnonzero(finite) if finite.any() else np.zeros(1, dtype=np.int64)
    return [_centre(logits, inside, paths) for inside in clusters(logits, usable, centres)]


def _centre(logits: NDArray[np.float64], inside: NDArray[np.int64], paths: int) -> Centre:
    weights = {}
    for members in clusters(logits, inside, paths):
        distances = np.linalg.norm(logits[members] - logits[members].mean(axis=0), axis=1)
        nearest = distances <= distances.min() * (1 + TIE)
        weights[int(members[nearest.argmax()])] = len(members) / len(inside)
    references = tuple(sorted(weights))
    return Centre(logits[inside].mean(axis=0), references, tuple(weights[reference] for reference in references))


def clusters(logits: NDArray[np.float64], rows: NDArray[np.int64], count: int) -> list[NDArray[np.int64]]:
    """Cuts `rows` of `logits` by k-means into at most `count` clusters, none of them empty."""
    selected = logits[rows]
    count = distinct(selected, count)
    if count == 1:
        return [rows]
    from sklearn.cluster import KMeans  # a second to import; only this method needs it

    labels = KMeans(count, n_init=RESTARTS, max_iter=ITERATIONS, random_state=SEED).fit_predict(selected)
    return [rows[labels == label] for label in np.unique(labels)]


def distinct(logits: NDArray[np.float64], most: int) -> int:
    """How many rows of `logits` (n, classes) differ by more than rounding, counted up to `most`."""
    apart = SAME * np.linalg.norm(logits, axis=1).max()
    representatives = logits[:1]
    for row in logits[1:]:
        if len(representatives) == most:
            break
        if (np.linalg.norm(representatives - row, axis=1) > apart).all():
            representatives = np.concatenate([representatives, row[None]])
    return len(representatives)


def slot(centres: Sequence[Centre], number: int, options: LocalPathOptions) -> Slot:
    """Slot `number` = r k + j: point j of path r, for each image whose centre has that many paths."""
    path, step = divmod(number, options.steps)
    nodes, weights = quadrature(options.rule, options.steps)
    owners = [image for image, centre in enumerate(centres) if path < len(centre.references)]
    references = [centres[image].references for image in owners]
    starts = [indices[number % len(indices) if options.compat else path] for indices in references]
    return Slot(
        owners=torch.tensor(owners),
        start=torch.tensor(starts),
        reference=torch.tensor([indices[path] for indices in references]),
        time=float(nodes[step]),
        weight=tuple(float(centres[image].weights[path] * weights[step]) for image in owners),
    )


def _nearest(group: Group, centres: Sequence[Centre]) -> Generator[Request, Response, tuple[Group, list[Centre]]]:
    """Each image's centre; and the group, with scores if the logits were evaluated."""
    if len(centres) == 1:
        return group, [centres[0]] * len(group)
    logits = group.logits
    if logits is None:
        response = yield Request(group.images, group.owners(), want=SCORE | {"logits"})
        logits, group = logits_of(response), dataclasses.replace(group, scores=response.scores)
    middles = np.stack([centre.logits for centre in centres])
    distances = np.linalg.norm(logits.double().cpu().numpy()[:, None] - middles, axis=2)
    return group, [centres[index] for index in distances.argmin(axis=1)]


METHODS.add(
    MethodSpec(
        name="lpi",
        run=lpi,
        options=LocalPathOptions,
        paper="Yang, Akhtar, Wen, Mian 2023",
        equation="sum_r p_r (x - x_r) * integral of grad f(x_r + t (x - x_r)) dt, x_r and p_r by k-means of logits",
        evaluations=lambda options: int(options.paths * options.steps),
        complete=True,
        revision=1,  # references that differ by rounding are one
        baseline=lambda options: False,
        references=lambda options: int(options.pool),
        presets={"paper": {"paths": 20, "steps": 5, "rule": "endpoints", "pool": 256, "score": "logit"}},
    )
)
