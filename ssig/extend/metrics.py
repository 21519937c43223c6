"""Metrics that others write: a `MetricSpec`, or a plain function of maps.

    f(maps, …) -> numbers

- `maps`: (B, H, W) float32.
- Of its other parameters, those named in `INPUTS` are given to it, and the rest are options
  (`ssig.extend.signatures`).
- `numbers`: (B,), one for each image; or column -> (B,), for the columns that `ssig.extend.metric` names. NaN says
  that an image has no number; a report leaves it out and says so.

A function that takes `masks` is called with the images that have an object; the others are left out with the reason.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ssig.errors import UsageError, one_line
from ssig.extend.signatures import first_line, options_class, parameters
from ssig.metrics.shared.assemble import assemble
from ssig.registry import FAMILIES, METRICS, MetricSpec
from ssig.types import Evaluation, MetricResult

FACTS = "__ssig_metric__"
FORM = "a MetricSpec, or a function f(maps, …) that returns a number for each map"
BETTER = ("higher", "lower", "none")
NO_NUMBER = "the metric gave no finite number"

# What a function may ask for by name -> what it is given, for some of the images.
INPUTS: Mapping[str, Callable[[Evaluation, list[int]], Any]] = {
    "images": lambda evaluation, rows: evaluation.images[rows],
    "targets": lambda evaluation, rows: evaluation.targets[rows],
    "masks": lambda evaluation, rows: torch.from_numpy(np.stack([np.asarray(evaluation.masks[row]) for row in rows])),
    "forward": lambda evaluation, rows: evaluation.forward,
    "logits": lambda evaluation, rows: evaluation.image_logits()[rows],
    "mean": lambda evaluation, rows: evaluation.mean,
    "std": lambda evaluation, rows: evaluation.std,
}
# Another, given under the metric's own name: a `torch.Generator` for each image, the same in every batch.
GENERATORS = "generators"


def adapted(found: object, name: str, shown: str) -> MetricSpec:
    """The entry of a spec or of a plain function, under a name; the empty name keeps that of the spec or function.

    Raises:
        UsageError: it is neither, or what it says of its columns is not whole.
    """
    if isinstance(found, MetricSpec):
        return _checked(dataclasses.replace(found, name=name or found.name), shown)
    if not callable(found) or isinstance(found, type):
        raise UsageError("metric", shown, FORM)
    names = [parameter.name for parameter in parameters(found)]
    if names[:1] != ["maps"]:
        raise UsageError("metric", shown, f"{FORM}; this one takes {', '.join(names) or 'nothing'}")
    return _checked(of_function(found, name or str(getattr(found, "__name__", "metric")), shown), shown)


def of_function(function: Callable[..., Any], name: str, shown: str) -> MetricSpec:
    """The entry of a plain function; the facts of `ssig.extend.metric` go with it."""
    facts: Mapping[str, Any] = getattr(function, FACTS, MappingProxyType({}))
    known = (*INPUTS, GENERATORS)
    asked = tuple(parameter.name for parameter in parameters(function) if parameter.name in known)
    columns = dict(facts.get("columns") or {name: facts.get("better", "none")})
    needs = {"map", *({"mask"} if "masks" in asked else ()), *({"model"} if {"forward", "logits"} & {*asked} else ())}
    return MetricSpec(
        name=name,
        compute=partial(_computed, function, asked, name, tuple(columns), shown),
        options=options_class("metric", function, ("maps", *known), None, shown),
        columns=columns,
        definition=facts.get("definition") or first_line(function, name),
        range=facts.get("range", "any number"),
        reference=facts.get("reference", ""),
        forwards=lambda options: int(facts.get("forwards", 0)),
        needs=frozenset(needs),
        family=facts.get("family", FAMILIES[0]),
        descriptions=facts.get("descriptions", {}),
        revision=int(facts.get("revision", 0)),
    )


def _computed(
    function: Callable[..., Any],
    asked: tuple[str, ...],
    name: str,
    columns: tuple[str, ...],
    shown: str,
    evaluation: Evaluation,
    options: Any,
) -> MetricResult:
    """The numbers of a batch by a plain function."""
    excluded: list[dict[str, str]] = [{} for _ in range(len(evaluation))]
    rows = list(range(len(evaluation)))
    if "masks" in asked:
        reasons = {row: mask for row, mask in enumerate(evaluation.masks) if isinstance(mask, str)}
        for row, reason in reasons.items():
            excluded[row] = dict.fromkeys(columns, reason)
        rows = [row for row in rows if row not in reasons]
    values = {column: np.full(len(evaluation), np.nan) for column in columns}
    if rows:
        given = {one: INPUTS[one](evaluation, rows) for one in asked if one in INPUTS}
        if GENERATORS in asked:
            streams = evaluation.streams(name)
            given[GENERATORS] = [_generator(int(streams[row].generator(0).integers(2**63))) for row in rows]
        settings = {field.name: getattr(options, field.name) for field in dataclasses.fields(options)}
        numbers = function(evaluation.maps[rows].clone(), **given, **settings)
        for column, found in _by_column(numbers, columns, len(rows), shown).items():
            values[column][rows] = found
    for column in columns:
        for row in np.flatnonzero(~np.isfinite(values[column])).tolist():
            excluded[row].setdefault(column, NO_NUMBER)
    return assemble(values, excluded)


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _by_column(numbers: Any, columns: tuple[str, ...], count: int, shown: str) -> dict[str, np.ndarray]:
    """What a function returned, as (count,) float64 for each of its columns.

    Raises:
        ValueError: it has other columns or another length.
    """
    found = dict(numbers) if isinstance(numbers, Mapping) else {columns[0]: numbers}
    if set(found) != set(columns):
        raise ValueError(f"{shown} returned the columns {', '.join(map(str, found))}; expected {', '.join(columns)}")
    arrays = {}
    for column, values in found.items():
        plain = values.detach().cpu().double().numpy() if isinstance(values, Tensor) else values
        try:
            arrays[column] = np.asarray(plain, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{shown} returned no numbers for {column}: {one_line(error)}") from error
        if arrays[column].shape != (count,):
            shape = arrays[column].shape
            raise ValueError(f"{shown} returned {shape} for {column}; expected ({count},), one number for each map")
    return arrays


def _checked(spec: MetricSpec, shown: str) -> MetricSpec:
    """A spec whose numbers can be stored beside ssig's own, and reported without its code.

    Raises:
        UsageError: they cannot.
    """

    def refuse(allowed: str) -> UsageError:
        return UsageError("metric", shown, allowed)

    if spec.dataset_columns:
        raise refuse("no numbers of the whole data set (dataset_columns): a report runs no code of others")
    if not spec.columns or any(better not in BETTER for better in spec.columns.values()):
        raise refuse(f"columns, each with a better direction: {', '.join(BETTER)}")
    if spec.family not in FAMILIES:
        raise refuse(f"a family of {', '.join(FAMILIES)}")
    strange = [column for column in spec.stored if not re.fullmatch(r"[A-Za-z]\w*", column)]
    if strange:
        raise refuse(f"columns of letters, digits and _; this one has {strange[0]!r}")
    owners = {column: own.name for own in METRICS for column in own.stored}
    taken = [column for column in spec.stored if column in owners]
    if taken:
        raise refuse(f"other columns: {taken[0]!r} is one of ssig's metric {owners[taken[0]]!r}")
    for column in spec.stored:
        try:
            spec.description(column)
        except KeyError:
            raise refuse(f"a description of its column {column!r} (descriptions)") from None
    return spec
