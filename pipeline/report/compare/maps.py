"""How much the stored maps of two runs differ, on some of their common samples."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import rankdata

from pipeline.report.compare.matching import Common, Pair
from pipeline.report.exhibits import StoredMap, StoredMaps
from pipeline.run.reader import Run
from ssig.randomness import Stream

MOST = 100  # samples whose maps are read, unless more are asked for
_SAME_CROP = 1e-6  # pixels


@dataclass(frozen=True)
class Likeness:
    """The two maps of a sample under a method.

    Attributes:
        position: of the sample among the common ones.
        rank_correlation: Spearman's, over pixels; None where one map is constant.
        cosine: of the angle between the maps; None where one is 0.
        same_target: whether both explain one class.
    """

    pair: Pair
    position: int
    rank_correlation: float | None
    cosine: float | None
    same_target: bool


@dataclass(frozen=True)
class Likenesses:
    """The maps that were compared.

    Attributes:
        compared: in order of pair and sample.
        samples: how many samples were drawn from the common ones.
        left_out: why maps were not compared -> how many.
    """

    compared: tuple[Likeness, ...]
    samples: int
    left_out: Mapping[str, int]

    @property
    def most_changed(self) -> list[Likeness]:
        """The samples, each with the method whose maps differ most, the most changed first."""
        ranked = [each for each in self.compared if each.rank_correlation is not None]
        ranked.sort(key=lambda each: (each.rank_correlation, each.position))
        first: dict[int, Likeness] = {}
        for each in ranked:
            first.setdefault(each.position, each)
        return list(first.values())


def likenesses(first: Run, second: Run, pairs: Sequence[Pair], common: Common, most: int, seed: int) -> Likenesses:
    """Compares the maps of at most `most` common samples, which `seed` chooses; a map or two are in memory.

    Raises:
        OSError: a file of a run cannot be read.
    """
    count = len(common.first)
    chosen = np.sort(Stream(seed).generator(0).permutation(count)[:most]) if count > most else np.arange(count)
    compared: list[Likeness] = []
    left_out: dict[str, int] = {}
    for pair in pairs:
        for each in _compared(first, second, pair, common, chosen):
            if isinstance(each, str):
                left_out[each] = left_out.get(each, 0) + 1
            else:
                compared.append(each)
    return Likenesses(tuple(compared), len(chosen), left_out)


def _compared(first: Run, second: Run, pair: Pair, common: Common, chosen: np.ndarray) -> Iterator[Likeness | str]:
    """The likeness of each chosen sample, or why there is none."""
    maps = StoredMaps(first, pair.first_model, pair.method), StoredMaps(second, pair.second_model, pair.method)
    for position in chosen.tolist():
        stored = (
            maps[0].read(expected(first, int(common.first[position]))),
            maps[1].read(expected(second, int(common.second[position]))),
        )
        reason = _why_not(*stored)
        if reason:
            yield reason
        else:
            assert stored[0].values is not None
            assert stored[1].values is not None
            same = stored[0].about.get("target") == stored[1].about.get("target")
            yield Likeness(pair, position, *alike(stored[0].values, stored[1].values), same)


def expected(run: Run, row: int) -> dict[str, Any]:
    """A row of a run's manifest."""
    return run.expected.row(row)


def _why_not(first: StoredMap, second: StoredMap) -> str:
    if first.values is None or second.values is None:
        return "no map stored in one of the runs"
    if first.values.shape != second.values.shape:
        return "maps of other sizes"
    crop, other = first.about.get("crop"), second.about.get("crop")
    if crop is not None and other is not None and np.abs(np.subtract(crop, other)).max() > _SAME_CROP:
        return "the networks see other parts of the image"
    return ""


def alike(first: np.ndarray, second: np.ndarray) -> tuple[float | None, float | None]:
    """Spearman's rank correlation and the cosine of two maps; None where one of them has no variation or length."""
    ranks = [rankdata(values, axis=None) for values in (first, second)]
    correlation = _cosine(*(each - each.mean() for each in ranks))
    return correlation, _cosine(first.ravel().astype(np.float64), second.ravel().astype(np.float64))


def _cosine(first: np.ndarray, second: np.ndarray) -> float | None:
    length = float(np.linalg.norm(first) * np.linalg.norm(second))
    return None if length == 0 else float(np.clip(first @ second / length, -1, 1))
