"""Numbers of a whole data set, which no mean over images gives: each from the columns that the workers stored.

All methods are judged on the images that each of them has, and on the same ones; of more than `MOST_IMAGES`, on as
many, drawn at random:

    T_m = T(x_im : i in I),   I = images that every method with any number has
    T*_bm = T(x_im : i drawn from I with replacement, the same draws for all m)

The interval of T_m is the percentile interval of its T*_bm, that of a difference the percentile interval of
T*_bm - T*_br with r the reference (Efron, 1979). A median or a best threshold is not linear in the images, so its
resamples lie to one side of it where images are few: no verdict is made of these intervals. Kernel and Frechet
distances and InfoNCE compare each image with all others: an image drawn twice would be its own neighbour, so they have
no such interval; those with a standard error state it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.report.columns import Source, described, parsed, sources
from pipeline.report.comparison import Estimate
from pipeline.report.measurements import Measurements, lists
from pipeline.report.statistics import CONFIDENCE
from pipeline.run.reader import Run
from ssig.randomness import Stream
from ssig.registry import MetricSpec
from ssig.registry.titles import title

# Drawing curves again takes time in proportion to their size, so that large data get fewer draws, and none beyond some
# 8,000 curves of 1,000 points in both orders: the report is made each time that a run stops.
FEWEST, MOST = 100, 500
_NUMBERS_READ = 2**27
# Number of the data set -> what it suffers from.
BIASES = {
    name: "the best threshold is chosen on the same images that it is scored on, so the number is too high, and the "
    f"more so the fewer images there are. Compare it at the same N only; {name}_held_out does not suffer from this."
    for name in ("max_box_acc_v1", "max_box_acc_v2")
}
_LARGEST = 2**24
# Images whose curves and vectors are held in memory. A share of 50,000 has a standard error of .2 points at most.
MOST_IMAGES = 50_000
_DRAW = MOST  # the first stream that no resample takes


@dataclass(frozen=True)
class Whole:
    """One number of the data set.

    Attributes:
        name: of the number.
        source: the metric.
        direction: what is better: ``higher``, ``lower`` or ``none``.
        family: of the metric.
        estimates: method -> the number, None where there is none, its interval, and how many images it is made of.
        differences: method -> that of the method minus that of the reference, for all others.
        bias: what makes it too high or too low, in a sentence; empty where nothing does.
        title: the name that people use.
        definition: one line.
    """

    name: str
    source: Source
    direction: str
    family: str
    estimates: dict[str, Estimate]
    differences: dict[str, Estimate]
    bias: str = ""
    title: str = ""
    definition: str = ""

    @property
    def shown(self) -> str:
        """Its name for people."""
        return self.title or self.name

    @property
    def paired(self) -> bool:
        """Whether its differences have intervals."""
        return any(difference.low is not None for difference in self.differences.values())


@dataclass(frozen=True)
class _Numbers:
    """The numbers of one method, each with its resamples (R,)."""

    value: Mapping[str, float]
    drawn: Mapping[str, np.ndarray]


def whole_numbers(run: Run, measurements: Measurements, seed: int = 0) -> list[Whole]:
    """Every number of the data set that the metrics of a model define and that some method has."""
    result: list[Whole] = []
    for source, options in sources(run, measurements.model).items():
        metric = parsed(run, measurements.model, source, options)
        if metric is None or metric[0].dataset is None:
            continue
        spec = metric[0]
        images = drawn_images(common_images(measurements, source), seed)
        numbers = {
            method: _numbers(_columns(run, measurements, method, source, spec, images), *metric, seed)
            for method in measurements.methods
        }
        again = any(number.source.metric == source.metric for number in result)
        result += (
            _whole(
                f"{name}@{source.evaluation}" if again else name,
                name,
                source,
                spec,
                numbers,
                measurements.reference,
                len(images),
            )
            for name in spec.dataset_columns
            if any(np.isfinite(number.value.get(name, np.nan)) for number in numbers.values())
        )
    return result


def common_images(measurements: Measurements, source: Source) -> np.ndarray:
    """(n,) the images that have all numbers of a metric under every method that has any.

    A column that a method has for no image, such as that of an order that was not computed, does not count.
    """
    positions = [index for index, column in enumerate(measurements.columns) if column.source == source]
    measured = measurements.values.present[:, positions]
    complete = np.full(measurements.expected, measured.any())
    for position, by_method in zip(positions, measured.T, strict=True):
        for method in np.flatnonzero(by_method).tolist():
            complete &= np.isfinite(measurements.values.of_method(method, position))
    return np.flatnonzero(complete)


def drawn_images(images: np.ndarray, seed: int = 0) -> np.ndarray:
    """All of `images`, ascending; of more than `MOST_IMAGES`, as many drawn without replacement."""
    if len(images) <= MOST_IMAGES:
        return images
    drawn: np.ndarray = np.sort(Stream(seed).generator(_DRAW).permutation(images)[:MOST_IMAGES])
    return drawn


def resamples(images: int, size: int) -> int:
    """How often `images` with `size` stored numbers are drawn again; 0 where they give no interval."""
    if images < 2 or size > _LARGEST:
        return 0
    return min(max(_NUMBERS_READ // size, FEWEST), MOST)


def _columns(
    run: Run, measurements: Measurements, method: str, source: Source, spec: MetricSpec, images: np.ndarray
) -> dict[str, np.ndarray]:
    """A method's stored columns of a metric on `images`; empty where it lacks them."""
    number = measurements.methods.index(method)
    scalars = {
        column.stored: measurements.values.of_method(number, position)[images]
        for position, column in enumerate(measurements.columns)
        if column.source == source
    }
    if not any(np.isfinite(values).any() for values in scalars.values()):
        return {}
    listed = {
        name: lists(run, measurements.model, method, name, source.evaluation, images)
        for name in (*spec.curves, *spec.vectors)
    }
    return {**scalars, **listed} if all(np.isfinite(values).all() for values in listed.values()) else {}


def _numbers(columns: Mapping[str, np.ndarray], spec: MetricSpec, options: Any, seed: int) -> _Numbers:
    """The numbers of one method; the same draws of as many images for every method."""
    if spec.dataset is None or not columns:
        return _Numbers({}, {})
    images = len(next(iter(columns.values())))
    times = resamples(images, sum(values.size for values in columns.values()))
    if spec.resampled is None or not times:
        return _Numbers(spec.dataset(columns, options), {})
    return _Numbers(spec.dataset(columns, options), spec.resampled(columns, counts(images, times, seed), options))


def counts(images: int, times: int, seed: int) -> np.ndarray:
    """(times, images) how often each image is taken in each draw; a draw has a stream of its own."""
    stream = Stream(seed)
    drawn = [stream.generator(number).integers(images, size=images) for number in range(times)]
    return np.array([np.bincount(chosen, minlength=images) for chosen in drawn])


def _whole(
    shown: str,
    name: str,
    source: Source,
    spec: MetricSpec,
    numbers: Mapping[str, _Numbers],
    reference: str,
    images: int,
) -> Whole:
    return Whole(
        name=shown,
        source=source,
        direction=spec.dataset_columns[name],
        family=spec.family,
        bias=BIASES.get(name, ""),
        title=title(name) + (f" ({source.evaluation})" if shown != name else ""),
        definition=described(spec, name),
        estimates={
            method: _estimate(*_of(method_numbers, name), images) for method, method_numbers in numbers.items()
        },
        differences={
            method: _difference(method_numbers, numbers[reference], name, images)
            for method, method_numbers in numbers.items()
            if method != reference
        },
    )


def _of(numbers: _Numbers, name: str) -> tuple[float, np.ndarray]:
    return numbers.value.get(name, np.nan), numbers.drawn.get(name, np.zeros(0))


def _difference(method_numbers: _Numbers, reference_numbers: _Numbers, name: str, images: int) -> Estimate:
    (value, drawn), (less, drawn_less) = _of(method_numbers, name), _of(reference_numbers, name)
    return _estimate(value - less, drawn - drawn_less if len(drawn) == len(drawn_less) else drawn[:0], images)


def _estimate(value: float, drawn: np.ndarray, images: int) -> Estimate:
    """A number with its percentile interval, where it has resamples."""
    if not np.isfinite(value):
        return Estimate(None, None, None, 0)
    finite = drawn[np.isfinite(drawn)]
    if not len(finite):
        return Estimate(float(value), None, None, images)
    low, high = np.percentile(finite, [50 * (1 - CONFIDENCE), 50 * (1 + CONFIDENCE)])
    return Estimate(float(value), float(low), float(high), images)
