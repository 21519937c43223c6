"""How much of a run there is to export."""

from __future__ import annotations

from collections import Counter

from pipeline.report.export.samples import labels_of
from pipeline.run.reader import Run
from pipeline.shards.samples import Status


def warnings(run: Run) -> list[str]:
    """A line for the methods that lack samples, with what there is of each; none where all is there."""
    expected = len(run.expected)
    lacking: dict[str, list[str]] = {}
    labels = labels_of(run)
    for model, method in labels:
        statuses: Counter[str] = Counter()
        for commit in run.committed(model, method):
            statuses.update(commit.statuses)
        if statuses[Status.OK] < expected:
            counts = [f"{count:,} {status}" for status, count in statuses.items() if count]
            left = expected - statuses.total()
            counts += [f"{left:,} not done"] if left else []
            lacking.setdefault(f"N = {statuses[Status.OK]:,} of {expected:,} images ({', '.join(counts)})", []).append(
                f"{model} / {method}"
            )
    return [
        f"{text}: {'every method' if len(names) == len(labels) else ', '.join(names)}"
        for text, names in lacking.items()
    ]
