"""Checks before any work, on one point, whether a network can run a method.

A method requests more than scores: gradients, a layer by name, attention. For each kind of request the first point is
evaluated, and its answer is used for all other points, until the method has received its first gradients. A trial
costs about three evaluations for every method.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ssig.engine.jobs import group_of
from ssig.engine.replica import Replica
from ssig.errors import ModelError, UsageError
from ssig.estimators.baselines import UNKNOWN_MEAN
from ssig.randomness import stream
from ssig.registry import MethodSpec
from ssig.types import Group, References, Request, Response

# The lowest and the highest value of the point, away from the bounds of pixel space.
DARK, BRIGHT = 0.25, 0.75


def try_method(
    spec: MethodSpec,
    options: Any,
    replica: Replica,
    input_size: tuple[int, int],
    score: str = "logit",
    *,
    field: str | None = None,
) -> None:
    """Runs a method up to its first gradients on a point that stands for an image.

    Args:
        spec, options: the method and its parsed options; `options.score`, if set, replaces `score`.
        replica: of the network; no other thread may use it meanwhile.
        input_size: (H, W).
        score: the model's score.
        field: the field named in errors; by default ``methods.NAME``.

    Raises:
        UsageError: the network lacks what the method needs, such as a layer or attention.
        ModelError: the network does not run, or no gradient reaches its input.
        torch.OutOfMemoryError: a single point does not fit the device.
    """
    mean = getattr(replica.model, "mean", None)
    if not isinstance(mean, Tensor) or mean.ndim != 1:
        mean = torch.full((3,), UNKNOWN_MEAN)
    dtype = mean.dtype if mean.is_floating_point() else torch.float32
    height, width = input_size
    ramp = torch.linspace(DARK, BRIGHT, height * width, dtype=dtype, device=replica.device)
    image = ramp.view(1, 1, height, width).expand(1, len(mean), -1, -1).contiguous()
    streams = (stream(0, "", "", spec.name),)
    targets = torch.zeros(1, dtype=torch.int64)
    score = options.score or score
    # A network that fails here fails for every method.
    logits = _evaluated(replica, Request(image, targets, want=frozenset({"logits"})), targets, score).logits
    references = None
    if spec.references(options) and logits is not None:
        pair = torch.cat([image.flip(-1), image.flip(-2)])  # there are methods that compare with two or more
        references = References(pair, torch.cat([logits, logits]))
    group = replace(
        group_of(options, image, targets, streams, mean=mean, score=score),
        references=references,
        network=replica.model if spec.needs_network(options) else None,
    )
    try:
        _run(spec, options, group, replica)
    except _NetworkError as error:
        raise error.reason from error.reason.__cause__
    except ModelError as error:
        layer = getattr(options, "layer", None)
        field = field or f"methods.{spec.name}"
        if isinstance(layer, str):
            raise UsageError(f"{field}.layer", layer, f"a layer that suits the method: {error}") from error
        raise UsageError(field, spec.name, f"a method that the network can run: {error}") from error


class _NetworkError(Exception):
    """The network fails for a request that every method makes."""

    def __init__(self, reason: ModelError) -> None:
        super().__init__(str(reason))
        self.reason = reason


def _run(spec: MethodSpec, options: Any, group: Group, replica: Replica) -> None:
    """Answers the requests of a method until it has used its first gradients, or has finished."""
    answers: dict[Hashable, Response] = {}
    targets = torch.zeros(1, dtype=torch.int64) if group.targets is None else group.targets
    steps = spec.run(group, options)
    try:
        request = next(steps)
        while True:
            if request.until is not None:
                request.until.result()
                request = next(steps)
                continue
            kind = request.want, request.layer, request.targets is not None and request.targets.ndim == 2
            if kind not in answers:
                try:
                    answers[kind] = _evaluated(replica, request, targets, group.score)
                except ModelError as error:
                    raise (_NetworkError(error) if request.layer is None else error) from error.__cause__
            following = steps.send(_repeated(answers[kind], len(request.points)))
            if "gradient" in request.want:
                return
            request = following
    except StopIteration:
        pass
    finally:
        steps.close()


def _evaluated(replica: Replica, request: Request, targets: Tensor, score: str) -> Response:
    """The answer to the first point of a request."""
    target = targets[request.owners[:1]] if request.targets is None else request.targets[:1]
    try:
        return replica.evaluate(request.points[:1], target, score, request.want, request.layer)
    except (ModelError, UsageError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # a network may raise anything
        raise ModelError(f"the network cannot be evaluated: {type(error).__name__}: {error}") from error


def _repeated(response: Response, count: int) -> Response:
    """The answer to one point, as if `count` points had it."""
    expanded: dict[str, Any] = {
        name: None if value is None else value.expand(count, *value.shape[1:]).clone()
        for name, value in vars(response).items()
    }
    return Response(**expanded)
