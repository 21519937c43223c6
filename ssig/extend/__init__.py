"""The imports for authors of methods, metrics and networks. Provisional: names here may change until ssig 1.0.

A method is a plain function, which needs no import from this module:

    def my_method(model, images, targets, baselines, scale: float = 1.0):
        images.requires_grad_()
        scores = model(images).gather(1, targets[:, None]).sum()
        (gradient,) = torch.autograd.grad(scores, images)
        return scale * gradient * (images - baselines)

    ssig attribute --method ./mine.py:my_method:scale=2 …
    ssig.attribute(network, images, targets, method=my_method, scale=2.0)

`ssig.extend.methods` documents its arguments and results. `method` adds facts to it: paper, equation, cost.

A metric is a plain function `f(maps, …)`; `ssig.extend.metrics` documents its possible arguments. `metric` adds facts
to it, such as the better direction.

A network is a function without arguments that returns an `nn.Module` (`ssig.models.sources.CallableSource`).

A method that shares the engine's micro-batches is a coroutine with a `MethodSpec`: it yields `Request`s and returns an
`Attribution` (`ssig.types`). A metric with curves or several inputs has a `MetricSpec`.

An installed package provides them as entry points of the groups `ssig.methods`, `ssig.metrics` and `ssig.models`;
`examples/my-method` is an example. `ssig.testing` tests the properties of every method of ssig.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from ssig.errors import ModelError, UsageError
from ssig.estimators.common_options import CommonOptions
from ssig.estimators.integration import attribution, endpoints, gradients_of, integrate, scores_of
from ssig.extend.methods import FACTS as METHOD_FACTS
from ssig.extend.methods import CountedNetwork, FunctionOptions
from ssig.extend.metrics import FACTS as METRIC_FACTS
from ssig.metrics.shared.assemble import NoOptions, assemble
from ssig.options import option
from ssig.randomness import Stream
from ssig.registry import FAMILIES, MethodSpec, MetricSpec
from ssig.types import Attribution, Evaluation, Group, MetricResult, References, Request, Response, Steps

Function = TypeVar("Function", bound=Callable[..., Any])


def method(
    *,
    equation: str = "",
    paper: str = "",
    evaluations: int | Callable[[Any], int] | None = None,
    forwards: int | Callable[[Any], int] = 0,
    complete: bool = False,
    baseline: bool = True,
    revision: int = 0,
) -> Callable[[Function], Function]:
    """Adds facts to a plain function that is a method; the function itself is not changed.

    Args:
        equation: one line; by default the first line of the docstring.
        paper: where it was published.
        evaluations: gradient evaluations per image, or a function of the options that returns them; by default they
            are counted during a run.
        forwards: forward evaluations without gradients per image, or a function of the options that returns them.
        complete: whether the values sum to the score minus the baseline's score.
        baseline: whether the map depends on the baseline.
        revision: counts the changes of its results.
    """
    facts = {
        **{"equation": equation, "paper": paper, "evaluations": evaluations, "forwards": forwards},
        **{"complete": complete, "baseline": baseline, "revision": revision},
    }
    return _with(METHOD_FACTS, facts)


def metric(
    *,
    better: str = "none",
    definition: str = "",
    range: str = "any number",
    reference: str = "",
    family: str = FAMILIES[0],
    columns: Mapping[str, str] | None = None,
    descriptions: Mapping[str, str] | None = None,
    forwards: int = 0,
    revision: int = 0,
) -> Callable[[Function], Function]:
    """Adds facts to a plain function that is a metric; the function itself is not changed.

    Args:
        better: ``higher``, ``lower`` or ``none``.
        definition: one line; by default the first line of the docstring.
        range: of its numbers, such as ``[0, 1]``.
        reference: where it was published.
        family: one of `FAMILIES`.
        columns: column -> better direction, for a function that returns a mapping; by default the metric's name alone.
        descriptions: column -> one line, for each column but the first.
        forwards: forward evaluations per map.
        revision: counts the changes of its results.
    """
    facts = {
        **{"better": better, "definition": definition, "range": range, "reference": reference, "family": family},
        **{"columns": columns, "descriptions": dict(descriptions or {}), "forwards": forwards, "revision": revision},
    }
    return _with(METRIC_FACTS, facts)


def _with(attribute: str, facts: Mapping[str, Any]) -> Callable[[Function], Function]:
    def mark(function: Function) -> Function:
        setattr(function, attribute, facts)
        return function

    return mark


__all__ = [
    "FAMILIES",
    "Attribution",
    "CommonOptions",
    "CountedNetwork",
    "Evaluation",
    "FunctionOptions",
    "Group",
    "MethodSpec",
    "MetricResult",
    "MetricSpec",
    "ModelError",
    "NoOptions",
    "References",
    "Request",
    "Response",
    "Steps",
    "Stream",
    "UsageError",
    "assemble",
    "attribution",
    "endpoints",
    "gradients_of",
    "integrate",
    "method",
    "metric",
    "option",
    "scores_of",
]
