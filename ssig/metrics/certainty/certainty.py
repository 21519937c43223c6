"""Explanation certainty of one image: mutual information between its map and each of its features, cell by cell.

    I_f = sum_{a,b} p(a, b) ln( p(a, b) / (p(a) p(b)) ) - mean over far shifts of the same,   in nats
    certainty = max_f I_f,   certainty_mean = mean_f I_f,   certainty_bound = exp(max_f I_f) / bins

a and b are equal-frequency bins of the ranks of the feature and of the map on one grid of 28 x 28 cells: with uniform
margins this is the information of the copula, so nothing but order matters. Luo, McDermott, O'Riordan, *Sampling
Matters in Explanations* (2025), measure an explanation by `Pr(x | z) >= exp(I(x; z)) / exp(H(x))`; here x is the bin
of a feature in a cell, whose H is at most `ln bins`. A feature tells no more than the image it is made of, so the
largest I_f is the tightest of these bounds.

The correction. Plug-in information is never negative: chance adds to it, and more for smooth maps, whose cells repeat
each other. The formula of Miller and Madow, (occupied pairs - rows - columns + 1) / 2n, counts cells as independent,
and so leaves smooth maps too much. The chance level taken off here is the mean over the map shifted around the
torus by a quarter of a side or more (the torus translation of Harms et al., 2001): what the two would share if each
kept its own smoothness and they had nothing to do with each other. All shifts are used: no random numbers.

What it is not. It is an estimate of a bound, from 784 dependent cells of one image that are treated as draws of one
law; not the information of the whole image, of which a hand-made bank sees a part. Binning loses information: with 8
bins a Gaussian copula of correlation .8 gives .44 of its .51 nats, and no map gets beyond ln 8 = 2.08. The correction
takes the chance level of *unrelated* fields off related ones too, which is too much. The largest of five estimates is
biased upwards: by .01 nats for maps of noise, where each of the five is 0 on average. An estimate may be negative and
stays so: means over images would be biased otherwise. A map in the centre of the image gets what centred objects share
with it: read every value beside the controls (`random`, `sobel`, `centre`); `sobel`, itself an edge map, shows what a
map of edges alone gets.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import entr
from scipy.stats import rankdata

from ssig.metrics.certainty.image_features import (
    FEATURES,
    NAMES,
    READINGS,
    constant,
    image_features,
    pooled_maps,
    settled,
)
from ssig.metrics.shared.assemble import assemble
from ssig.options import option
from ssig.registry import METRICS, MetricSpec
from ssig.types import Evaluation, MetricResult

CORRECTIONS = ("shifts", "miller-madow", "none")
# Share of a side: a smooth map shifted by less still overlaps its feature.
FAR = 0.25

_TOTALS = ("certainty", "certainty_mean", "certainty_bound")
_BY_FEATURE = tuple(f"certainty_{feature}" for feature in FEATURES)


@dataclass(frozen=True)
class CertaintyOptions:
    """How map and features become bins, and how chance is subtracted."""

    size: int = option(28, "cells of the grid each way; at most the pixels of the input", at_least=2)
    bins: int = option(8, "equal-frequency bins of each rank", at_least=2, at_most=64)
    reading: str = option("magnitude", "what is compared: |map|, or the signed map", choices=READINGS)
    correction: str = option("shifts", "how the information by chance is subtracted", choices=CORRECTIONS)


def certainty(evaluation: Evaluation, options: CertaintyOptions) -> MetricResult:
    """Information in nats between the map and each feature, their greatest and mean, and the bound."""
    columns = {name: np.full(len(evaluation), np.nan) for name in (*_TOTALS, *_BY_FEATURE)}
    excluded: list[dict[str, str]] = []
    maps = pooled_maps(evaluation, options.size, options.reading)
    for row, (cells, bank) in enumerate(zip(maps, image_features(evaluation, options.size), strict=True)):
        excluded.append(_reasons(cells, bank))
        usable = [name not in excluded[row] for name in _BY_FEATURE]
        if not any(usable):
            continue
        ranked = binned(cells, options.bins)
        nats = [information(binned(feature, options.bins), ranked, options) for feature in bank[usable]]
        best = max(nats)
        values = (best, float(np.mean(nats)), float(np.exp(best)) / options.bins, *nats)
        names = (*_TOTALS, *(name for name, is_usable in zip(_BY_FEATURE, usable, strict=True) if is_usable))
        for name, value in zip(names, values, strict=True):
            columns[name][row] = value
    return assemble(columns, excluded)


def binned(values: np.ndarray, bins: int) -> np.ndarray:
    """Bin in [0, bins) of each value by its rank; equal values share their mean rank, and so a bin."""
    ranks = rankdata(settled(values).ravel()).reshape(values.shape)
    result: np.ndarray = np.clip(((ranks - 0.5) * bins / values.size).astype(np.int64), 0, bins - 1)
    return result


def information(first: np.ndarray, second: np.ndarray, options: CertaintyOptions) -> float:
    """Mutual information of two fields of bins (h, w), in nats, without what chance gives."""
    fields = (first, second, first * options.bins + second)
    rows, columns, pairs = (np.bincount(field.ravel()) / first.size for field in fields)
    estimate = float(entr(rows).sum() + entr(columns).sum() - entr(pairs).sum())
    if options.correction == "shifts":
        shifted = shifted_information(first, second, options.bins)
        return estimate - float(shifted[_far(*shifted.shape)].mean())
    if options.correction == "miller-madow":
        occupied = [np.count_nonzero(field) for field in (rows, columns, pairs)]
        return estimate - (occupied[2] - occupied[0] - occupied[1] + 1) / (2 * first.size)
    return estimate


def shifted_information(first: np.ndarray, second: np.ndarray, bins: int) -> np.ndarray:
    """Plug-in information between `first` and `second` shifted around the torus, at every shift (h, w), in nats.

    The counts of all pairs of bins at all shifts are cross-correlations of indicators; the margins stay.
    """
    size = first.shape
    indicators = (np.arange(bins)[:, None, None] == field for field in (first, second))
    left, right = (np.fft.rfft2(indicator) for indicator in indicators)
    counts = np.rint(np.fft.irfft2(left[:, None] * right[None, :].conj(), s=size))
    margins = sum(entr(np.bincount(field.ravel(), minlength=bins) / field.size).sum() for field in (first, second))
    result: np.ndarray = margins - entr(counts.clip(min=0) / first.size).sum(axis=(0, 1))
    return result


def _far(height: int, width: int) -> np.ndarray:
    """(h, w) bool, the shifts by a quarter of a side or more."""
    down, across = (np.minimum(np.arange(side), side - np.arange(side)) / side for side in (height, width))
    result: np.ndarray = (down[:, None] >= FAR) | (across[None, :] >= FAR)
    return result


def _reasons(cells: np.ndarray, bank: np.ndarray) -> dict[str, str]:
    if constant(cells):
        return dict.fromkeys((*_TOTALS, *_BY_FEATURE), "map is constant on the grid")
    flat = [name for name, feature in zip(_BY_FEATURE, bank, strict=True) if constant(feature)]
    reasons = dict.fromkeys(flat, "the image's feature is constant")
    if len(flat) == len(_BY_FEATURE):
        reasons.update(dict.fromkeys(_TOTALS, "the image's features are all constant"))
    return reasons


METRICS.add(
    MetricSpec(
        name="certainty",
        compute=certainty,
        options=CertaintyOptions,
        columns={
            "certainty": "higher",
            "certainty_mean": "higher",
            "certainty_bound": "higher",
            **dict.fromkeys(_BY_FEATURE, "higher"),
        },
        definition="mutual information of the ranks of map and image features on a grid, chance taken off, in nats",
        descriptions={
            "certainty": "greatest mutual information of the map with a feature of its image, in nats",
            "certainty_mean": "mean mutual information of the map with the features of its image, in nats",
            "certainty_bound": "exp(certainty) / bins, an estimate of a bound on the probability of a feature's bin",
            **{
                column: f"mutual information of the map with the image's {name}, chance taken off, in nats"
                for column, name in zip(_BY_FEATURE, NAMES, strict=True)
            },
        },
        range="about 0 (unrelated) to ln bins",
        reference="after Luo, McDermott, O'Riordan 2025; torus translation: Harms et al. 2001",
        forwards=lambda options: 0,
        family="certainty",
        needs=frozenset({"map"}),
    )
)
