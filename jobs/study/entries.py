"""The methods and metrics of a group as the registries know them, and what a map of each costs."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from jobs.commands.choices import choice
from pipeline.job.choices import MethodChoice, MetricChoice, named
from ssig.errors import UsageError


@dataclass(frozen=True)
class Work:
    """What a map and its metrics cost: evaluations of the network for one image."""

    gradients: float = 0.0
    forwards: float = 0.0

    def __add__(self, other: Work) -> Work:
        return Work(self.gradients + other.gradients, self.forwards + other.forwards)

    def __mul__(self, times: float) -> Work:
        return Work(self.gradients * times, self.forwards * times)


@cache
def method_of(text: str) -> MethodChoice | None:
    """A method as `ssig attribute --method` takes it; None where this version has none of that name and options."""
    try:
        found = MethodChoice.model_validate(named(choice("--method", text)))
        found.parsed()
    except UsageError:
        return None
    return found


@cache
def metric_of(text: str) -> MetricChoice:
    """A metric as `ssig attribute --metric` takes it.

    Raises:
        UsageError: there is no such metric or option.
    """
    found = MetricChoice.model_validate(named(choice("--metric", text)))
    found.parsed()
    return found


def known(texts: tuple[str, ...]) -> dict[str, str]:
    """Label -> text of the methods that this version has, in their order."""
    found = ((method_of(text), text) for text in texts)
    return {method.title: text for method, text in found if method is not None}


def unknown(texts: tuple[str, ...]) -> list[str]:
    """The methods that this version lacks."""
    return [text for text in texts if method_of(text) is None]


@cache
def work(method: str, metrics: tuple[str, ...]) -> Work:
    """What a method costs with its metrics, for one image."""
    found = method_of(method)
    if found is None:
        return Work()
    own = _own(found)
    total = own
    for text in metrics:
        metric = metric_of(text)
        options = metric.parsed()
        if not _drawn(found) and metric.name in ("alignment", "stability"):
            continue  # a method without random points has no number there
        total += Work(0, metric.spec.forwards(options)) + own * metric.spec.explanations(options)
    return total


def _own(method: MethodChoice) -> Work:
    cost = method.spec.cost(method.parsed())
    return Work(cost.gradients or 0, cost.forwards or 0)


def _drawn(method: MethodChoice) -> bool:
    """Whether its points or its draws are looked at again by a metric."""
    return not method.spec.control and method.spec.evaluations(method.parsed()) > 1
