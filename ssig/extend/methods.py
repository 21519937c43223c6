"""Methods from outside ssig: a `MethodSpec`, or a plain function that does not use the engine.

    f(model, images, targets, baselines, **options) -> maps

- `model`: points (n, C, H, W) in pixel space -> (n, classes), any number of calls. It is the plain network, frozen and
  in evaluation mode, an `nn.Module` if the network is one. Its outputs are the logits; if another score is explained,
  the log-probabilities or the probabilities.
- `images`, `baselines`: (B, C, H, W); `targets`: (B,) int64, on the same device.
- `maps`: (B, H, W), or (B, C, H, W), from which the option `readout` makes the map.
- `generator`, an optional parameter, is a source of random numbers: a `torch.Generator` on the CPU, or a
  `numpy.random.Generator` if annotated so. The function is then called for one image at a time, and each image has its
  own numbers, the same in every batch and on every machine.
- Every other parameter is an option (`ssig.extend.signatures`).

If the device runs out of memory, the group is halved and each half is tried again.
"""

from __future__ import annotations

import dataclasses
import inspect
import math
import typing
from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ssig.engine.accelerators import forget, release_memory
from ssig.engine.arithmetic import arithmetic
from ssig.errors import ModelError, UsageError, one_line
from ssig.estimators.common_options import CommonOptions
from ssig.estimators.integrands import READOUTS
from ssig.estimators.integration import attribution, endpoints
from ssig.extend.signatures import first_line, options_class, parameters
from ssig.models.outputs import logits_of
from ssig.options import option
from ssig.registry import MethodSpec
from ssig.registry.sources import CAPTUM
from ssig.types import Group, Steps

GIVEN = ("model", "images", "targets", "baselines")
GENERATOR = "generator"
FACTS = "__ssig_method__"
FORM = "a MethodSpec, or a function f(model, images, targets, baselines, **options) that returns maps"


@dataclasses.dataclass(frozen=True)
class FunctionOptions(CommonOptions):
    """The options of every plain function."""

    readout: str = option("sum", "channels to map, where the function returns channels", choices=READOUTS)


def adapted(source_object: object, name: str, shown: str) -> MethodSpec:
    """The entry of a spec or of a plain function, under a name; an empty name keeps its own name.

    Raises:
        UsageError: the object is neither, or it lacks an option of every method.
    """
    if isinstance(source_object, MethodSpec):
        return _checked(dataclasses.replace(source_object, name=name or source_object.name), shown)
    if isinstance(source_object, type) and CAPTUM.fullmatch(name):
        from ssig.extend.captum_classes import of_class  # imported late, because it imports this module

        return of_class(source_object, name, shown)
    if not callable(source_object) or isinstance(source_object, type) or inspect.isgeneratorfunction(source_object):
        raise UsageError("method", shown, FORM)
    names = [parameter.name for parameter in parameters(source_object)]
    if tuple(names[:4]) != GIVEN:
        raise UsageError("method", shown, f"{FORM}; this one takes {', '.join(names) or 'nothing'}")
    return of_function(source_object, name or str(getattr(source_object, "__name__", "method")), shown)


def of_function(function: Callable[..., Tensor], name: str, shown: str) -> MethodSpec:
    """The entry of a plain function; includes the facts of `ssig.extend.method`."""
    facts: Mapping[str, Any] = getattr(function, FACTS, MappingProxyType({}))
    options = options_class("method", function, (*GIVEN, GENERATOR), FunctionOptions, shown)
    evaluations, forwards = facts.get("evaluations"), facts.get("forwards", 0)
    return MethodSpec(
        name=name,
        run=partial(_steps, function, _generator(function), bool(facts.get("complete")), shown),
        options=options,
        paper=facts.get("paper", ""),
        equation=facts.get("equation") or first_line(function, name),
        evaluations=evaluations if callable(evaluations) else lambda options: int(evaluations or 0),
        complete=bool(facts.get("complete")),
        baseline=lambda options: bool(facts.get("baseline", True)),
        forwards=forwards if callable(forwards) else lambda options: int(forwards),
        network=True,
        counted=evaluations is None,
        revision=int(facts.get("revision", 0)),
    )


class CountedNetwork(nn.Module):
    """A network that returns the explained score of every class, and counts the points at which it was evaluated.

    Args:
        network: points (n, C, H, W) -> logits (n, classes).
        score: of `ssig.models.scores`.

    Attributes:
        gradients: number of points evaluated for a gradient.
        forwards: number of points evaluated without gradient.
    """

    def __init__(self, network: Callable[[Tensor], Tensor], score: str) -> None:
        super().__init__()
        self.network = network
        self.score = score
        self.gradients = self.forwards = 0
        self.eval()

    def forward(self, points: Tensor) -> Tensor:
        """(n, classes) scores of points (n, C, H, W) in pixel space."""
        if torch.is_grad_enabled() and points.requires_grad:
            self.gradients += len(points)
        else:
            self.forwards += len(points)
        logits = logits_of(self.network(points), len(points))
        if self.score == "log-probability":
            return logits.log_softmax(dim=1)
        return logits.softmax(dim=1) if self.score == "probability" else logits


def _steps(
    function: Callable[..., Tensor], generator: type | None, complete: bool, shown: str, group: Group, options: Any
) -> Steps:
    """The coroutine of a plain function."""
    scores = yield from endpoints(group)
    names = _names(options) - _names(FunctionOptions)
    call = _Call(function, generator, {name: getattr(options, name) for name in names}, shown)
    spans = [slice(0, len(group))] if generator is None else [slice(row, row + 1) for row in range(len(group))]
    parts = [part for span in spans for part in call.halving(group.rows(torch.arange(len(group))[span]))]
    maps = torch.cat([part_maps for part_maps, _ in parts])
    channels = group.images.shape[1]
    values = maps if maps.ndim == 4 else (maps / channels).unsqueeze(1).expand_as(group.images)
    spent = torch.cat([torch.full((len(part_maps),), count, dtype=torch.int64) for part_maps, count in parts])
    result = attribution(values, options.readout, scores, has_residual=complete, error=None, evaluations=spent)
    # The sum of C equal shares equals the map except for rounding.
    return result if maps.ndim == 4 or options.readout != "sum" else dataclasses.replace(result, map=maps)


@dataclasses.dataclass(frozen=True)
class _Call:
    """A plain function with its options."""

    function: Callable[..., Tensor]
    generator: type | None
    options: Mapping[str, Any]
    shown: str

    def halving(self, group: Group) -> list[tuple[Tensor, int]]:
        """The maps of a group and the gradients spent on each image; splits the group if memory runs out."""
        try:
            return [self(group)]
        except torch.OutOfMemoryError as error:
            if len(group) == 1:
                raise
            forget(error)
        release_memory(group.images.device)
        rows, middle = torch.arange(len(group)), len(group) // 2
        return [part for half in (rows[:middle], rows[middle:]) for part in self.halving(group.rows(half))]

    def __call__(self, group: Group) -> tuple[Tensor, int]:
        if group.network is None or group.targets is None:
            raise ModelError(f"{self.shown}: needs the network itself, which is not available here")
        network = CountedNetwork(group.network, group.score)
        drawn = {} if self.generator is None else {GENERATOR: _drawn(group, self.generator)}
        # Copies, because the function may write to its arguments.
        images, baselines = group.images.clone(), group.baselines.clone()
        targets = group.targets.to(images.device)
        try:
            with torch.enable_grad(), arithmetic(getattr(group.network, "precision", None)):
                maps = self.function(network, images, targets, baselines, **drawn, **self.options)
        except (torch.OutOfMemoryError, MemoryError):
            raise
        except Exception as error:  # the function may raise anything
            raise ModelError(f"{self.shown} fails: {one_line(error)}") from error
        return self._checked(maps, group.images), math.ceil(network.gradients / len(images))

    def _checked(self, maps: object, images: Tensor) -> Tensor:
        """The maps on the images' device, in their type."""
        if not isinstance(maps, Tensor):
            raise ModelError(f"{self.shown} returned a {type(maps).__name__}; expected a tensor of maps")
        shape = tuple(images.shape)
        if tuple(maps.shape) not in (shape, (shape[0], *shape[2:])):
            expected = f"(B, H, W) = {(shape[0], *shape[2:])} or (B, C, H, W) = {shape}"
            raise ModelError(f"{self.shown} returned maps {tuple(maps.shape)}; expected {expected}")
        return maps.detach().to(images)


def _generator(function: Callable[..., Tensor]) -> type | None:
    """The type of a function's parameter `generator`; None if it has none."""
    if GENERATOR not in (parameter.name for parameter in parameters(function)):
        return None
    hint = typing.get_type_hints(function).get(GENERATOR)
    wants_numpy = hint is np.random.Generator or np.random.Generator in typing.get_args(hint)
    return np.random.Generator if wants_numpy else torch.Generator


def _drawn(group: Group, kind: type) -> Any:
    """The generator of a group of one image, at its start."""
    (stream,) = group.streams
    numbers = stream.generator(0)
    if kind is np.random.Generator:
        return numbers
    return torch.Generator().manual_seed(int(numbers.integers(2**63)))


def _checked(spec: MethodSpec, shown: str) -> MethodSpec:
    """A spec, after the check that it has the options of every method."""
    names = _names(spec.options) if dataclasses.is_dataclass(spec.options) else set()
    missing = sorted(_names(CommonOptions) - names)
    if missing:
        allowed = f"options that extend ssig.extend.CommonOptions; these lack {', '.join(missing)}"
        raise UsageError("method", shown, allowed)
    return spec


def _names(options: Any) -> set[str]:
    """The names of the options of a dataclass."""
    return {field.name for field in dataclasses.fields(options)}
