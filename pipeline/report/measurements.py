"""What the rows of a run say, gathered in one pass per model and method into numbers over images.

Image i is row i of the manifest (in order of shard and index), for every method: that is what pairs them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.report.columns import Column, Source, headed, metric_columns, sources
from pipeline.report.image_numbers import ImageNumbers
from pipeline.report.positions import Positions
from pipeline.report.reference import ordered_methods, reference_method
from pipeline.report.running import RunningMeans, matrix
from pipeline.report.tally import Tally, counted, floats, is_ok, together
from pipeline.run.layout import ATTRIBUTIONS, METRICS
from pipeline.run.reader import Run
from pipeline.run.schema import SHARED
from pipeline.storage.jsontext import to_json

PLOTTED = ("insertion", "deletion")  # metrics whose mean curves are drawn

_IDENTITY = ["shard", "index", "key", "label", "predicted", "target", "probability", "status", "error", "excluded"]
EFFORT = (
    *("standard_error_mean", "completeness_residual", "gradient_evaluations", "score", "baseline_score"),
    *("reliability", "readout_bias"),  # not in runs of schema 1
)


@dataclass(frozen=True)
class Failure:
    """A sample that has no numbers, and with which methods."""

    shard: str
    index: int
    key: str
    status: str
    error: str
    model: str
    methods: tuple[str, ...]


@dataclass
class Measurements:
    """Everything that the report needs of one model; N images, M methods, C columns.

    Attributes:
        model: label of the model.
        methods: labels, in the user's order.
        columns: scalar metric columns, in order of the metrics.
        values: the numbers of images by method and column.
        effort: the same for each name of `EFFORT` in place of a column.
        label, predicted: (N,) int32, -1 where unknown.
        probability: (N,) float32 of the target on the whole image.
        statuses: method -> status -> number of committed rows.
        seconds: (method, source) -> mean seconds of computing per image.
        excluded: (method, column) -> reason -> number of rows.
        curves: (method, source, column) -> the mean of these curves.
        failures: samples without numbers, in order of the manifest.
        reference: the method that the others are compared with; the first where none is named.
    """

    model: str
    methods: tuple[str, ...]
    columns: tuple[Column, ...]
    values: ImageNumbers
    effort: ImageNumbers
    label: np.ndarray
    predicted: np.ndarray
    probability: np.ndarray
    statuses: dict[str, Counter[str]] = field(default_factory=dict)
    seconds: dict[tuple[str, Source], float] = field(default_factory=dict)
    excluded: dict[tuple[str, str], Counter[str]] = field(default_factory=dict)
    curves: dict[tuple[str, Source, str], RunningMeans] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)
    reference: str = ""

    def __post_init__(self) -> None:
        self.reference = self.reference or self.methods[0]

    @property
    def others(self) -> tuple[str, ...]:
        """The methods that are compared with the reference."""
        return tuple(method for method in self.methods if method != self.reference)

    @property
    def expected(self) -> int:
        return len(self.values)

    @property
    def headlines(self) -> list[int]:
        """Indices of the headline columns that hold a number."""
        holding = self.values.holding
        return [index for index, column in enumerate(self.columns) if column.headline and holding[index]]

    @property
    def further(self) -> list[int]:
        """Indices of the other columns that hold a number."""
        holding = self.values.holding
        return [index for index, column in enumerate(self.columns) if not column.headline and holding[index]]

    def effort_of(self, method: int, name: str) -> np.ndarray:
        """(N,) float32, what each image took with a method by one name of `EFFORT`."""
        return self.effort.of_method(method, EFFORT.index(name))


def gather(run: Run, model: str, reference: str | None = None, *, curves: bool = True) -> Measurements:
    """All rows of a model, each file read once; its methods are compared with `reference`, where it is one of them.

    Args:
        curves: whether the mean curves are collected too.
    """
    positions = Positions(run.expected.pieces(["shard", "index"]))
    methods, columns = ordered_methods(run, model), metric_columns(run, model)
    images = len(positions)
    measurements = Measurements(
        model=model,
        methods=methods,
        columns=columns,
        values=ImageNumbers(images, len(methods), len(columns)),
        effort=ImageNumbers(images, len(methods), len(EFFORT)),
        label=np.full(images, -1, np.int32),
        predicted=np.full(images, -1, np.int32),
        probability=np.full(images, np.nan, np.float32),
        reference=reference_method(run, model, reference),
    )
    plotted = plotted_columns(run, model) if curves else []
    failed = _Failed(model)
    for number in range(len(methods)):
        _gather_method(run, measurements, number, positions, plotted, failed)
    measurements.failures = failed.failures()
    measurements.columns = headed(measurements.columns, measurements.values.holding)
    return measurements


def lists(
    run: Run, model: str, method: str, column: str, evaluation: str | None = None, images: np.ndarray | None = None
) -> np.ndarray:
    """(N, n) float32, list `column` of each image of a method, NaN where there is none; n = 0 if no image has one.

    Lists of another length than the first one's are left out: they cannot be averaged with it.

    Args:
        images: (N,) ascending image numbers; None for all images.
    """
    positions = Positions(run.expected.pieces(["shard", "index"]))
    rows = np.arange(len(positions)) if images is None else np.full(len(positions), -1)
    count = len(positions) if images is None else len(images)
    if images is not None:
        rows[images] = np.arange(count)
    result = np.full((count, 0), np.nan, dtype=np.float32)
    for table in together(_list_tables(run, model, method, ["shard", "index", column], evaluation)):
        if column not in table.column_names:
            continue
        chosen, numbers = matrix(table[column], result.shape[1])
        if result.shape[1] == 0:
            result = np.full((count, numbers.shape[1]), np.nan, dtype=np.float32)
        where = rows[positions.of(table)[chosen]]
        result[where[where >= 0]] = numbers[where >= 0]
    return result


def plotted_columns(run: Run, model: str) -> list[tuple[Source, str]]:
    """The curves whose means are drawn, in the order of the signed map and in that of its magnitude."""
    options = sources(run, model)
    found = (next((source for source in options if source.metric == metric), None) for metric in PLOTTED)
    return [
        (source, f"{source.metric}{order}_curve") for source in found if source is not None for order in ("", "_abs")
    ]


def _gather_method(
    run: Run,
    measurements: Measurements,
    number: int,
    positions: Positions,
    plotted: Sequence[tuple[Source, str]],
    failed: _Failed,
) -> None:
    """Adds the rows of method `number`."""
    model, method = measurements.model, measurements.methods[number]
    statuses = measurements.statuses[method] = Counter()
    ok = np.zeros(len(positions), dtype=bool)
    own = _tally(measurements, number, None, plotted)
    for table in _rows(run, model, method, own.column_names):
        where = positions.of(table)
        statuses.update(counted(table["status"]))
        _add_classes(measurements, table, where)
        _add_effort(measurements, number, table, where)
        failed.add(method, table, where)
        own.add(table, where)
        ok[where] = is_ok(table)
    _close(measurements, method, own)
    for evaluation in run.evaluations:
        if (evaluation.model, evaluation.method) != (model, method):
            continue
        added = _tally(measurements, number, evaluation.name, plotted)
        unevaluated = ok.copy()
        names = ["shard", "index", "status", "excluded", *added.column_names]
        for table in together(run.evaluated(evaluation, names)):
            where = positions.of(table)
            unevaluated[where] = False
            added.add(table, where, ok)
        if unevaluated.any():
            added.exclude_all("unit not evaluated", int(unevaluated.sum()))
        _close(measurements, method, added)
    if run.version == 1:
        for table in together(run.tables(ATTRIBUTIONS, model, method, ["shard", "index", *EFFORT])):
            _add_effort(measurements, number, table, positions.of(table))


def _tally(
    measurements: Measurements, number: int, evaluation: str | None, plotted: Sequence[tuple[Source, str]]
) -> Tally:
    columns = [
        (position, column)
        for position, column in enumerate(measurements.columns)
        if column.source.evaluation == evaluation
    ]
    method = measurements.methods[number]

    def write(images: np.ndarray, position: int, numbers: np.ndarray) -> None:
        measurements.values.write(images, number, position, numbers)

    curves = {
        column: measurements.curves.setdefault((method, source, column), RunningMeans())
        for source, column in plotted
        if source.evaluation == evaluation
    }
    return Tally(columns, write, curves)


def _close(measurements: Measurements, method: str, tally: Tally) -> None:
    measurements.seconds |= {(method, source): spent for source, spent in tally.seconds.items()}
    for column, reasons in tally.excluded.items():
        measurements.excluded.setdefault((method, column), Counter()).update(reasons)


def _list_tables(
    run: Run, model: str, method: str, columns: Sequence[str], evaluation: str | None
) -> Iterator[pa.Table]:
    if evaluation is None:
        yield from run.tables(METRICS, model, method, columns)
    for added in run.evaluations:
        if (added.name, added.model, added.method) == (evaluation, model, method):
            yield from run.evaluated(added, columns)


def _rows(run: Run, model: str, method: str, columns: Sequence[str]) -> Iterator[pa.Table]:
    """The committed rows of a method, many at a time: of its metrics files, or of its attributions where it has no
    metrics."""
    committed = run.committed(model, method)
    kind = METRICS if any(commit.file(METRICS) for commit in committed) else ATTRIBUTIONS
    names = {stored: name for stored, name in SHARED.items() if name in EFFORT} if kind == METRICS else {}
    recorded = [*names] if kind == METRICS else [*EFFORT]
    for table in together(run.tables(kind, model, method, list(dict.fromkeys([*_IDENTITY, *recorded, *columns])))):
        yield table.rename_columns([names.get(name, name) for name in table.column_names])


def _add_effort(measurements: Measurements, number: int, table: pa.Table, where: np.ndarray) -> None:
    for name in set(EFFORT) & set(table.column_names):
        measurements.effort.write(where, number, EFFORT.index(name), floats(table[name]))


def _add_classes(measurements: Measurements, table: pa.Table, where: np.ndarray) -> None:
    for name in ("label", "predicted"):
        classes = pc.fill_null(table[name], -1).to_numpy()
        array: np.ndarray = getattr(measurements, name)
        array[where] = np.where(classes >= 0, classes, array[where])
    probability = floats(table["probability"])
    stored = measurements.probability[where]
    measurements.probability[where] = np.where(np.isfinite(probability), probability, stored)


class _Failed:
    """Collects the samples of a model that have no numbers."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._places: dict[int, tuple[str, int, str]] = {}
        self._methods: dict[tuple[int, str, str], list[str]] = {}

    def add(self, method: str, table: pa.Table, where: np.ndarray) -> None:
        failed = ~is_ok(table)
        if not failed.any():
            return
        rows = table.select(["shard", "index", "key", "status", "error"]).filter(pa.array(failed)).to_pylist()
        for image, row in zip(where[failed].tolist(), rows, strict=True):
            self._places[image] = row["shard"], row["index"], row["key"]
            self._methods.setdefault((image, row["status"], row["error"] or ""), []).append(method)

    def failures(self) -> list[Failure]:
        """Each sample with each of its faults, in order of the manifest."""
        return [
            Failure(*self._places[image], status, error, self._model, tuple(methods))
            for (image, status, error), methods in sorted(self._methods.items())
        ]


def quarantine_rows(run: Run) -> list[dict[str, object]]:
    """The quarantine records, each with the fields that are shown; anything else in them is left to the files."""
    names = ("shard", "kind", "key", "offset", "reason", "attempts")
    return sorted(
        ({name: record.get(name) for name in names} for record in run.quarantine),
        key=lambda record: to_json(record, compact=True, default=str),
    )
