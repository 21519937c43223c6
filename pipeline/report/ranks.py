"""Who is ahead of whom: leaders of a column, intervals of ranks, and groups that are not told apart.

Every comparison is made on the images that both methods have, and none on fewer than `FEWEST`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from scipy import stats

from pipeline.report.pairs import pairwise
from pipeline.report.statistics import ALPHA, CONFIDENCE, FEWEST, Paired, holm


@dataclass(frozen=True)
class ColumnLead:
    """Who may lead a column, M methods.

    Attributes:
        leader: the method that is ahead of each other one on the images that both have; None where there is none.
        p: the largest p-value of the leader against another method. A lead is claimed where ``holm`` of the p of all
            columns of a model is at most `ALPHA`. 1 where nobody can lead, NaN where nothing could be compared: such a
            column is not counted.
        rival: the method that stands most in the way; None where there is no leader.
        comparisons: leader minus each method, (M,) arrays; all NaN without a leader, and NaN at the leader itself.
        reason: why nobody can lead, whatever the p: ``""``, ``alone`` (fewer than two methods have the column),
            ``few`` (too few images in common with the rival, or of all pairs), ``tie`` (the rival has an equal mean),
            ``circle`` (nobody is ahead of all others, since the methods keep different images), ``undirected``.
        pairs: each method (row) minus each other (column), as of `pairwise`.
    """

    leader: int | None
    p: float
    rival: int | None
    comparisons: Paired
    reason: str
    pairs: Paired


@dataclass(frozen=True)
class Grouping:
    """Friedman's test of M methods over images, with Nemenyi's critical difference.

    Attributes:
        ranks: (M,) average rank, 1 the best; NaN for a method that lacks a column, which is left out.
        p: of Iman and Davenport's F; NaN below `FEWEST` images or with fewer than two methods.
        critical_difference: two average ranks that differ by more are distinguished, at `ALPHA` over all pairs; NaN as
            for p.
        count: images that have all columns of all these methods.
        groups: methods that are not distinguished, best first: each a longest run in the order of ranks. One group of
            all where p exceeds `ALPHA`; empty without p.
    """

    ranks: np.ndarray
    p: float
    critical_difference: float
    count: int
    groups: tuple[tuple[int, ...], ...]


def lead(pieces: Iterable[np.ndarray], sign: int, share: bool = False) -> ColumnLead:
    """Who is ahead of each other method on the images that both have, and how surely.

    To lead, a method must beat each other one, so the p-value of the lead is the largest of them (Berger, 1982): more
    methods make it no likelier.

    Args:
        pieces: (n, M) float, one metric column of every method, some images at a time.
        sign: 1 if higher is better, -1 if lower is, 0 if neither.
        share: whether the column is 0 or 1.
    """
    pairs = pairwise(pieces, share)
    present = np.flatnonzero(np.diag(pairs.count))

    def nobody(reason: str, p: float) -> ColumnLead:
        none = np.full(len(pairs.p), np.nan)
        return ColumnLead(None, p, None, Paired(none, none, none, np.zeros(len(none), int), none), reason, pairs)

    if sign == 0 or len(present) < 2:
        return nobody("undirected" if sign == 0 else "alone", np.nan)
    if not np.isfinite(pairs.p).any():
        return nobody("few", np.nan)
    ahead = sign * pairs.mean[np.ix_(present, present)]
    np.fill_diagonal(ahead, 0)
    # Of methods without a common image none is behind; their reason is `few`, below.
    candidates = present[(np.isnan(ahead) | (ahead >= 0)).all(axis=1)]
    if not len(candidates):
        return nobody("circle", 1.0)
    leader = int(max(candidates, key=lambda method: np.nansum(sign * pairs.mean[method])))
    comparisons = Paired(*(array[leader] for array in (pairs.mean, pairs.low, pairs.high, pairs.count, pairs.p)))
    rivals = present[present != leader]
    level = np.where(np.isnan(comparisons.p[rivals]), np.inf, comparisons.p[rivals])
    # Of rivals with equal p, as 1 twice, the one that is nearest.
    rival = int(rivals[np.lexsort((np.abs(np.nan_to_num(comparisons.mean[rivals])), -level))[0]])
    reason = "few" if np.isnan(comparisons.p[rival]) else "tie" if comparisons.mean[rival] == 0 else ""
    p = 1.0 if reason else float(comparisons.p[rival])
    return ColumnLead(leader, p, rival, comparisons, reason, pairs)


def rank_intervals(p: np.ndarray, better: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest rank (M,) that each method may have, 1 the best; all hold together at `CONFIDENCE`.

    A method is at best behind those that are surely better and at worst ahead of those that are surely worse, where
    surely means by Holm over all pairs.

    Args:
        p: (M, M) symmetric p-values of the pairs, not adjusted, as `pairwise` has them; NaN where there is none.
        better: (M, M) bool, whether the row's method has the better mean than the column's.

    Source: D. Mohamad, J. Goeman, E. van Zwet, *Simultaneous confidence intervals for ranks with application to
    ranking institutions*, Biometrics 78 (2022), 238-247.
    """
    methods = len(p)
    upper = np.triu_indices(methods, 1)
    adjusted = np.full((methods, methods), np.nan)
    adjusted[upper] = holm(p[upper])
    sure = np.fmin(adjusted, adjusted.T) <= 1 - CONFIDENCE
    above, below = (sure & better.T).sum(axis=1), (sure & better).sum(axis=1)
    return 1 + above, methods - below


def friedman_in_pieces(pieces: Iterable[np.ndarray], signs: np.ndarray, present: np.ndarray) -> Grouping:
    """Whether methods differ over a group of columns, and which are not told apart.

    Each image ranks the methods once: by the average of their ranks in its columns, so that columns of one image,
    which depend on each other, count as one judge. Ties share their average rank.

    Args:
        pieces: (n, M, C) float, the columns of the group, some images at a time.
        signs: (C,) 1 or -1 as higher or lower is better.
        present: (M, C) bool, whether any image has a number.

    Sources: J. Demsar, *Statistical comparisons of classifiers over multiple data sets*, JMLR 7 (2006), 1-30; R. L.
    Iman, J. M. Davenport, *Approximations of the critical region of the Friedman statistic*, Comm. Statist. A 9
    (1980), 571-595.
    """
    ranks = np.full(len(present), np.nan)
    chosen = np.flatnonzero(present.all(axis=1))
    methods = len(chosen)
    count, total, spread = _judgements(pieces, chosen, np.asarray(signs))
    if count < FEWEST or methods < 2 or not len(signs):
        return Grouping(ranks, np.nan, np.nan, count, ())
    average = total / count
    ranks[chosen] = average
    between = count * ((average - (methods + 1) / 2) ** 2).sum()
    p = _iman_davenport(count, methods, between, spread)
    quantile = stats.studentized_range.ppf(1 - ALPHA, methods, np.inf)
    difference = float(quantile / np.sqrt(2) * np.sqrt(methods * (methods + 1) / (6 * count)))
    order = np.argsort(average, kind="stable")
    width = np.inf if p > ALPHA else difference
    return Grouping(ranks, p, difference, count, _runs(average[order], chosen[order], width))


def _judgements(pieces: Iterable[np.ndarray], chosen: np.ndarray, signs: np.ndarray) -> tuple[int, np.ndarray, float]:
    """How many images have all columns under the `chosen` methods, the sum of the ranks that they give each method,
    and the sum of squares of the ranks' deviations from their mean."""
    count, total, spread = 0, np.zeros(len(chosen)), 0.0
    for piece in pieces:
        complete = piece[:, chosen]
        complete = complete[np.isfinite(complete).all(axis=(1, 2))]
        if not complete.size:
            count += len(complete)
            continue
        within = stats.rankdata(-complete.astype(np.float64) * signs, axis=1).mean(axis=2)
        judged = stats.rankdata(within.round(9), axis=1)
        count += len(complete)
        total += judged.sum(axis=0)
        spread += float(((judged - (len(chosen) + 1) / 2) ** 2).sum())
    return count, total, spread


def _iman_davenport(count: int, methods: int, between: float, spread: float) -> float:
    """p of F = (n - 1) B / (S - B): B between the methods and S in all, sums of squares of the ranks."""
    if spread == 0:
        return 1.0
    within = spread - between
    if within <= 1e-9 * spread:
        return float(np.exp(-(count - 1) * np.sum(np.log(np.arange(2, methods + 1)))))  # every image ranks alike
    return float(stats.f.sf((count - 1) * between / within, methods - 1, (methods - 1) * (count - 1)))


def _runs(ranks: np.ndarray, names: np.ndarray, width: float) -> tuple[tuple[int, ...], ...]:
    """The longest runs of ascending `ranks` that are no wider than `width`."""
    ends = [int(np.searchsorted(ranks, rank + width, side="right")) for rank in ranks]
    starts = [start for start, end in enumerate(ends) if start == 0 or end > ends[start - 1]]
    return tuple(tuple(int(name) for name in names[start : ends[start]]) for start in starts)
