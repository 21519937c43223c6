"""The means of the images of each class, for reading: no verdict is made of them.

With a thousand classes of some fifty images, many differences look large by chance alone. Intervals are Student's, of
shares Wilson's: the bootstrap of so many means would take a minute.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.report.comparison import Estimate, estimates
from pipeline.report.measurements import Measurements
from pipeline.report.statistics import CACHED, FEWEST, grouped_intervals

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
    headlines = measurements.headlines
    labelled = np.zeros(measurements.expected, bool)
    for index in headlines:
        for method in range(len(measurements.methods)):
            labelled |= np.isfinite(measurements.values.of_method(method, index))
    labelled &= measurements.label >= 0
    if not labelled.any():
        return None
    numbers, counts = np.unique(measurements.label[labelled], return_counts=True)
    groups = np.full(measurements.expected, -1, np.int32)
    for part in (slice(start, start + CACHED) for start in range(0, len(groups), CACHED)):
        groups[part][labelled[part]] = np.searchsorted(numbers, measurements.label[part][labelled[part]])
    means = {
        method: {
            measurements.columns[index].name: estimates(
                grouped_intervals(
                    measurements.values.of_method(number, index),
                    groups,
                    len(numbers),
                    measurements.columns[index].share,
                )
            )
            for index in headlines
        }
        for number, method in enumerate(measurements.methods)
    }
    order = [row for row in np.argsort(-counts, kind="stable") if counts[row] >= FEWEST]
    rows = (
        ClassMeans(
            number=int(numbers[row]),
            name=class_name(categories, int(numbers[row])),
            count=int(counts[row]),
            means={method: {name: of[row] for name, of in columns.items()} for method, columns in means.items()},
        )
        for row in order
    )
    return Classes(tuple(rows), len(numbers), int(counts.max()))


def class_name(categories: Sequence[str], number: int) -> str:
    """The name of a class, where the network names it."""
    return categories[number] if 0 <= number < len(categories) else f"class {number}"
