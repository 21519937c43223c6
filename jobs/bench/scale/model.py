"""What a step takes at another size, by a model that is printed with its numbers.

    wall = requests / in flight x delay + seconds of computing

Requests, bytes, seconds of computing and peak memory are linear in the images: two sizes give the line.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

UNITS_PER_SHARD = 16  # of 64 of its 1,000 images
SHARD_BYTES = 140_000_000
READ_AHEAD = 4 * 2**20  # bytes of a request for a file that is read from end to end
RATE = 100e6  # bytes a second of one connection to an object store


@dataclass(frozen=True)
class Cost:
    """What a step takes.

    Attributes:
        requests, bytes_read: in all.
        in_flight: requests that are waited for at once, on average while there is any.
        computing: seconds that are not spent waiting for requests.
        peak_bytes: of its process; None where that is not known.
    """

    requests: float
    in_flight: float
    bytes_read: float
    computing: float
    peak_bytes: float | None = None

    def seconds(self, delay: float) -> float:
        """Wall seconds at a delay in seconds of each request."""
        waited = self.requests * delay / self.in_flight if self.in_flight else 0.0
        return waited + self.computing

    def record(self, delay: float) -> dict[str, Any]:
        """Its numbers, with the wall seconds."""
        return {**asdict(self), "seconds": self.seconds(delay)}


def cost(measured: Mapping[str, Any]) -> Cost:
    """The cost of a step that was measured."""
    return Cost(
        measured["requests"],
        measured["in_flight"],
        measured["bytes_read"],
        max(0.0, measured["seconds"] - measured["waited_seconds"]),
        measured["peak_bytes"],
    )


def at(images: int, sizes: tuple[int, int], smaller: Cost, larger: Cost) -> Cost:
    """The cost at `images` on the line through those at two `sizes`; what falls with the size is taken as constant."""

    def line(low: float, high: float) -> float:
        slope = max(0.0, (high - low) / (sizes[1] - sizes[0]))
        return high + slope * (images - sizes[1])

    peak = None
    if smaller.peak_bytes is not None and larger.peak_bytes is not None:
        peak = line(smaller.peak_bytes, larger.peak_bytes)
    return Cost(
        round(line(smaller.requests, larger.requests)),
        larger.in_flight,
        line(smaller.bytes_read, larger.bytes_read),
        line(smaller.computing, larger.computing),
        peak,
    )


def before(images: int, labels: int) -> dict[str, tuple[Cost, str]]:
    """What version 0.1.0 asked for, step by step, and the model in words; from its code, nothing is measured."""
    shards = -(-images // 1000)
    tables = shards * UNITS_PER_SHARD * labels  # units x labels
    shard_bytes = shards * SHARD_BYTES
    columns = 20 * labels
    rate = f"{RATE / 1e6:.0f} MB/s"
    return {
        "manifest": (
            Cost(shard_bytes / READ_AHEAD, 8, shard_bytes, shard_bytes / RATE),
            f"{shards:,} shards read and hashed whole, 8 at a time, at {rate} in all",
        ),
        "resume": (
            Cost(2 * tables, 1, 0, 0),
            f"2 passes over {tables:,} commits before the first unit (4 in all), one request after another",
        ),
        "commits": (Cost(tables, 1, 0, 0), f"{tables:,} records: one a unit and label"),
        "report": (
            Cost(4 * tables, 1, 4e6 * tables, 4e6 * tables / RATE + 36 * columns),
            f"4 requests and 4 MB a unit and label, one after another, at {rate}; 36 s of bootstrap for each of "
            f"{columns} columns (it is quadratic: 2 h for 200 at 1.28 million images)",
        ),
        "audit": (Cost(8 * tables, 1, 0, 0), "8 requests a unit and label, one after another"),
        "duckdb": (Cost(2 * tables, 16, 0, 0), f"{tables:,} files, 2 requests each, 16 at a time"),
    }
