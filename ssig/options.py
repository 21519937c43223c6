"""Typed options of methods and metrics: frozen dataclasses with documentation and bounds in their fields.

A method or metric declares a frozen dataclass with `option(default, doc, ...)` fields. `build` makes one from
plain values (YAML, the command line, keyword arguments) and refuses anything unknown, ill-typed or out of range
with a `UsageError` that names the field. `as_dict` gives the JSON form that is recorded with every result.
"""

from __future__ import annotations

import dataclasses
import math
import sys
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from ssig.errors import UsageError

Options = TypeVar("Options")


@dataclass(frozen=True)
class OptionDoc:
    """One documented option: its name, type, default, allowed values and meaning.

    Attributes:
        name: of the option.
        type: names of the types, joined by " or ": int, float, str, bool, null, "list of float", "list of int".
        default: in its JSON form.
        allowed: `type` and bounds, in words.
        doc: its meaning, in one line.
        choices: the allowed strings; empty if any string is allowed.
        at_least, above, at_most: bounds of numbers; None for none.
    """

    name: str
    type: str
    default: object
    allowed: str
    doc: str
    choices: tuple[str, ...] = ()
    at_least: float | None = None
    above: float | None = None
    at_most: float | None = None


def option(
    default: Any,
    doc: str,
    *,
    choices: Iterable[str] | None = None,
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    check: Callable[[Any], str | Iterable[str] | None] | None = None,
) -> Any:
    """A dataclass field with its meaning and its bounds.

    Args:
        default: the value when none is given; options are immutable values.
        doc: one line for `ssig methods` and `ssig metrics`.
        choices: the allowed strings (other types, such as a tuple of numbers, pass).
        at_least: inclusive lower bound of a number.
        above: exclusive lower bound of a number.
        at_most: inclusive upper bound of a number.
        check: value -> None, or for a wrong value the allowed ones, in words or as names.
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


def quiet(field: Any) -> Any:
    """An option that is not recorded while all quiet options have their defaults.

    So records of configurations that do not use it are the same as before the option existed.
    """
    return dataclasses.field(default=field.default, metadata={**field.metadata, "quiet": True})


def build(cls: type[Options], arguments: Mapping[str, Any], *, where: str) -> Options:
    """An instance of the options dataclass `cls` from plain values.

    Args:
        cls: a frozen dataclass of `option` fields.
        arguments: option name -> value, from YAML or keyword arguments.
        where: prefix of the field in error messages, such as ``methods.ig``.

    Raises:
        UsageError: an unknown name, a value of the wrong type or out of its bounds.
    """
    values = checked(describe(cls), arguments, where=where)
    checks = {field.name: field.metadata.get("check") for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    for name, value in values.items():
        check = checks[name]
        if check is not None and (allowed := check(value)):
            raise UsageError(f"{where}.{name}", arguments[name], allowed)
    return cls(**values)


def checked(docs: Iterable[OptionDoc], arguments: Mapping[str, Any], *, where: str) -> dict[str, Any]:
    """Checks plain values and converts them: lists become tuples, and integers become floats for options of floats.

    Raises:
        UsageError: an unknown name, a value of the wrong type or out of its bounds.
    """
    docs_by_name = {doc.name: doc for doc in docs}
    for name in arguments:
        if name not in docs_by_name:
            owner, allowed = where.partition(".")[2], sorted(docs_by_name) or "no options"
            raise UsageError(f"{where}.{name}", arguments[name], allowed, unknown=name, owner=owner, kind="option")
    return {name: _checked(f"{where}.{name}", value, docs_by_name[name]) for name, value in arguments.items()}


def as_dict(options: Any) -> dict[str, Any]:
    """The JSON form of an options instance: every field, defaults included.

    Quiet options are left out while all of them have their defaults.
    """
    fields = dataclasses.fields(options)
    quiet = [field for field in fields if field.metadata.get("quiet")]
    left_out = quiet if all(getattr(options, field.name) == field.default for field in quiet) else []
    return {field.name: _plain(getattr(options, field.name)) for field in fields if field not in left_out}


def describe(cls: type[Any]) -> list[OptionDoc]:
    """The documented options of a dataclass, in order of declaration."""
    hints = typing.get_type_hints(cls)
    return [_described(field, hints[field.name]) for field in dataclasses.fields(cls)]


def in_words(
    kinds: Iterable[str],
    choices: Iterable[str] = (),
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | str | None = None,
) -> str:
    """The allowed values in words, such as "a whole number, at least 1, or auto".

    Args:
        kinds: any of int, float, str, bool, null, "list of float" and "list of int".
        choices: the allowed strings; empty if any string is allowed.
        at_least, above, at_most: bounds of numbers; the last may be in words.
    """
    names = list(choices)
    bounds = _bounds(at_least, above, at_most)
    words = {
        "int": "a whole number" + bounds,
        "float": "a number" + bounds,
        "str": "text" if not names else names[0] if len(names) == 1 else "one of " + ", ".join(names),
        "bool": "true or false",
        "list of int": "a list of whole numbers",
        "list of float": "a list of numbers",
    }
    parts = [words.get(kind, kind) for kind in kinds]
    return (", or " if any("," in part for part in parts) else " or ").join(parts)


def _bounds(at_least: float | None, above: float | None, at_most: float | str | None) -> str:
    if at_least is not None and at_most is not None:
        return f" from {at_least} to {at_most}"
    bounds = (("at least", at_least), ("above", above), ("at most", at_most))
    return "".join(f", {word} {bound}" for word, bound in bounds if bound is not None)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _described(field: dataclasses.Field[Any], hint: Any) -> OptionDoc:
    meta = field.metadata
    kinds = [_kind(kind) for kind in _alternatives(hint)]
    choices = tuple(meta.get("choices") or ())
    bounds = {name: meta.get(name) for name in ("at_least", "above", "at_most")}
    return OptionDoc(
        name=field.name,
        type=" or ".join(kinds),
        default=_plain(field.default),
        allowed=in_words(kinds, choices, **bounds),
        doc=str(meta.get("doc", "")),
        choices=choices,
        **bounds,
    )


def _alternatives(hint: Any) -> tuple[Any, ...]:
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return typing.get_args(hint)
    return (hint,)


def _kind(kind: Any) -> str:
    if kind is type(None):
        return "null"
    if typing.get_origin(kind) is tuple:
        return f"list of {typing.get_args(kind)[0].__name__}"
    return str(kind.__name__)


def _checked(where: str, value: Any, doc: OptionDoc) -> Any:
    for kind in doc.type.split(" or "):
        converted, matched = _convert(value, kind)
        if matched:
            break
    else:
        raise UsageError(where, value, doc.allowed, known=doc.choices)
    if isinstance(converted, str) and doc.choices and converted not in doc.choices:
        raise UsageError(where, value, doc.allowed, known=doc.choices)
    if isinstance(converted, (int, float)) and not isinstance(converted, bool) and not _within(converted, doc):
        raise UsageError(where, value, doc.allowed)
    return converted


def _within(number: float, doc: OptionDoc) -> bool:
    return (
        (isinstance(number, int) or math.isfinite(number))
        and (doc.at_least is None or number >= doc.at_least)
        and (doc.above is None or number > doc.above)
        and (doc.at_most is None or number <= doc.at_most)
    )


_TYPES: dict[str, type] = {"int": int, "float": float, "str": str, "bool": bool, "null": type(None)}


def _convert(value: Any, kind: str) -> tuple[Any, bool]:
    """`value` converted to a kind, and whether it matches: an int is a valid float, a bool is no number."""
    if kind.startswith("list of "):
        if not isinstance(value, (list, tuple)):
            return None, False
        pairs = [_convert(item, kind.removeprefix("list of ")) for item in value]
        return tuple(item for item, _ in pairs), bool(pairs) and all(matched for _, matched in pairs)
    if isinstance(value, bool):
        return value, kind == "bool"
    if kind == "float" and isinstance(value, int):
        return (float(value), True) if abs(value) <= sys.float_info.max else (None, False)
    return value, isinstance(value, _TYPES[kind])
