"""The methods and metrics of a group as the registries know them, and what a map of each costs."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

from jobs.commands.choices import choice
from pipeline.job.choices import MethodChoice, MetricChoice, named
from pipeline.plan.work import Work, job_work
from ssig.errors import UsageError
from ssig.models.scores import SCORES


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


def work(methods: Iterable[str], metrics: Iterable[str]) -> Work:
    """What methods cost with their metrics, for one image; methods that evaluate the same points share them."""
    found = [method for text in methods if (method := method_of(text)) is not None]
    return sum((each.total for each in job_work(found, [metric_of(text) for text in metrics], SCORES[0])), Work())
