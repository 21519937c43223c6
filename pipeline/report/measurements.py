"""What the rows of a run say, gathered in one pass per model and method into arrays over images.

Image i is row i of the manifest (in order of shard and index), for every method: that is what pairs them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.report.columns import Column, Source, headed, metric_columns
from pipeline.report.reference import ordered_methods, reference_method
from pipeline.run.reader import Run
from pipeline.run.schema import SHARED
from pipeline.shards.samples import Status
from pipeline.storage.jsontext import to_json
from ssig.errors import UsageError

_IDENTITY = ["shard", "index", "key", "label", "predicted", "target", "probability", "status", "error", "excluded"]
_NOISE = ("reliability", "readout_bias")  # not in runs of schema 1
_EFFORT = ("standard_error_mean", "completeness_residual", "gradient_evaluations", "score", "baseline_score", *_NOISE)


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
        values: (N, M, C) float32, NaN where there is no number.
        effort: for each name of `_EFFORT`, (N, M) float64, NaN where there is none.
        label, predicted: (N,) int64, -1 where unknown.
        probability: (N,) float64 of the target on the whole image.
        statuses: method -> status -> number of committed rows.
        seconds: (method, source) -> mean seconds of computing per image.
        excluded: (method, column) -> reason -> number of rows.
        failures: samples without numbers, in order of the manifest.
        reference: the method that the others are compared with; the first where none is named.
    """

    model: str
    methods: tuple[str, ...]
    columns: tuple[Column, ...]
    values: np.ndarray
    effort: dict[str, np.ndarray]
    label: np.ndarray
    predicted: np.ndarray
    probability: np.ndarray
    statuses: dict[str, Counter[str]] = field(default_factory=dict)
    seconds: dict[tuple[str, Source], float] = field(default_factory=dict)
    excluded: dict[tuple[str, str], Counter[str]] = field(default_factory=dict)
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
        return int(self.values.shape[0])

    @property
    def headlines(self) -> list[int]:
        """Indices of the headline columns that hold a number."""
        present = np.isfinite(self.values).any(axis=(0, 1))
        return [index for index, column in enumerate(self.columns) if column.headline and present[index]]

    @property
    def further(self) -> list[int]:
        """Indices of the other columns that hold a number."""
        present = np.isfinite(self.values).any(axis=(0, 1))
        return [index for index, column in enumerate(self.columns) if not column.headline and present[index]]


class Positions:
    """Image numbers of rows: where each shard starts in the manifest."""

    def __init__(self, manifest: pa.Table) -> None:
        shards = manifest["shard"].combine_chunks().dictionary_encode()
        _, starts = np.unique(shards.indices.to_numpy(), return_index=True)
        self._start = dict(zip(shards.dictionary.to_pylist(), starts.tolist(), strict=True))
        self._index = manifest["index"].to_numpy()

    def of(self, table: pa.Table) -> np.ndarray:
        """(n,) int64, image number of each row of `table`.

        Raises:
            UsageError: a row that the manifest does not expect.
        """
        starts = np.array([self._start.get(shard, -1) for shard in table["shard"].to_pylist()], dtype=np.int64)
        index = table["index"].to_numpy()
        images: np.ndarray = starts + index - self._index[starts]
        expected = (starts >= 0) & (images >= 0) & (images < len(self._index))
        if not expected.all() or (self._index[images] != index).any():
            raise UsageError("run", "rows that are not in its manifest", "a run that passes `ssig audit`")
        return images


def gather(run: Run, model: str, reference: str | None = None) -> Measurements:
    """All rows of a model; its methods are compared with `reference`, where it is one of them."""
    positions = Positions(run.manifest)
    methods, columns = ordered_methods(run, model), metric_columns(run, model)
    images = run.manifest.num_rows
    measurements = Measurements(
        model=model,
        methods=methods,
        columns=columns,
        values=np.full((images, len(methods), len(columns)), np.nan, dtype=np.float32),
        effort={name: np.full((images, len(methods)), np.nan) for name in _EFFORT},
        label=np.full(images, -1),
        predicted=np.full(images, -1),
        probability=np.full(images, np.nan),
        reference=reference_method(run, model, reference),
    )
    failed: dict[tuple[int, str, str], list[str]] = {}
    for number, method in enumerate(methods):
        measurements.statuses[method] = Counter()
        ok = np.zeros(images, dtype=bool)
        sums = _Sums(measurements, method, None)
        for table in _rows(run, model, method, sums.column_names):
            where = positions.of(table)
            _add_rows(measurements, number, table, where)
            _add_failures(failed, method, table, where)
            sums.add(number, table, where)
            ok[where] = np.array(table["status"].to_pylist()) == Status.OK
        sums.close()
        for evaluation in run.evaluations:
            if (evaluation.model, evaluation.method) != (model, method):
                continue
            added = _Sums(measurements, method, evaluation.name)
            unevaluated = ok.copy()
            for table in run.evaluated(evaluation, ["shard", "index", "status", "excluded", *added.column_names]):
                where = positions.of(table)
                unevaluated[where] = False
                added.add(number, table, where, ok)
            added.close(unseen=int(unevaluated.sum()))
        for table in _effort_rows(run, model, method):
            where = positions.of(table)
            for name in set(_EFFORT) & set(table.column_names):
                measurements.effort[name][where, number] = _floats(table[name])
    measurements.failures = _failures(run, model, failed)
    measurements.columns = headed(measurements.columns, measurements.values)
    return measurements


def lists(run: Run, model: str, method: str, column: str, evaluation: str | None = None) -> np.ndarray:
    """(N, n) float32, list `column` of each image of a method, NaN where there is none; n = 0 if no image has one.

    Lists of another length than the first one's are left out: they cannot be averaged with it.
    """
    positions = Positions(run.manifest)
    result = np.full((run.manifest.num_rows, 0), np.nan, dtype=np.float32)
    for table in _list_tables(run, model, method, ["shard", "index", column], evaluation):
        if column not in table.column_names:
            continue
        for image, curve in zip(positions.of(table), table[column].to_pylist(), strict=True):
            if curve is None:
                continue
            if result.shape[1] == 0:
                result = np.full((result.shape[0], len(curve)), np.nan, dtype=np.float32)
            if len(curve) == result.shape[1]:
                result[image] = curve
    return result


def _list_tables(
    run: Run, model: str, method: str, columns: Sequence[str], evaluation: str | None
) -> Iterator[pa.Table]:
    if evaluation is None:
        yield from run.tables("metrics", model, method, columns)
    for added in run.evaluations:
        if (added.name, added.model, added.method) == (evaluation, model, method):
            yield from run.evaluated(added, columns)


def _rows(run: Run, model: str, method: str, columns: Sequence[str]) -> Iterator[pa.Table]:
    """The committed rows of a method: of its metrics files, or of its attributions where it has no metrics."""
    committed = run.committed(model, method)
    kind = "metrics" if any(commit.file("metrics") for commit in committed) else "attributions"
    return run.tables(kind, model, method, [*_IDENTITY, *columns])


def _effort_rows(run: Run, model: str, method: str) -> Iterator[pa.Table]:
    """The numbers of `_EFFORT`: of the metrics, or, in a run of schema 1, of the attributions."""
    if run.version == 1:
        recorded = [name for name in _EFFORT if name not in _NOISE]
        yield from run.tables("attributions", model, method, ["shard", "index", *recorded])
        return
    names = {stored: name for stored, name in SHARED.items() if name in _EFFORT}
    for table in run.tables("metrics", model, method, ["shard", "index", *names]):
        yield table.rename_columns([names.get(name, name) for name in table.column_names])


def _add_rows(measurements: Measurements, number: int, table: pa.Table, where: np.ndarray) -> None:
    method = measurements.methods[number]
    measurements.statuses[method].update(table["status"].to_pylist())
    for name in ("label", "predicted"):
        classes = pc.fill_null(table[name], -1).to_numpy()
        array: np.ndarray = getattr(measurements, name)
        array[where] = np.where(classes >= 0, classes, array[where])
    probability = _floats(table["probability"])
    stored = measurements.probability[where]
    measurements.probability[where] = np.where(np.isfinite(probability), probability, stored)


class _Sums:
    """Collects the numbers of one method from the run's own metrics, or from one evaluation's.

    Args:
        measurements: where they go.
        method: the method.
        evaluation: the evaluation, None for the run's own metrics.
    """

    def __init__(self, measurements: Measurements, method: str, evaluation: str | None) -> None:
        self._measurements, self._method = measurements, method
        self._columns = [
            (position, column)
            for position, column in enumerate(measurements.columns)
            if column.source.evaluation == evaluation
        ]
        self._sources = list(dict.fromkeys(column.source for _, column in self._columns))
        self._seconds: dict[Source, list[float]] = {source: [] for source in self._sources}

    @property
    def column_names(self) -> list[str]:
        """The names of the columns to read."""
        return [column.stored for _, column in self._columns] + [
            f"seconds_{source.metric}" for source in self._sources
        ]

    def add(self, number: int, table: pa.Table, where: np.ndarray, ok: np.ndarray | None = None) -> None:
        """Adds a table of method `number`, whose rows are images `where`; `ok`: those that have a map."""
        names = {column.stored: column.name for _, column in self._columns}
        for position, column in self._columns:
            if column.stored in table.column_names:
                self._measurements.values[where, number, position] = _floats(table[column.stored])
        for source in self._sources:
            if f"seconds_{source.metric}" in table.column_names:
                spent = _floats(table[f"seconds_{source.metric}"])
                self._seconds[source] += spent[np.isfinite(spent)].tolist()
        rows = zip(where, table["status"].to_pylist(), table["excluded"].to_pylist(), strict=True)
        for image, status, reasons in rows:
            for stored, reason in (reasons or ()) if status == Status.OK else ():
                if stored in names:
                    self._excluded(names[stored])[reason] += 1
            if ok is not None and ok[image] and status != Status.OK:
                for _, column in self._columns:
                    self._excluded(column.name)[f"sample {status} when evaluated"] += 1

    def close(self, unseen: int = 0) -> None:
        """Stores mean seconds; `unseen`: how many images with a map were not evaluated."""
        for source, spent in self._seconds.items():
            if spent:
                self._measurements.seconds[self._method, source] = float(np.mean(spent))
        for _, column in self._columns if unseen else ():
            self._excluded(column.name)["unit not evaluated"] += unseen

    def _excluded(self, column: str) -> Counter[str]:
        return self._measurements.excluded.setdefault((self._method, column), Counter())


def _add_failures(
    failed: dict[tuple[int, str, str], list[str]], method: str, table: pa.Table, where: np.ndarray
) -> None:
    rows = zip(where.tolist(), table["status"].to_pylist(), table["error"].to_pylist(), strict=True)
    for image, status, error in rows:
        if status != Status.OK:
            failed.setdefault((image, status, error or ""), []).append(method)


def _failures(run: Run, model: str, failed: dict[tuple[int, str, str], list[str]]) -> list[Failure]:
    order = sorted(failed)
    names = (
        run.manifest.select(["shard", "index", "key"])
        .take(pa.array([image for image, _, _ in order], pa.int64()))
        .to_pylist()
    )
    return [
        Failure(row["shard"], row["index"], row["key"], status, error, model, tuple(failed[(image, status, error)]))
        for row, (image, status, error) in zip(names, order, strict=True)
    ]


def _floats(column: pa.ChunkedArray) -> np.ndarray:
    """(n,) float64, NaN for null."""
    values: np.ndarray = pc.cast(column, pa.float64()).to_numpy()
    return values


def quarantine_rows(run: Run) -> list[dict[str, object]]:
    """The quarantine records, each with the fields that are shown; anything else in them is left to the files."""
    names = ("shard", "kind", "key", "offset", "reason", "attempts")
    return sorted(
        ({name: record.get(name) for name in names} for record in run.quarantine),
        key=lambda record: to_json(record, compact=True, default=str),
    )
