"""Differences between two results of one method, and options under which a method is cheap."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from jobs.bench.gpu.networks import keys, pictures
from ssig.api import attribute
from ssig.engine.replica import Replica
from ssig.errors import UsageError
from ssig.registry import METHODS
from ssig.types import Attribution

# Options that set how much is evaluated -> a small number.
FEW: dict[str, Any] = {"samples": 8, "steps": 8, "paths": 2, "pool": 8, "classes": 3}


def few(name: str, evaluations: int = 8) -> dict[str, Any]:
    """Options of a method with about so many evaluations an image; those that the method refuses are dropped."""
    fields = METHODS[name].options.__dataclass_fields__
    wanted = {**FEW, "samples": evaluations, "steps": evaluations}
    given: dict[str, Any] = {}
    for option in [option for option in wanted if option in fields]:
        try:
            METHODS[name].parse({**given, option: wanted[option]})
        except UsageError:
            continue
        given[option] = wanted[option]
    return given


def explained(replica: Replica, images: Tensor, targets: Tensor, name: str, **options: Any) -> Attribution:
    """The attribution with the keys of a run, and with references for the methods that need some.

    Args:
        replica: the network.
        images: (B, C, H, W).
        targets: (B,).
        name: of the method.
        **options: of `ssig.attribute` and of the method; `keys` replaces those of the first B images.
    """
    arguments: dict[str, Any] = {"keys": keys(len(images)), **options}
    spec = METHODS[name]
    own = {option: value for option, value in options.items() if option in spec.options.__dataclass_fields__}
    if spec.references(spec.parse(own)):
        size = (int(images.shape[-2]), int(images.shape[-1]))
        arguments["references"] = pictures(8, size).to(images).flip(0)
    return attribute(replica, images, targets, name, **arguments)


def differences(found: Attribution, expected: Attribution) -> dict[str, Any]:
    """Relative differences of maps, scores, residuals and standard errors; whether the evaluations are equal."""
    return {
        "map": relative(found.map, expected.map),
        "score": relative(found.score, expected.score),
        "residual": relative(found.completeness_residual, expected.completeness_residual, expected.score),
        "standard error": relative(found.standard_error, expected.standard_error),
        "evaluations": torch.equal(found.gradient_evaluations.cpu(), expected.gradient_evaluations.cpu()),
    }


def relative(found: Tensor | None, expected: Tensor | None, scale: Tensor | None = None) -> float | None:
    """`||found - expected|| / ||scale||`, with `expected` as the scale if none is given; None if both are None."""
    if found is None or expected is None:
        return None if found is expected else float("nan")
    one, other = found.detach().double().cpu(), expected.detach().double().cpu()
    norm = float((other if scale is None else scale.detach().double().cpu()).norm())
    return float((one - other).norm()) / (norm if norm > 0 else 1.0)


def each(found: Tensor, expected: Tensor) -> list[float]:
    """The relative difference of each map (B, H, W)."""
    return [relative(one, other) or 0.0 for one, other in zip(found, expected, strict=True)]
