"""Passes through a network that are recorded once and then replayed, where that is faster.

A GPU often finishes a small operation before Python starts the next one. A recorded pass (a CUDA graph) starts all its
operations at once. It always takes the same number of points, so fewer points are padded:

    first call of a kind      evaluated without a recording: it includes the one-time work of the libraries
    second call               recorded, compared with the pass without a recording, and timed against it
    later calls               replayed if the answers were equal and the time was shorter

A recording is made on the thread that uses it. What records is given (`Recorder`), so this file knows no device.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, fields
from statistics import median
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from ssig.errors import one_line
from ssig.types import Response

LOG = logging.getLogger(__name__)

Compute = Callable[[Tensor, Tensor], Response]

# A recording replaces passes that take at least this many times its seconds.
GAIN = 1.03
# Where Python takes less than this share of a pass, the device is the slower side, and a recording gains nothing.
LEAST_LAUNCHING = 0.5
ROUNDS = 5


class Seconds(NamedTuple):
    """Of one call: until Python had started everything, and until the device had finished it."""

    launched: float
    finished: float


class Recorder(Protocol):
    """Records passes on a device."""

    def record(self, compute: Compute, points: Tensor, targets: Tensor) -> Compute:
        """A replay of `compute` for inputs of these shapes; its answers are copies.

        Raises:
            Exception: the pass cannot be recorded, for instance because it waits for the device.
        """

    def elapsed(self, call: Callable[[], object]) -> Seconds:
        """The seconds of a call."""

    def release(self) -> None:
        """Returns the memory of recordings that are not used any more."""


@dataclass(frozen=True)
class _Recording:
    """A replay of `size` points, its seconds, and those of the same points without it."""

    replay: Compute
    size: int
    seconds: float
    plain: Seconds

    def pays(self, count: int) -> bool:
        """Whether the replay is faster for so many points: without it, Python's share of the time stays the same."""
        return self.seconds * GAIN <= max(self.plain.launched, self.plain.finished * count / self.size)


class Graphs:
    """The recordings of one replica: at most one for each number of points and kind of request.

    Args:
        recorder: of the replica's device.
        tolerance: largest relative L2 distance of replayed answers from the others.
    """

    def __init__(self, recorder: Recorder, tolerance: float) -> None:
        self._recorder = recorder
        self._tolerance = tolerance
        self._recordings: dict[Hashable, _Recording | None] = {}
        self._seen: set[Hashable] = set()
        self._fails = self._full = False

    def evaluate(self, compute: Compute, points: Tensor, targets: Tensor, kind: Hashable, size: int) -> Response:
        """The answers of `compute` at n points, replayed where that is faster.

        Args:
            compute: the pass; for the same `kind` always the same.
            points, targets: (n, ...) on the device, n at most `size`.
            kind: of the request.
            size: points of a recording.
        """
        key = (kind, size, points.shape[1:], points.dtype, targets.shape[1:], targets.dtype)
        if self._fails or self._full or key not in self._seen:
            self._seen.add(key)
            return compute(points, targets)
        count, targets = len(points), targets.contiguous()
        if key not in self._recordings:
            self._recordings[key] = self._recorded(compute, padded(points, size), padded(targets, size))
        recording = self._recordings.get(key)
        if recording is None or not recording.pays(count):
            return compute(points, targets)
        return cut(recording.replay(padded(points, size), padded(targets, size)), count)

    def clear(self) -> None:
        """Forgets all recordings; each kind is recorded again when it is used again."""
        self._recordings.clear()
        self._seen.clear()
        self._full = False
        self._recorder.release()

    def give_up(self) -> bool:
        """Ends recording until `clear`, because the device is out of memory; whether this returned memory."""
        held = any(recording is not None for recording in self._recordings.values())
        self.clear()
        self._full = True
        return held

    def _recorded(self, compute: Compute, points: Tensor, targets: Tensor) -> _Recording | None:
        """The recording of a pass; None if it is not faster, or not equal, or cannot be made."""
        if self._plain(compute, points, targets) is None:
            return None
        recording = None
        try:
            recording = self._tried(compute, points, targets)
        except torch.OutOfMemoryError:
            LOG.info("no memory for a recording of %d points", len(points))
        except Exception as error:  # any network: one that waits for the device cannot be recorded
            LOG.warning("the network runs without CUDA graphs: %s", one_line(error))
            self._fails = True
            self._recordings.clear()
        if recording is None:
            self._recorder.release()  # only here, after an error has released its tensors
        return recording

    def _plain(self, compute: Compute, points: Tensor, targets: Tensor) -> Seconds | None:
        """Seconds of the pass without a recording; None if the device is the slower side, or lacks memory for it."""
        try:
            compute(points, targets)
            plain = self._recorder.elapsed(lambda: compute(points, targets))
        except torch.OutOfMemoryError:
            return None
        return plain if plain.launched >= LEAST_LAUNCHING * plain.finished else None

    def _tried(self, compute: Compute, points: Tensor, targets: Tensor) -> _Recording | None:
        replay = self._recorder.record(compute, points, targets)
        # Values other than the recorded ones: what the recording took for constants shows.
        others = points.flip(-1), targets.flip(0)
        if not equal(replay(*others), compute(*others), self._tolerance):
            LOG.warning("a recording of the network gives other answers: this kind of request runs without it")
            return None
        replayed, plain = [], []
        for _ in range(ROUNDS):
            replayed.append(self._recorder.elapsed(lambda: replay(points, targets)).finished)
            plain.append(self._recorder.elapsed(lambda: compute(points, targets)))
        launched, finished = (median(seconds) for seconds in zip(*plain, strict=True))
        recording = _Recording(replay, len(points), median(replayed), Seconds(launched, finished))
        return recording if recording.pays(len(points)) else None


def padded(values: Tensor, size: int) -> Tensor:
    """(n, ...) values as (size, ...) in the same memory format, the last one repeated."""
    count = len(values)
    if count == size:
        return values
    # `torch.cat` may return another memory format, in which convolutions take other kernels.
    result = values.new_empty_strided((size, *values.shape[1:]), (values[0].numel(), *values.stride()[1:]))
    result[:count] = values
    result[count:] = values[-1:]
    return result


def cut(response: Response, count: int) -> Response:
    """The answers at the first points."""
    return Response(*(None if values is None else values[:count] for values in outputs(response)))


def outputs(response: Response) -> Sequence[Tensor | None]:
    """The outputs of a response, in the order of its fields."""
    return [getattr(response, output.name) for output in fields(response)]


def equal(actual: Response, expected: Response, tolerance: float) -> bool:
    """Whether two responses have the same outputs up to a relative L2 distance, and the same places of infinity."""
    for found, reference in zip(outputs(actual), outputs(expected), strict=True):
        if found is None or reference is None:
            if found is not reference:
                return False
            continue
        finite = reference.isfinite()
        difference = torch.where(finite, found - reference, 0).norm()
        if not torch.equal(found.isfinite(), finite) or difference > tolerance * reference[finite].norm():
            return False
    return True
