"""Messages between a driver and its actors: a unit to do, and its result. Imports no network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pipeline.shards.samples import ManifestRow, Poison
from ssig.errors import SsigError, UsageError


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
    """

    unit: str
    url: str
    rows: tuple[ManifestRow, ...]
    labels: tuple[str, ...]
    attempt: str
    poison: Mapping[int, Poison] = field(default_factory=dict)
    checked: bool = False


@dataclass(frozen=True)
class Done:
    """The result of a task: rows by status under each label that this attempt committed."""

    unit: str
    attempt: str
    statuses: Mapping[str, Mapping[str, int]]
    seconds: float


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
