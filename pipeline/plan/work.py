"""Evaluations of the network that methods and metrics need, as the registries know them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pipeline.job.choices import MethodChoice, MetricChoice

# Metrics that look at the random points of a method; they have no number for a method without any.
OF_RANDOM_POINTS = ("alignment", "stability")


@dataclass(frozen=True)
class Work:
    """Evaluations of the network for one image."""

    gradients: float = 0.0
    forwards: float = 0.0

    def __add__(self, other: Work) -> Work:
        return Work(self.gradients + other.gradients, self.forwards + other.forwards)

    def __mul__(self, times: float) -> Work:
        return Work(self.gradients * times, self.forwards * times)


@dataclass(frozen=True)
class LabelWork:
    """What one method and its metrics need for one image.

    Attributes:
        label: of the method.
        own: of its map; nothing where `shares` is set.
        metrics: of each metric, by name.
        counted: whether the gradients of the map are known only after a run; `own` then has none.
        counts_forwards: the same of its forward passes.
        shares: label of an earlier method that evaluates the network at the same points; None if there is none.
    """

    label: str
    own: Work
    metrics: Mapping[str, Work] = field(default_factory=dict)
    counted: bool = False
    counts_forwards: bool = False
    shares: str | None = None

    @property
    def total(self) -> Work:
        return sum(self.metrics.values(), self.own)


def map_work(method: MethodChoice) -> Work:
    """What a map of a method needs, as far as that is known before a run."""
    cost = method.spec.cost(method.parsed())
    return Work(cost.gradients or 0, cost.forwards or 0)


def metric_work(metric: MetricChoice, method: MethodChoice) -> Work:
    """What a metric of a method's map needs."""
    if metric.name in OF_RANDOM_POINTS and not _draws(method):
        return Work()
    options = metric.parsed()
    explanations = metric.spec.explanations(options)
    if "samples" in metric.spec.needs and method.spec.path(method.parsed()) is not None:
        explanations = 0  # the method's points are drawn again without the network
    return Work(0, metric.spec.forwards(options)) + map_work(method) * explanations


def job_work(methods: Sequence[MethodChoice], metrics: Sequence[MetricChoice], score: str) -> list[LabelWork]:
    """What each method of a job needs with its metrics, in order.

    Args:
        methods, metrics: of the job.
        score: `model.score`, for methods that have no score of their own.
    """
    from pipeline.unit.attributor import LabelMethod  # imports torch

    first: dict[object, str] = {}
    works = []
    for method in methods:
        options = method.parsed()
        cost = method.spec.cost(options)
        path = LabelMethod(method.spec, options, options.score or score).path
        shares = None if path is None else first.setdefault(path, method.title)
        shares = None if shares == method.title else shares
        works.append(
            LabelWork(
                method.title,
                Work() if shares else map_work(method),
                {metric.name: metric_work(metric, method) for metric in metrics},
                counted=cost.gradients is None,
                counts_forwards=cost.forwards is None,
                shares=shares,
            )
        )
    return works


def _draws(method: MethodChoice) -> bool:
    """Whether a metric can look at the points of a method again: it has several, and explains something."""
    return not method.spec.control and method.spec.evaluations(method.parsed()) > 1
