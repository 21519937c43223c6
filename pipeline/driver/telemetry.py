"""Progress for machines: Ray's application metrics, which Ray exports to Prometheus.

Ray puts `ray_` before each name, and Prometheus `_total` after that of a counter. Every series has the tag `run`. No
tag names an actor or a unit, so there are as many series as a run has methods, statuses, steps and kinds of failures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ray.util.metrics import Counter, Gauge

from pipeline.driver.executor import State
from pipeline.unit.messages import Done

# The name of a run, the last part of its path, is cut to so many characters.
MOST_CHARACTERS = 64


class Metric(NamedTuple):
    """A metric: what it says, and its tags beside `run`."""

    description: str
    tags: tuple[str, ...] = ()


COUNTERS = {
    "ssig_samples": Metric("Rows committed, by method and status.", ("method", "status")),
    "ssig_gradients": Metric("Gradient evaluations of the rows committed, by method.", ("method",)),
    "ssig_step_seconds": Metric("Seconds of computing in the steps of units.", ("step",)),
    "ssig_device_seconds": Metric("Seconds that the devices of actors computed, without those that only measure."),
    "ssig_units": Metric("Units done."),
    "ssig_failures": Metric("Units that failed, by kind.", ("kind",)),
}
GAUGES = {
    "ssig_actors": Metric("Actors that are ready, without those that only measure."),
    "ssig_units_in_flight": Metric("Units handed out and not done."),
    "ssig_units_left": Metric("Units that are not done."),
    "ssig_rows_under_way": Metric("Maps computed and not committed; attribution and metrics count half each."),
    "ssig_seconds_left": Metric("Seconds until all units are done at the present rate; -1 while it is unknown."),
    "ssig_micro_batch": Metric("Points evaluated at once: the least of all actors."),
}


class Telemetry:
    """The metrics of one command on a run.

    Args:
        run: its path or URL.
    """

    def __init__(self, run: str = "") -> None:
        self._counters = {
            name: Counter(name, about, tag_keys=("run", *tags)) for name, (about, tags) in COUNTERS.items()
        }
        self._gauges = {name: Gauge(name, about, tag_keys=("run", *tags)) for name, (about, tags) in GAUGES.items()}
        tag = {"run": name_of(run)}
        for metric in (*self._counters.values(), *self._gauges.values()):
            metric.set_default_tags(tag)

    def done(self, done: Done) -> None:
        """Counts a unit that is done, and what it took."""
        self._add("ssig_units", 1)
        self._add("ssig_device_seconds", done.device_seconds)
        for method, counts in done.statuses.items():
            for status, count in counts.items():
                self._add("ssig_samples", count, method=method, status=status)
        for method, count in done.gradients.items():
            self._add("ssig_gradients", count, method=method)
        for step, seconds in done.steps.items():
            self._add("ssig_step_seconds", seconds, step=step)

    def mapped(self, done: Done) -> None:
        """Counts what the maps of a unit took that is still to be measured."""
        self._add("ssig_device_seconds", done.device_seconds)

    def failed(self, kind: str) -> None:
        """Counts a unit that failed."""
        self._add("ssig_failures", 1, kind=kind)

    def state(self, state: State) -> None:
        """Tells how the run stands."""
        self._gauges["ssig_actors"].set(state.actors)
        self._gauges["ssig_units_in_flight"].set(state.in_flight)
        self._gauges["ssig_units_left"].set(state.units_left)
        self._gauges["ssig_rows_under_way"].set(state.rows_under_way)
        self._gauges["ssig_seconds_left"].set(-1.0 if state.seconds_left is None else state.seconds_left)
        self._gauges["ssig_micro_batch"].set(least(state.micro_batches))

    def _add(self, name: str, amount: float, **tags: str) -> None:
        if amount > 0:  # Ray refuses 0
            self._counters[name].inc(amount, tags=tags)


def name_of(run: str) -> str:
    """What the tag `run` holds: the last part of a path or URL."""
    return run.rstrip("/").rpartition("/")[2][:MOST_CHARACTERS] or "run"


def least(micro_batches: Sequence[int]) -> int:
    """The smallest of all; 0 while no actor is ready."""
    return min(micro_batches, default=0)


def exported(name: str) -> str:
    """The name under which Prometheus keeps a metric."""
    return f"ray_{name}_total" if name in COUNTERS else f"ray_{name}"


def exported_names() -> Mapping[str, Metric]:
    """Every name under which Prometheus keeps a metric of a run -> the metric."""
    return {exported(name): metric for name, metric in (COUNTERS | GAUGES).items()}
