"""How many of the expected samples were attributed, in a table and in one sentence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.report.measurements import Measurements
from pipeline.shards.samples import Status


@dataclass(frozen=True)
class Coverage:
    """What became of every expected sample under one model and method: expected = sum of statuses + not done."""

    model: str
    method: str
    expected: int
    statuses: dict[str, int]
    not_done: int

    @property
    def attributed(self) -> int:
        """Samples that have a map."""
        return self.statuses.get(Status.OK, 0)

    @property
    def others(self) -> dict[str, int]:
        """What became of the samples without a map -> how many."""
        counts = {status: count for status, count in self.statuses.items() if status != Status.OK}
        return {name: count for name, count in {**counts, "not done": self.not_done}.items() if count}


def coverage_of(measurements: Measurements, method: str) -> Coverage:
    """The coverage of one method."""
    statuses = measurements.statuses[method]
    return Coverage(
        measurements.model, method, measurements.expected, dict(statuses), measurements.expected - statuses.total()
    )


def coverage_groups(rows: Sequence[Coverage]) -> list[list[Coverage]]:
    """The rows of one model that have equal numbers, together; in the order of the first of each."""
    groups: dict[tuple[object, ...], list[Coverage]] = {}
    for row in rows:
        numbers = (row.model, row.expected, tuple(sorted(row.statuses.items())), row.not_done)
        groups.setdefault(numbers, []).append(row)
    return list(groups.values())


def coverage_sentence(rows: Sequence[Coverage]) -> str:
    """One sentence about all models and methods."""
    expected = rows[0].expected if rows else 0
    images = f"{expected:,} image{'s' * (expected != 1)}"
    fewest, most = (pick((row.attributed for row in rows), default=0) for pick in (min, max))
    whom = f"each of {len(rows)} methods" if len(rows) > 1 else rows[0].method if rows else "no method"
    if len({row.model for row in rows}) > 1:
        whom = "each method of each model"
    if fewest == expected:
        return f"All {images} were attributed by {whom}." if expected != 1 else f"The image was attributed by {whom}."
    reasons = ", ".join(dict.fromkeys(name for row in rows for name in row.others))
    if fewest == most:
        others = rows[0].others if all(row.others == rows[0].others for row in rows) else {}
        counts = ", ".join(f"{count:,} {name}" for name, count in others.items()) or reasons
        return f"{most:,} of {images} were attributed by {whom} ({counts})."
    return f"{fewest:,} to {most:,} of {images} were attributed, depending on the method ({reasons})."
