"""Typed options of methods and metrics: frozen dataclasses whose fields document and check themselves.

A method or metric declares a frozen dataclass with `option(default, doc, ...)` fields. `build` makes one from
plain values (YAML, the command line, keyword arguments) and refuses anything unknown, ill-typed or out of range
with a `UsageError` that names the field. `as_dict` gives the JSON form that is recorded with every result.
"""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from ssig.errors import UsageError

Options = TypeVar("Options")


@dataclass(frozen=True)
class OptionDoc:
    """One documented option: its name, type, default, allowed values and meaning."""

    name: str
    type: str
    default: object
    allowed: str
    doc: str


def option(
    default: Any,
    doc: str,
    *,
    choices: Iterable[str] | None = None,
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    check: Callable[[Any], str | None] | None = None,
) -> Any:
    """A dataclass field with its meaning and its bounds.

    Args:
        default: the value when none is given; options are immutable values.
        doc: one line for `ssig methods` and `ssig metrics`.
        choices: the allowed strings (other types, such as a tuple of numbers, pass).
        at_least: inclusive lower bound of a number.
        above: exclusive lower bound of a number.
        at_most: inclusive upper bound of a number.
        check: returns what is allowed if the value is wrong, else None.
    """
    return dataclasses.field(
        default=default,
        metadata={
            "doc": doc,
            "choices": None if choices is None else tuple(choices),
            "at_least": at_least,
            "above": above,
            "at_most": at_most,
            "check": check,
        },
    )


def build(cls: type[Options], given: Mapping[str, Any], *, where: str) -> Options:
    """An instance of the options dataclass `cls` from plain values.

    Args:
        cls: a frozen dataclass of `option` fields.
        given: option name -> value, as YAML or keyword arguments give it.
        where: prefix of the field in error messages, such as ``methods.ig``.

    Raises:
        UsageError: an unknown name, a value of the wrong type or out of its bounds.
    """
    hints = typing.get_type_hints(cls)
    fields = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    for name in given:
        if name not in fields:
            raise UsageError(f"{where}.{name}", given[name], sorted(fields) or "no options")
    values = {name: _checked(f"{where}.{name}", value, hints[name], fields[name]) for name, value in given.items()}
    return cls(**values)


def as_dict(options: Any) -> dict[str, Any]:
    """The JSON form of an options instance: every field, defaults included."""
    return {field.name: _plain(getattr(options, field.name)) for field in dataclasses.fields(options)}


def describe(cls: type[Any]) -> list[OptionDoc]:
    """The documented options of a dataclass, in order of declaration."""
    hints = typing.get_type_hints(cls)
    return [
        OptionDoc(
            name=field.name,
            type=_type_name(hints[field.name]),
            default=_plain(field.default),
            allowed=_allowed(hints[field.name], field),
            doc=str(field.metadata.get("doc", "")),
        )
        for field in dataclasses.fields(cls)
    ]


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _alternatives(hint: Any) -> tuple[Any, ...]:
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return typing.get_args(hint)
    return (hint,)


def _type_name(hint: Any) -> str:
    def one(kind: Any) -> str:
        if kind is type(None):
            return "null"
        if typing.get_origin(kind) is tuple:
            return f"list of {typing.get_args(kind)[0].__name__}"
        return str(kind.__name__)

    return " or ".join(one(kind) for kind in _alternatives(hint))


def _allowed(hint: Any, field: dataclasses.Field[Any]) -> str:
    meta = field.metadata
    parts = []
    if meta.get("choices"):
        parts.append("one of " + ", ".join(meta["choices"]))
    if meta.get("at_least") is not None:
        parts.append(f"at least {meta['at_least']}")
    if meta.get("above") is not None:
        parts.append(f"above {meta['above']}")
    if meta.get("at_most") is not None:
        parts.append(f"at most {meta['at_most']}")
    return _type_name(hint) + (f" ({', '.join(parts)})" if parts else "")


def _checked(where: str, value: Any, hint: Any, field: dataclasses.Field[Any]) -> Any:
    allowed = _allowed(hint, field)
    for kind in _alternatives(hint):
        converted, matched = _convert(value, kind)
        if matched:
            break
    else:
        raise UsageError(where, value, allowed)
    meta = field.metadata
    choices = meta.get("choices")
    if choices and isinstance(converted, str) and converted not in choices:
        raise UsageError(where, value, allowed)
    if isinstance(converted, (int, float)) and not isinstance(converted, bool):
        too_low = meta.get("at_least") is not None and converted < meta["at_least"]
        not_above = meta.get("above") is not None and converted <= meta["above"]
        too_high = meta.get("at_most") is not None and converted > meta["at_most"]
        if too_low or not_above or too_high or not math.isfinite(converted):
            raise UsageError(where, value, allowed)
    check = meta.get("check")
    if check is not None and (complaint := check(converted)):
        raise UsageError(where, value, complaint)
    return converted


def _convert(value: Any, kind: Any) -> tuple[Any, bool]:
    """`value` as `kind`, and whether it is one: an int passes as a float, a bool never as a number."""
    if kind is type(None):
        return None, value is None
    if typing.get_origin(kind) is tuple:
        if not isinstance(value, (list, tuple)):
            return None, False
        pairs = [_convert(item, typing.get_args(kind)[0]) for item in value]
        return tuple(item for item, _ in pairs), bool(pairs) and all(matched for _, matched in pairs)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value), True
    if kind is int and isinstance(value, bool):
        return None, False
    return value, isinstance(value, kind)
