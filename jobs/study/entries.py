"""The methods and metrics of a group as the registries know them, and what a map of each costs."""

from __future__ import annotations

from functools import cache

from jobs.commands.choices import choice
from pipeline.job.choices import MethodChoice, MetricChoice, named
from pipeline.plan.work import Work, map_work, metric_work
from ssig.errors import UsageError


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
    return sum((metric_work(metric_of(text), found) for text in metrics), map_work(found))
