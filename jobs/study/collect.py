"""What a block keeps of a finished run: scalars of each map, mean curves, and numbers of the whole data set."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs.study.block_file import KEYS
from pipeline.report.measurements import gather, lists
from pipeline.report.whole import whole_numbers
from pipeline.run.reader import Run
from ssig.registry import METRICS

ROW = (*KEYS, "label", "predicted", "target", "probability", "score", "gradient_evaluations")
_LONGEST_CURVE = 128
_DIGITS = 5


def scalars(run: Run, labels: Collection[str]) -> pa.Table:
    """The rows of some methods: identity, cost and every scalar of the metrics; columns without a number are left
    out."""
    rows = run.metrics()
    rows = rows.filter(
        pc.and_(pc.equal(rows["status"], "ok"), pc.is_in(pc.cast(rows["method"], pa.string()), pa.array(labels)))
    )
    numbers = [column for name in _metrics(run) for column in METRICS[name].columns]
    kept = [*ROW, *(column for column in numbers if rows[column].null_count < rows.num_rows)]
    table = rows.select(kept)
    for name in KEYS:
        table = table.set_column(table.schema.get_field_index(name), name, pc.cast(table[name], pa.string()))
    return table.sort_by([("method", "ascending"), ("key", "ascending")]).combine_chunks()


def curves(run: Run, model: str, labels: Collection[str]) -> dict[str, dict[str, list[float | None]]]:
    """Curve column -> method -> its mean over images, of the metrics' short curves."""
    found: dict[str, dict[str, list[float | None]]] = {}
    for name in _metrics(run):
        for column in METRICS[name].curves:
            for label in labels:
                values = lists(run, model, label, column)
                values = values[np.isfinite(values).all(axis=1)]
                if values.size and values.shape[1] <= _LONGEST_CURVE:
                    mean = values.mean(axis=0, dtype=np.float64)
                    found.setdefault(column, {})[label] = [round(float(value), _DIGITS) for value in mean]
    return found


def whole(run: Run, model: str, labels: Collection[str]) -> dict[str, dict[str, Any]]:
    """Number of the data set -> method -> value, interval and how many images it is made of."""
    found: dict[str, dict[str, Any]] = {}
    for number in whole_numbers(run, gather(run, model)):
        for label, estimate in number.estimates.items():
            if label in labels and estimate.mean is not None:
                found.setdefault(number.name, {})[label] = {
                    "value": estimate.mean,
                    "low": estimate.low,
                    "high": estimate.high,
                    "count": estimate.count,
                }
    return found


def seconds(run: Run, labels: Collection[str]) -> float:
    """Seconds that the units of some methods took, all phases together."""
    return sum(
        sum(commit.seconds.values())
        for model, method in run.config
        if method in labels
        for commit in run.committed(model, method)
    )


def methods(run: Run, model: str, entries: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Label -> how it was asked for, its name, options and fingerprint."""
    found = {}
    for label, entry in entries.items():
        config = run.config[model, label]
        found[label] = {
            "entry": entry,
            "name": config["method"]["name"],
            "options": config["method"]["options"],
            "evaluations": config["method"]["evaluations"],
            "fingerprint": config["fingerprint"],
        }
    return found


def network(run: Run, model: str, label: str) -> dict[str, Any]:
    """What the run recorded of its network."""
    recorded: dict[str, Any] = run.config[model, label]["model"]
    return {name: value for name, value in recorded.items() if name not in ("categories",)}


def _metrics(run: Run) -> list[str]:
    """The metrics of the run, in order."""
    names: list[str] = []
    for config in run.config.values():
        names += [name for name in config["metrics"] if name not in names]
    return names
