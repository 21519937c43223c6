"""Methods against each other: means, paired differences to the reference, who leads, ranks, and groups.

Every comparison is made on the images that both methods have. Verdicts (`better`, `worse`, a lead) are of headline
columns that have a better direction and by which methods can be compared, and of `FEWEST` images or more. Each kind of
claim is corrected over all of a model's claims of its kind, so that under methods that do not differ at most one
report in twenty holds a false one:

    better, worse   paired t, Holm over all methods and headline columns
    leads           better than each other method: the largest of its p-values, Holm over the headline columns
    ranks           Holm over the pairs of a column, Bonferroni over the columns
    groups          Friedman, Holm over the families; then Nemenyi's critical difference within a family
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.report.columns import Column
from pipeline.report.coverage import reached_coverage, skewness
from pipeline.report.measurements import Measurements
from pipeline.report.pairs import PairedSums
from pipeline.report.ranks import ColumnLead, friedman_in_pieces, lead, rank_intervals
from pipeline.report.statistics import ALPHA, CONFIDENCE, FEWEST, Intervals, Paired, holm, intervals
from ssig.registry import FAMILIES

# An interval is said to fall short where the simulation reached so much less than it promises.
SHORT = 0.02


@dataclass(frozen=True)
class Estimate:
    """A mean with its interval and the number of images behind it; None where there is no number.

    Attributes:
        coverage: how often intervals of numbers as skewed as these hold the mean in simulations; None where that is as
            often as they promise.
    """

    mean: float | None
    low: float | None
    high: float | None
    count: int
    coverage: float | None = None


@dataclass(frozen=True)
class Difference(Estimate):
    """A method minus the reference, on the images that both have.

    Attributes:
        p: of the paired test, corrected over all verdicts of the model; None where there is no verdict to be had.
        verdict: ``better`` or ``worse`` than the reference; empty where that is not known.
    """

    p: float | None = None
    verdict: str = ""


@dataclass(frozen=True)
class Rank:
    """The ranks that a method may have in a column, 1 the best."""

    low: int
    high: int


@dataclass(frozen=True)
class Lead:
    """Who leads a column, or why nobody does.

    Attributes:
        column: of which two methods or more have numbers.
        leader: the method that beats each other one; None where nobody does.
        ahead: the method that is ahead of each other one, be it by chance; None where there is none, or that is not
            known.
        rival: the method that `ahead` beats least surely.
        difference: `ahead` minus `rival`, on the images that both have.
        p: that `ahead` beats each other method, corrected over the columns; None where nothing was tested.
        reason: why no method leads; empty where one does.
        fewest, most: images that two methods have in common, of all pairs.
        ranks: of each method that has the column.
    """

    column: Column
    leader: str | None
    ahead: str | None
    rival: str | None
    difference: Estimate | None
    p: float | None
    reason: str
    fewest: int
    most: int
    ranks: dict[str, Rank]


@dataclass(frozen=True)
class Grouping:
    """The methods of a family of columns, ranked on the images that have all of these.

    Attributes:
        family: of `ssig.registry.FAMILIES`.
        columns: its headline columns that can be compared.
        count: images that have all of them under every method that is ranked.
        ranks: method -> its average rank, the best first.
        p: that the methods differ at all, corrected over the families; None where there are too few images.
        critical_difference: how far two average ranks must lie apart to be told apart.
        groups: methods that are not told apart, the best first; each a run in the order of ranks.
        left_out: methods that lack one of the columns altogether.
    """

    family: str
    columns: tuple[str, ...]
    count: int
    ranks: dict[str, float]
    p: float | None
    critical_difference: float | None
    groups: tuple[tuple[str, ...], ...]
    left_out: tuple[str, ...]


@dataclass(frozen=True)
class Comparison:
    """The numbers of one model.

    Attributes:
        methods: labels, in the user's order.
        reference: one of them.
        columns: as in `Measurements`.
        means: method -> column name -> estimate.
        differences: method (the reference left out) -> column name -> that of method minus reference.
        leads: column name -> who leads, for headline columns that can be compared and two methods or more.
        groupings: by family.
        raced: how many columns were tested for a leader.
        verdicts: how many comparisons with the reference were tested.
    """

    methods: tuple[str, ...]
    reference: str
    columns: tuple[Column, ...]
    means: dict[str, dict[str, Estimate]]
    differences: dict[str, dict[str, Difference]]
    leads: dict[str, Lead]
    groupings: tuple[Grouping, ...]
    raced: int
    verdicts: int


def compare(measurements: Measurements) -> Comparison:
    """Means, paired differences, leaders, ranks and groups of a model."""
    compared = [index for index, column in enumerate(measurements.columns) if column.headline and column.compared]
    leads = {
        index: lead(
            measurements.values.pieces(index), measurements.columns[index].sign, _is_share(measurements, index)
        )
        for index in compared
    }
    differences, verdicts = _differences(measurements, leads)
    return Comparison(
        methods=measurements.methods,
        reference=measurements.reference,
        columns=measurements.columns,
        means=_means(measurements),
        differences=differences,
        leads=_leads(measurements, leads),
        groupings=_groupings(measurements, compared),
        raced=int(np.isfinite([column_lead.p for column_lead in leads.values()]).sum()),
        verdicts=verdicts,
    )


def estimates(spans: Intervals, coverage: Sequence[float] | np.ndarray | None = None) -> list[Estimate]:
    """One estimate per column."""
    reached = np.full(len(spans.mean), np.nan) if coverage is None else coverage
    numbers = zip(spans.mean, spans.low, spans.high, spans.count, reached, strict=True)
    return [
        Estimate(number_or_none(mean), number_or_none(low), number_or_none(high), int(count), _short(share))
        for mean, low, high, count, share in numbers
    ]


def mean_estimates(values: np.ndarray, shares: np.ndarray | None = None) -> list[Estimate]:
    """The means of columns (N, K) with their intervals, and what these reach where numbers are skewed."""
    share = np.zeros(values.shape[1], bool) if shares is None else shares
    spans = intervals(values, share)
    skew = skewness(values)
    reached = [
        np.nan if is_share or not np.isfinite(bent) else reached_coverage(float(bent), int(count))
        for is_share, bent, count in zip(share, skew, spans.count, strict=True)
    ]
    return estimates(spans, reached)


def number_or_none(value: float) -> float | None:
    """The number; None for NaN and infinity."""
    return float(value) if np.isfinite(value) else None


def _is_share(measurements: Measurements, index: int) -> bool:
    """Whether a column is 0 or 1 for each image: it is flagged, and no image has a fraction, as `pointing` gives of
    tied maxima."""
    if not measurements.columns[index].share:
        return False
    pieces = measurements.values.pieces(index)
    return all(bool(((piece == 0) | (piece == 1) | ~np.isfinite(piece)).all()) for piece in pieces)


def _means(measurements: Measurements) -> dict[str, dict[str, Estimate]]:
    names = [column.name for column in measurements.columns]
    # A fraction varies less than 0 or 1 of the same mean, so Wilson's interval holds for it too.
    shares = np.array([column.share for column in measurements.columns], bool)
    # Many at once, so that columns of as many images share the bootstrap's draws.
    flags = np.tile(shares, len(measurements.methods))
    every: list[Estimate] = []
    for piece in measurements.values.pieces_of_columns():
        every += mean_estimates(piece, flags[len(every) : len(every) + piece.shape[1]])
    rows = [every[number * len(names) : (number + 1) * len(names)] for number in range(len(measurements.methods))]
    return {method: dict(zip(names, row, strict=True)) for method, row in zip(measurements.methods, rows, strict=True)}


def _differences(
    measurements: Measurements, leads: dict[int, ColumnLead]
) -> tuple[dict[str, dict[str, Difference]], int]:
    """Each other method minus the reference, with the verdicts of the columns of `leads`; how many were tested."""
    reference = measurements.methods.index(measurements.reference)
    compared = [number for number in range(len(measurements.methods)) if number != reference]
    tested = np.full((len(compared), len(measurements.columns)), np.nan)
    result: list[list[Difference]] = [[] for _ in compared]
    for index in range(len(measurements.columns)):
        if index in leads:
            pairs = leads[index].pairs
            against = Paired(*(array[compared, reference] for array in _arrays(pairs)))
            tested[:, index] = against.p
        else:
            sums = PairedSums(np.full(len(compared), _is_share(measurements, index)))
            for piece in measurements.values.pieces(index):
                sums.add(piece[:, compared], piece[:, [reference]])
            against = sums.paired()
        for row, numbers in enumerate(zip(against.mean, against.low, against.high, against.count, strict=True)):
            mean, low, high, count = numbers
            result[row].append(Difference(number_or_none(mean), number_or_none(low), number_or_none(high), int(count)))
    adjusted = holm(tested)
    return {
        measurements.methods[number]: {
            column.name: _judged(column, difference, p)
            for column, difference, p in zip(measurements.columns, result[row], adjusted[row], strict=True)
        }
        for row, number in enumerate(compared)
    }, int(np.isfinite(tested).sum())


def _judged(column: Column, difference: Difference, p: float) -> Difference:
    """A difference with its corrected p-value (NaN for none) and the verdict that follows."""
    verdict = ""
    if p <= ALPHA and difference.mean:
        verdict = "better" if difference.mean * column.sign > 0 else "worse"
    return Difference(
        difference.mean, difference.low, difference.high, difference.count, None, number_or_none(p), verdict
    )


def _leads(measurements: Measurements, leads: dict[int, ColumnLead]) -> dict[str, Lead]:
    raced = {index: column_lead for index, column_lead in leads.items() if column_lead.reason != "alone"}
    adjusted = holm(np.array([column_lead.p for column_lead in raced.values()]))
    return {
        measurements.columns[index].name: _lead(measurements, index, column_lead, float(p), len(raced))
        for (index, column_lead), p in zip(raced.items(), adjusted, strict=True)
    }


def _lead(measurements: Measurements, index: int, column_lead: ColumnLead, p: float, columns: int) -> Lead:
    present = np.flatnonzero(measurements.values.present[:, index])
    counts = column_lead.pairs.count[np.ix_(present, present)][np.triu_indices(len(present), 1)]
    ahead = None if column_lead.leader is None else measurements.methods[column_lead.leader]
    rival = None if column_lead.rival is None else measurements.methods[column_lead.rival]
    difference = None
    if column_lead.rival is not None:
        mean, low, high, count, _ = (array[column_lead.rival] for array in _arrays(column_lead.comparisons))
        difference = Estimate(number_or_none(mean), number_or_none(low), number_or_none(high), int(count))
    reason = _why_nobody(column_lead.reason, ahead, rival, difference, p, int(counts.max()))
    leader = None if reason else ahead
    has_difference = difference is not None and bool(difference.mean)
    return Lead(
        column=measurements.columns[index],
        leader=leader,
        ahead=ahead if has_difference else None,
        rival=rival if has_difference else None,
        difference=difference,
        p=None if column_lead.reason in ("few", "tie", "circle") else number_or_none(p),
        reason=reason,
        fewest=int(counts.min()),
        most=int(counts.max()),
        ranks=_ranks(measurements.columns[index], column_lead.pairs, measurements.methods, present, columns, leader),
    )


def _why_nobody(
    reason: str, ahead: str | None, rival: str | None, difference: Estimate | None, p: float, most: int
) -> str:
    """Why no method leads a column; empty where `ahead` does."""
    if reason == "circle":
        return "no method is ahead of all others: they have numbers for different images"
    if ahead is None or difference is None:
        return f"no two methods have more than {most:,} images in common, and a verdict needs {FEWEST}"
    if reason == "few":
        return f"{ahead} and {rival} have {difference.count:,} images in common, and a verdict needs {FEWEST}"
    if reason == "tie":
        return f"{ahead} and {rival} have the same mean"
    return "" if p <= ALPHA else f"{ahead} does not beat {rival}"


def _ranks(
    column: Column, pairs: Paired, methods: Sequence[str], present: np.ndarray, columns: int, leader: str | None
) -> dict[str, Rank]:
    """The ranks that methods may have in a column, all of a model's `columns` together; a leader is first."""
    chosen = np.ix_(present, present)
    better = column.sign * np.nan_to_num(pairs.mean[chosen]) > 0
    lowest, highest = rank_intervals(np.minimum(columns * pairs.p[chosen], 1), better)
    ranks = {methods[number]: Rank(int(a), int(b)) for number, a, b in zip(present, lowest, highest, strict=True)}
    if leader is None:
        return ranks
    behind = {name: Rank(max(rank.low, 2), max(rank.high, 2)) for name, rank in ranks.items()}
    return {**behind, leader: Rank(1, 1)}


def _groupings(measurements: Measurements, compared: Sequence[int]) -> tuple[Grouping, ...]:
    """The methods of each family, where two or more have all of its columns."""
    # A column of one method alone ranks nobody, and would leave out all others.
    has_numbers = measurements.values.present
    present = [index for index in compared if has_numbers[:, index].sum() > 1]
    families = {
        family: [index for index in present if measurements.columns[index].family == family] for family in FAMILIES
    }
    families = {family: members for family, members in families.items() if members}
    results = {
        family: friedman_in_pieces(
            measurements.values.pieces_of_images(members),
            np.array([measurements.columns[index].sign for index in members]),
            has_numbers[:, members],
        )
        for family, members in families.items()
    }
    adjusted = holm(np.array([result.p for result in results.values()]))
    groupings = []
    for (family, result), p in zip(results.items(), adjusted, strict=True):
        members = families[family]
        complete = has_numbers[:, members].all(axis=1)
        if complete.sum() < 2:
            continue
        ranked = sorted(np.flatnonzero(np.isfinite(result.ranks)), key=lambda number: result.ranks[number])
        names = [measurements.methods[number] for number in ranked]
        apart = tuple(tuple(measurements.methods[number] for number in group) for group in result.groups)
        groupings.append(
            Grouping(
                family=family,
                columns=tuple(measurements.columns[index].name for index in members),
                count=result.count,
                ranks={measurements.methods[number]: float(result.ranks[number]) for number in ranked},
                p=number_or_none(p),
                critical_difference=number_or_none(result.critical_difference),
                groups=apart if p <= ALPHA else (tuple(names),) if names else (),
                left_out=tuple(measurements.methods[number] for number in np.flatnonzero(~complete)),
            )
        )
    return tuple(groupings)


def _arrays(pairs: Paired) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    return pairs.mean, pairs.low, pairs.high, pairs.count, pairs.p


def _short(coverage: float) -> float | None:
    """A coverage that falls short of what intervals promise, else None."""
    return float(coverage) if coverage < CONFIDENCE - SHORT else None
