"""The means of the images of each class, for reading: no verdict is made of them.

With a thousand classes of some fifty images, many differences look large by chance alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.report.columns import Column
from pipeline.report.comparison import Estimate, mean_estimates
from pipeline.report.measurements import Measurements
from pipeline.report.statistics import FEWEST

SHOWN_CLASSES = 20


@dataclass(frozen=True)
class ClassMeans:
    """The numbers of one class.

    Attributes:
        number: of the class.
        name: of the class; ``class NUMBER`` where the network names none.
        count: images of the class with a number.
        means: method -> headline column name -> estimate.
    """

    number: int
    name: str
    count: int
    means: dict[str, dict[str, Estimate]]


@dataclass(frozen=True)
class Classes:
    """The classes with `FEWEST` images or more.

    Attributes:
        rows: those with the most images first; of equal ones, in order of their numbers.
        count: classes with any image.
        largest: images of the largest class.
    """

    rows: tuple[ClassMeans, ...]
    count: int
    largest: int


def class_means(measurements: Measurements, categories: Sequence[str]) -> Classes | None:
    """The means by labelled class, of the headline columns; None where no image has a label and a number."""
    columns = [measurements.columns[index] for index in measurements.headlines]
    values = measurements.values[:, :, measurements.headlines]
    labelled = np.flatnonzero((measurements.label >= 0) & np.isfinite(values).any(axis=(1, 2)))
    if not len(labelled):
        return None
    numbers, counts = np.unique(measurements.label[labelled], return_counts=True)
    order = np.argsort(-counts, kind="stable")
    rows: dict[int, ClassMeans] = {}
    for size in np.unique(counts[counts >= FEWEST]):
        alike = numbers[counts == size]
        images = np.stack([labelled[measurements.label[labelled] == number] for number in alike], axis=1)
        for number, means in zip(alike, _means(values[images], measurements.methods, columns), strict=True):
            rows[int(number)] = ClassMeans(int(number), class_name(categories, int(number)), int(size), means)
    ordered = tuple(rows[int(number)] for number in numbers[order] if int(number) in rows)
    return Classes(ordered, len(numbers), int(counts.max()))


def class_name(categories: Sequence[str], number: int) -> str:
    """The name of a class, where the network names it."""
    return categories[number] if 0 <= number < len(categories) else f"class {number}"


def _means(
    values: np.ndarray, methods: Sequence[str], columns: Sequence[Column]
) -> list[dict[str, dict[str, Estimate]]]:
    """The means of each of K classes, from the values (n, K, M, C) of their n images each."""
    shares = np.array([column.share for column in columns], bool)
    # All at once, so that classes of as many images share the bootstrap's draws.
    every = iter(mean_estimates(values.reshape(len(values), -1), np.tile(shares, values.shape[1] * values.shape[2])))
    return [
        {method: {column.name: next(every) for column in columns} for method in methods}
        for _ in range(values.shape[1])
    ]
