"""The units of a run that are not done under every label."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from pipeline.driver.schedule import Work
from pipeline.run.directory import RunDirectory
from pipeline.run.labels import Label


def units_to_do(directory: RunDirectory, labels: Sequence[Label]) -> list[Work]:
    """Manifest minus commits: each unit with the labels it is not done under.

    Raises:
        RefusedError: a commit is of another configuration than its label: no worker would do its unit again.
    """
    return [Work(unit.id, methods, unit.stop - unit.start) for unit, methods in directory.remaining(labels)]


def whole_batches(batches: Mapping[str, tuple[str, ...]], labels: Collection[str]) -> dict[str, tuple[str, ...]]:
    """Those batches all of whose method labels are among `labels`: one commit says that a unit is done under them."""
    return {batch: names for batch, names in batches.items() if set(names) <= set(labels)}
