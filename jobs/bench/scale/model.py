"""What a step takes at another size, by a model that is printed with its numbers.

    wall = seconds of waiting + seconds of computing,   waiting = requests / in flight x delay

All of these and bytes are linear in the images: two sizes give the line. So is peak memory, of runs that fill the
buffers of their readers. Computing is what passes while no request is waited for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

WHOLE = 1_281_167  # images of ImageNet's training set
UNITS_PER_SHARD = 16  # of 64 of its 1,000 images
SHARD_BYTES = 140_000_000
READ_AHEAD = 4 * 2**20  # bytes of a request for a file that is read from end to end
SETTLED = 50_000  # images from which peak memory grows along a line
RATE = 100e6  # bytes a second of one connection to an object store


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


def before(images: int, labels: int, delay: float) -> dict[str, tuple[Cost, str]]:
    """A model of the requests of version 0.1.0, step by step, and the same in words.

    It multiplies how often its code asks for a shard, or a unit and label, by their number and the delay. That version
    is not run, so none of these figures is measured.
    """
    shards = -(-images // 1000)
    tables = shards * UNITS_PER_SHARD * labels  # units x labels
    shard_bytes = shards * SHARD_BYTES
    columns = 20 * labels
    rate = f"{RATE / 1e6:.0f} MB/s"

    def asked(requests: float, in_flight: int = 1, read: float = 0, computing: float = 0) -> Cost:
        return Cost(requests, read, requests / in_flight * delay, read / RATE + computing)

    return {
        "manifest": (
            asked(shard_bytes / READ_AHEAD, 8, shard_bytes),
            f"{shards:,} shards read and hashed whole, 8 at a time, at {rate} in all",
        ),
        "resume": (
            asked(2 * tables),
            f"2 passes over {tables:,} commits before the first unit (4 in all), one request after another",
        ),
        "commits": (asked(tables), f"{tables:,} records: one a unit and label"),
        "report": (
            asked(4 * tables, read=4e6 * tables, computing=36 * columns * (images / WHOLE) ** 2),
            f"4 requests and 4 MB a unit and label, one after another, at {rate}; a bootstrap that is quadratic in "
            f"the images, 36 s a column at {WHOLE:,} of them, for {columns} columns",
        ),
        "audit": (asked(8 * tables), "8 requests a unit and label, one after another"),
        "duckdb": (asked(5 * tables, 9), f"{tables:,} files, 5 requests each, 9 at a time, as DuckDB asks now"),
    }
