"""Compares a job's settings with the recorded ones, and refuses those that differ, field by field."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pipeline.run.records import RefusedError
from pipeline.storage.jsontext import as_read, to_json

# Fields of `run.json` and of configurations that are recorded and not frozen.
RECORDED_ONLY = (
    *("created", "versions", "machine", "fingerprint", "categories"),
    *("position", "batch", "columns", "warnings", "input_source", "foreign_columns", "model_file"),
)


def refuse_differences(old: Mapping[str, Any], new: Mapping[str, Any], what: str, advice: str) -> None:
    """Raises `RefusedError` with a field-by-field diff unless both freeze the same."""
    lines = [
        f"  {field}: recorded {_short(before)}, asked for {_short(after)}"
        for field, before, after in differences(frozen_part(old), frozen_part(new))
    ]
    if lines:
        raise RefusedError("\n".join([f"{what}:", *lines, f"  ({advice})"]))


def refuse_other_options(
    metrics: Mapping[str, Any], recorded: Iterable[tuple[str, Mapping[str, Any]]], advice: str
) -> None:
    """Keeps one column of a report from holding numbers that were measured in two ways.

    Args:
        metrics: options and revision of each metric of the job.
        recorded: for each label or evaluation of the same model, its name for the message, and its metrics likewise.
        advice: what to do instead.

    Raises:
        RefusedError: a recorded metric has another value of an option that both have.
    """
    metrics = as_read(metrics)
    for owner, earlier in recorded:
        shared = {
            name: metrics[name].keys() & earlier[name].keys() for name in sorted(metrics.keys() & earlier.keys())
        }
        old, new = (
            {f"metrics.{name}": {option: side[name][option] for option in options} for name, options in shared.items()}
            for side in (earlier, metrics)
        )
        refuse_differences(old, new, f"{owner} has the same metric with other options", advice)


def differences(old: Any, new: Any, field: str = "") -> list[tuple[str, Any, Any]]:
    """Each leaf in which two JSON values differ: dotted field, old value, new value."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        return [
            difference
            for name in sorted({*old, *new})
            for difference in differences(old.get(name), new.get(name), f"{field}.{name}" if field else name)
        ]
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        return [d for i, (a, b) in enumerate(zip(old, new, strict=True)) for d in differences(a, b, f"{field}[{i}]")]
    return [] if old == new else [(field, old, new)]


def frozen_part(record: Mapping[str, Any]) -> dict[str, Any]:
    """The frozen fields of a record: all but `RECORDED_ONLY`."""
    return {name: value for name, value in record.items() if name not in RECORDED_ONLY}


def _short(value: Any) -> str:
    text = "nothing" if value is None else to_json(value)
    return text if len(text) <= 90 else text[:87] + "..."
