"""Messages between a driver and its actors: a unit to do, and its result. Imports no network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pipeline.shards.samples import ManifestRow, Poison


@dataclass(frozen=True)
class Task:
    """A unit's samples and the labels to do them under.

    Attributes:
        unit: id of the unit.
        url: of the shard.
        rows: the unit's manifest rows.
        labels: method labels to do, in order.
        attempt: id of this attempt.
        poison: sample index -> why it is kept from the network, found by bisection.
    """

    unit: str
    url: str
    rows: tuple[ManifestRow, ...]
    labels: tuple[str, ...]
    attempt: str
    poison: Mapping[int, Poison] = field(default_factory=dict)


@dataclass(frozen=True)
class Done:
    """The result of a task: rows by status under each label that this attempt committed."""

    unit: str
    attempt: str
    statuses: Mapping[str, Mapping[str, int]]
    seconds: float
