"""Messages between a driver and its actors: a unit to do, and its result. Imports no network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from pipeline.shards.samples import ManifestRow, Poison
from ssig.errors import SsigError, UsageError


class Portion(StrEnum):
    """What an attempt does of a unit.

    `maps`: publishes its maps and commits nothing; `metrics`: measures maps that are published, and commits.
    """

    ALL = "all"
    MAPS = "maps"
    METRICS = "metrics"


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
        checked: whether the device must pass a self-check before.
        batches: batch -> its method labels, of those batches all of whose labels are to be done: one commit says that
            the unit is done under all of them. The other labels get a commit each.
        apart: whether a label that fails keeps no other from being done.
        portion: what is done of the unit.
        spent: of maps that an earlier attempt of this command published, method label -> step -> seconds.
    """

    unit: str
    url: str
    rows: tuple[ManifestRow, ...]
    labels: tuple[str, ...]
    attempt: str
    poison: Mapping[int, Poison] = field(default_factory=dict)
    checked: bool = False
    batches: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    apart: bool = False
    portion: Portion = Portion.ALL
    spent: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    @property
    def commits(self) -> list[tuple[str | None, tuple[str, ...]]]:
        """Labels that are committed together with the id of their batch, None for one alone; in order of `labels`."""
        batch_of = {label: batch for batch, labels in self.batches.items() for label in labels}
        together: dict[str | tuple[str], list[str]] = {}
        for label in self.labels:
            together.setdefault(batch_of.get(label, (label,)), []).append(label)
        return [(key if isinstance(key, str) else None, tuple(labels)) for key, labels in together.items()]


@dataclass(frozen=True)
class Done:
    """The result of a task.

    Attributes:
        unit, attempt: what was done.
        statuses: rows by status under each label that this attempt committed.
        seconds: that the task took.
        gradients: gradient evaluations under each of these labels.
        steps: step (``decode``, ``attribute``, ``metrics``, ``write``) -> seconds of computing under these labels.
        device_seconds: that the worker's device computed since the worker's last result.
        spent: of maps that are published and still to be measured, method label -> step -> seconds.
    """

    unit: str
    attempt: str
    statuses: Mapping[str, Mapping[str, int]]
    seconds: float
    gradients: Mapping[str, int] = field(default_factory=dict)
    steps: Mapping[str, float] = field(default_factory=dict)
    device_seconds: float = 0.0
    spent: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


class DeviceFailedError(SsigError):
    """An accelerator failed or computes wrongly; what a process does on it from now on fails too.

    Args:
        message: which device, and why.
        begun: whether the task was begun; False where the self-check before it failed.
    """

    def __init__(self, message: str, begun: bool = True) -> None:
        super().__init__(message)
        self.begun = begun

    def __reduce__(self) -> tuple[type[DeviceFailedError], tuple[str, bool]]:
        return type(self), (str(self), self.begun)


class NoCudaError(UsageError):
    """A job asks for a GPU, and CUDA cannot be used where its actor is."""
