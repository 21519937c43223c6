"""Progress for machines: Ray's application metrics, which Ray exports to Prometheus."""

from __future__ import annotations

from collections.abc import Mapping

from ray.util.metrics import Counter, Gauge


class Telemetry:
    """Counters of attributed samples by status and of failures, and gauges of what is under way."""

    def __init__(self) -> None:
        self._samples = Counter("ssig_samples", "Rows committed, by status.", tag_keys=("method", "status"))
        self._failures = Counter("ssig_failures", "Units that failed, by kind.", tag_keys=("kind",))
        self._actors = Gauge("ssig_actors", "Actors that are ready.")
        self._in_flight = Gauge("ssig_units_in_flight", "Units handed out and not done.")

    def committed(self, statuses: Mapping[str, Mapping[str, int]]) -> None:
        for method, counts in statuses.items():
            for status, count in counts.items():
                self._samples.inc(count, tags={"method": method, "status": status})

    def failed(self, kind: str) -> None:
        self._failures.inc(1, tags={"kind": kind})

    def state(self, actors: int, in_flight: int) -> None:
        self._actors.set(actors)
        self._in_flight.set(in_flight)
