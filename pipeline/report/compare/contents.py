"""The whole comparison of two runs as data: what the page shows and what `comparison.json` holds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from pipeline.report.compare.differences import Option, Row, options_of, rows_of
from pipeline.report.compare.maps import MOST, Likeness, expected, likenesses
from pipeline.report.compare.matching import Common, Pair, common_samples, pairs
from pipeline.report.comparison import Estimate
from pipeline.report.statistics import ALPHA, FEWEST
from pipeline.run.reader import Run, open_run
from pipeline.shards.samples import Status
from ssig.errors import UsageError

VERSION = 1
SHOWN_SAMPLES = 12


@dataclass(frozen=True)
class Side:
    """A run: its name (``A`` or ``B``), where it is, and how much of it is done."""

    name: str
    root: str
    digest: str
    expected: int
    complete: bool

    @property
    def shown(self) -> str:
        """The name of its folder."""
        return PurePosixPath(self.root.rstrip("/")).name or self.root


@dataclass(frozen=True)
class Maps:
    """How alike the maps of a method are in both runs.

    Attributes:
        count: pairs of maps that were compared.
        quantiles: of Spearman's rank correlation at 5, 50 and 95 %; None where none could be taken.
        cosine: the median; None likewise.
    """

    pair: Pair
    count: int
    quantiles: tuple[float, float, float] | None
    cosine: float | None


@dataclass(frozen=True)
class Comparison:
    """Two runs on their common samples.

    Attributes:
        sides: A and B.
        common: the samples.
        notes: what to know before the numbers are read, a sentence each.
        rows: the differences, B minus A.
        lacking: what only one run has, a phrase each.
        options: in which options equal labels differ.
        maps: of each pair whose maps were compared.
        drawn: how many samples were drawn for the maps, and by which seed.
        left_out: why maps were not compared -> how many.
        changed: the samples whose maps differ most.
    """

    sides: tuple[Side, Side]
    common: Common
    notes: list[str]
    rows: list[Row]
    lacking: list[str]
    options: list[Option]
    maps: list[Maps]
    drawn: tuple[int, int]
    left_out: Mapping[str, int]
    changed: list[Likeness]

    @property
    def tested(self) -> int:
        """How many differences were tested."""
        return sum(row.difference.p is not None for row in self.rows)

    @property
    def headlines(self) -> list[Row]:
        """The first number of each metric."""
        return [row for row in self.rows if row.column.headline]

    @property
    def further(self) -> list[Row]:
        return [row for row in self.rows if not row.column.headline]

    @property
    def summary(self) -> str:
        """What the tests allow to say, in a sentence."""
        count = f"{len(self.common.first):,} common images"
        if not self.rows:
            return f"The two runs have no number in common ({count})."
        if not self.tested:
            return f"Nothing was tested ({count}): a verdict needs {FEWEST} images that both runs have."
        verdicts = [row.difference.verdict for row in self.rows]
        better, worse = verdicts.count("better"), verdicts.count("worse")
        if not better + worse:
            return f"None of {self.tested} comparisons tells the two runs apart ({count})."
        return (
            f"B is better in {better} and worse in {worse} of {self.tested} comparisons; "
            f"{self.tested - better - worse} are undecided ({count})."
        )

    @property
    def correction(self) -> str:
        """What stands behind the verdicts."""
        return (
            "B minus A on the images that both runs have, with its own 95 % interval (paired t; of shares "
            f"Newcombe's). Better or worse: at {100 * ALPHA:.0f} %, corrected for {self.tested} comparisons (Holm). "
            f"No verdict below {FEWEST} images."
        )


def compare(
    paths: tuple[str, str], most: int = MOST, seed: int = 0, tell: Callable[[str], object] = str
) -> tuple[Comparison, tuple[Run, Run]]:
    """Compares two runs, and returns them too.

    Args:
        paths: of A and B.
        most: samples whose maps are read.
        seed: chooses them.
        tell: takes each warning.

    Raises:
        UsageError: a path is no run, or the runs have no sample or no method in common.
    """
    first, second = (open_run(path) for path in paths)
    common = common_samples(first, second)
    paired, lacking = pairs(first, second)
    if not paired:
        raise UsageError("RUN_B", second.root, f"a run with a method of {first.root}; {'; '.join(lacking)}")
    sides = _side("A", first), _side("B", second)
    for side in sides:
        if not side.complete:
            tell(f"warning: {side.name} ({side.shown}) is not complete; only what both runs have is compared")
    rows, only = rows_of(first, second, paired, common)
    alike = likenesses(first, second, paired, common, most, seed)
    comparison = Comparison(
        sides=sides,
        common=common,
        notes=[*common.notes, *_cautions(first, second, paired, alike.compared)],
        rows=rows,
        lacking=[*lacking, *only],
        options=options_of(first, second, paired),
        maps=[each for pair in paired if (each := _maps(pair, alike.compared)) is not None],
        drawn=(alike.samples, seed),
        left_out=alike.left_out,
        changed=alike.most_changed[:SHOWN_SAMPLES],
    )
    return comparison, (first, second)


def _cautions(first: Run, second: Run, paired: Sequence[Pair], compared: Sequence[Likeness]) -> list[str]:
    """What a difference may come from besides the maps."""
    notes = []
    networks = [
        {run.config[label].get("model", {}).get("weights_hash") for label in labels}
        for run, labels in (
            (first, [(pair.first_model, pair.method) for pair in paired]),
            (second, [(pair.second_model, pair.method) for pair in paired]),
        )
    ]
    if networks[0] != networks[1]:
        notes.append(
            "The networks differ, and metrics such as insertion are measured on each network itself: a difference may "
            "come from the network as well as from the maps."
        )
    other = sum(not each.same_target for each in compared)
    if other:
        notes.append(f"{other:,} of the {len(compared):,} pairs of maps explain different classes.")
    return notes


def _side(name: str, run: Run) -> Side:
    total = len(run.expected)
    done = {
        labels: sum(commit.statuses.get(Status.OK, 0) for commit in run.committed(*labels)) for labels in run.config
    }
    return Side(name, run.root, run.digest, total, all(count == total for count in done.values()))


def _maps(pair: Pair, compared: Sequence[Likeness]) -> Maps | None:
    of_pair = [likeness for likeness in compared if likeness.pair == pair]
    if not of_pair:
        return None
    ranks = [likeness.rank_correlation for likeness in of_pair if likeness.rank_correlation is not None]
    cosines = [likeness.cosine for likeness in of_pair if likeness.cosine is not None]
    low, middle, high = np.quantile(ranks, [0.05, 0.5, 0.95]).tolist() if ranks else (0.0, 0.0, 0.0)
    return Maps(
        pair, len(of_pair), (low, middle, high) if ranks else None, float(np.median(cosines)) if cosines else None
    )


def as_json(comparison: Comparison, runs: tuple[Run, Run]) -> dict[str, Any]:
    """The comparison for programs."""
    return {
        "version": VERSION,
        "runs": {
            side.name: {
                "root": side.root,
                "digest": side.digest,
                "expected": side.expected,
                "complete": side.complete,
            }
            for side in comparison.sides
        },
        "common": {
            "images": len(comparison.common.first),
            "matched_by_key_alone": comparison.common.by_key,
            "only_in": dict(zip("AB", comparison.common.only, strict=True)),
        },
        "notes": comparison.notes,
        "summary": comparison.summary,
        "statistics": comparison.correction,
        "differences": [row_record(row) for row in comparison.rows],
        "lacking": comparison.lacking,
        "options": [
            {"option": each.name, "A": each.first, "B": each.second, "methods": list(each.methods)}
            for each in comparison.options
        ],
        "maps": {
            "samples": comparison.drawn[0],
            "seed": comparison.drawn[1],
            "left_out": dict(comparison.left_out),
            "methods": [_maps_record(each) for each in comparison.maps],
            "most_changed": [_likeness_record(each, comparison, runs) for each in comparison.changed],
        },
    }


def row_record(row: Row) -> dict[str, Any]:
    """A difference as one flat record."""
    return {
        **_pair_record(row.pair),
        "column": row.column.name,
        "direction": row.column.direction,
        **_estimate_record("mean_a", row.first),
        **_estimate_record("mean_b", row.second),
        **_estimate_record("difference", row.difference),
        "n": row.difference.count,
        "p": row.difference.p,
        "verdict": row.difference.verdict,
        "not_tested": row.not_tested,
    }


def _pair_record(pair: Pair) -> dict[str, Any]:
    return {"model_a": pair.first_model, "model_b": pair.second_model, "method": pair.method}


def _estimate_record(name: str, estimate: Estimate) -> dict[str, Any]:
    return {name: estimate.mean, f"{name}_low": estimate.low, f"{name}_high": estimate.high}


def _maps_record(maps: Maps) -> dict[str, Any]:
    low, middle, high = maps.quantiles or (None, None, None)
    ranks = {"rank_correlation_5": low, "rank_correlation_50": middle, "rank_correlation_95": high}
    return {**_pair_record(maps.pair), "n": maps.count, **ranks, "cosine_50": maps.cosine}


def _likeness_record(each: Likeness, comparison: Comparison, runs: tuple[Run, Run]) -> dict[str, Any]:
    row = expected(runs[0], int(comparison.common.first[each.position]))
    return {
        **{name: row[name] for name in ("shard", "index", "key")},
        **_pair_record(each.pair),
        "rank_correlation": each.rank_correlation,
        "cosine": each.cosine,
    }
