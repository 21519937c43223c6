"""Metrics from outside ssig: a `MetricSpec`, or a plain function of maps.

    f(maps, …) -> numbers

- `maps`: (B, H, W) float32.
- Other parameters named in `INPUTS` receive these inputs. All further parameters are options
  (`ssig.extend.signatures`).
- `numbers`: (B,), one for each image; or column -> (B,), for the columns that `ssig.extend.metric` names. NaN means
  that an image has no number; a report leaves the image out and counts it.

A function with the parameter `masks` is called with the images that have an object; the others are excluded with the
reason.
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

# Parameter name -> (evaluation, rows) -> input for these rows.
INPUTS: Mapping[str, Callable[[Evaluation, list[int]], Any]] = {
    "images": lambda evaluation, rows: evaluation.images[rows].cpu(),
    "targets": lambda evaluation, rows: evaluation.targets[rows],
    "masks": lambda evaluation, rows: torch.from_numpy(np.stack([np.asarray(evaluation.masks[row]) for row in rows])),
    "forward": lambda evaluation, rows: evaluation.forward,
    "logits": lambda evaluation, rows: evaluation.image_logits()[rows],
    "mean": lambda evaluation, rows: evaluation.mean,
    "std": lambda evaluation, rows: evaluation.std,
}
# A further input, which depends on the metric's name: a `torch.Generator` for each image, the same in every batch.
GENERATORS = "generators"


def adapted(source_object: object, name: str, shown: str) -> MetricSpec:
    """The entry of a spec or of a plain function, under a name; an empty name keeps its own name.

    Raises:
        UsageError: the object is neither, or the facts about its columns are incomplete.
    """
    if isinstance(source_object, MetricSpec):
        return _checked(dataclasses.replace(source_object, name=name or source_object.name), shown)
    if not callable(source_object) or isinstance(source_object, type):
        raise UsageError("metric", shown, FORM)
    names = [parameter.name for parameter in parameters(source_object)]
    if names[:1] != ["maps"]:
        raise UsageError("metric", shown, f"{FORM}; this one takes {', '.join(names) or 'nothing'}")
    return _checked(
        of_function(source_object, name or str(getattr(source_object, "__name__", "metric")), shown), shown
    )


def of_function(function: Callable[..., Any], name: str, shown: str) -> MetricSpec:
    """The entry of a plain function; includes the facts of `ssig.extend.metric`."""
    facts: Mapping[str, Any] = getattr(function, FACTS, MappingProxyType({}))
    input_names = (*INPUTS, GENERATORS)
    inputs = tuple(parameter.name for parameter in parameters(function) if parameter.name in input_names)
    columns = dict(facts.get("columns") or {name: facts.get("better", "none")})
    needs = {
        "map",
        *({"mask"} if "masks" in inputs else ()),
        *({"model"} if {"forward", "logits"} & {*inputs} else ()),
    }
    return MetricSpec(
        name=name,
        compute=partial(_computed, function, inputs, name, tuple(columns), shown),
        options=options_class("metric", function, ("maps", *input_names), None, shown),
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
    inputs: tuple[str, ...],
    name: str,
    columns: tuple[str, ...],
    shown: str,
    evaluation: Evaluation,
    options: Any,
) -> MetricResult:
    """The numbers of a batch by a plain function."""
    excluded: list[dict[str, str]] = [{} for _ in range(len(evaluation))]
    rows = list(range(len(evaluation)))
    if "masks" in inputs:
        reasons = {row: mask for row, mask in enumerate(evaluation.masks) if isinstance(mask, str)}
        for row, reason in reasons.items():
            excluded[row] = dict.fromkeys(columns, reason)
        rows = [row for row in rows if row not in reasons]
    values = {column: np.full(len(evaluation), np.nan) for column in columns}
    if rows:
        arguments = {parameter: INPUTS[parameter](evaluation, rows) for parameter in inputs if parameter in INPUTS}
        if GENERATORS in inputs:
            streams = evaluation.streams(name)
            arguments[GENERATORS] = [_generator(int(streams[row].generator(0).integers(2**63))) for row in rows]
        settings = {field.name: getattr(options, field.name) for field in dataclasses.fields(options)}
        numbers = function(evaluation.maps[rows].clone(), **arguments, **settings)
        for column, column_values in _by_column(numbers, columns, len(rows), shown).items():
            values[column][rows] = column_values
    for column in columns:
        for row in np.flatnonzero(~np.isfinite(values[column])).tolist():
            excluded[row].setdefault(column, NO_NUMBER)
    return assemble(values, excluded)


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _by_column(numbers: Any, columns: tuple[str, ...], count: int, shown: str) -> dict[str, np.ndarray]:
    """The result of a function, as (count,) float64 for each of its columns.

    Raises:
        ValueError: the result has other columns or another length.
    """
    by_column = dict(numbers) if isinstance(numbers, Mapping) else {columns[0]: numbers}
    if set(by_column) != set(columns):
        raise ValueError(
            f"{shown} returned the columns {', '.join(map(str, by_column))}; expected {', '.join(columns)}"
        )
    arrays = {}
    for column, values in by_column.items():
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
    """A spec, after the check that its numbers can be stored beside ssig's own, and reported without its code.

    Raises:
        UsageError: the check fails.
    """

    def refuse(allowed: str) -> UsageError:
        return UsageError("metric", shown, allowed)

    if spec.dataset_columns:
        raise refuse("no numbers of the whole data set (dataset_columns): a report runs no code from outside ssig")
    if not spec.columns or any(better not in BETTER for better in spec.columns.values()):
        raise refuse(f"columns, each with a better direction: {', '.join(BETTER)}")
    if spec.family not in FAMILIES:
        raise refuse(f"a family of {', '.join(FAMILIES)}")
    invalid = [column for column in spec.stored if not re.fullmatch(r"[A-Za-z]\w*", column)]
    if invalid:
        raise refuse(f"columns of letters, digits and _; this one has {invalid[0]!r}")
    owners = {column: metric.name for metric in METRICS for column in metric.stored}
    taken = [column for column in spec.stored if column in owners]
    if taken:
        raise refuse(f"other columns: {taken[0]!r} is one of ssig's metric {owners[taken[0]]!r}")
    for column in spec.stored:
        try:
            spec.description(column)
        except KeyError:
            raise refuse(f"a description of its column {column!r} (descriptions)") from None
    return spec
