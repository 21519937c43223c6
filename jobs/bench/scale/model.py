"""What a step takes at another size, by a model that is printed with its numbers.

    wall = seconds of waiting + seconds of computing,   waiting = requests / in flight x delay

All of these and bytes are linear in the images: two sizes give the line. So is peak memory, of runs that fill the
buffers of their readers. Computing is what passes while no request is waited for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

SETTLED = 50_000  # images from which peak memory grows along a line


@dataclass(frozen=True)
class Cost:
    """What a step takes.

    Attributes:
        requests, bytes_read: in all.
        waiting: seconds in which some request is waited for.
        computing: the other seconds.
        processor: seconds of processor time, of all threads; None where that is not known.
        peak_bytes: of its process; None where that is not known.
    """

    requests: float
    bytes_read: float
    waiting: float
    computing: float
    processor: float | None = None
    peak_bytes: float | None = None

    @property
    def seconds(self) -> float:
        return self.waiting + self.computing

    def record(self, delay: float) -> dict[str, Any]:
        """Its numbers, with the wall seconds and how many requests are in flight, on average while there is any."""
        in_flight = self.requests * delay / self.waiting if self.waiting else 0.0
        return {**asdict(self), "seconds": self.seconds, "in_flight": in_flight}


def cost(measured: Mapping[str, Any]) -> Cost:
    """The cost of a step that was measured."""
    return Cost(
        measured["requests"],
        measured["bytes_read"],
        measured["waited_seconds"],
        max(0.0, measured["seconds"] - measured["waited_seconds"]),
        measured["processor_seconds"],
        measured["peak_bytes"],
    )


def at(images: int, sizes: tuple[int, int], smaller: Cost, larger: Cost) -> Cost:
    """The cost at `images` on the line through those at two `sizes`; what falls with the size is taken as constant.

    There is no peak of memory if the smaller size is below `SETTLED`.
    """

    def line(name: str) -> float | None:
        low, high = getattr(smaller, name), getattr(larger, name)
        if low is None or high is None or (name == "peak_bytes" and sizes[0] < SETTLED):
            return None
        return float(high + max(0.0, (high - low) / (sizes[1] - sizes[0])) * (images - sizes[1]))

    return Cost(**{name: line(name) for name in asdict(larger)})  # type: ignore[arg-type]
