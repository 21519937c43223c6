"""Options from a function's signature: its keyword parameters, with their defaults, annotations and documentation."""

from __future__ import annotations

import dataclasses
import inspect
import re
import types
import typing
from collections.abc import Callable, Iterable
from typing import Any, Literal

from ssig.errors import UsageError
from ssig.options import option
from ssig.registry.sources import Kind

_SIMPLE = (bool, int, float, str)
# An entry of Google's `Args:` section: its name, and its text to the end of the line.
_ARGUMENT = re.compile(r"^[ \t]+(\w+)(?: \([^)]*\))?:[ \t]*(.+)$", re.MULTILINE)


def parameters(function: Callable[..., Any]) -> list[inspect.Parameter]:
    """The parameters of a function in order, without ``*args`` and ``**kwargs``."""
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [
        parameter for parameter in inspect.signature(function).parameters.values() if parameter.kind not in variadic
    ]


def options_class(
    kind: Kind, function: Callable[..., Any], engine_names: Iterable[str], base: type[Any] | None, shown: str
) -> type[Any]:
    """A frozen dataclass of options: those of `base`, and each parameter that is not in `engine_names`.

    Args:
        kind: of the function, for errors.
        function: its other parameters have defaults, and annotations of `bool`, `int`, `float`, `str`, `None`, a
            `Literal` of strings, a `tuple` of these, or a union; without an annotation the default's type is used.
        engine_names: the parameters that the engine passes.
        base: a dataclass of further options, or None.
        shown: the function as the user named it.

    Raises:
        UsageError: a parameter has no default or another type, or has the name of an option of `base`.
    """
    hints = typing.get_type_hints(function)
    docs = dict(_ARGUMENT.findall(inspect.getdoc(function) or ""))
    taken = {field.name for field in dataclasses.fields(base)} if base is not None else set()
    fields: list[tuple[str, Any, Any]] = []
    for parameter in parameters(function):
        name, default = parameter.name, parameter.default
        if name in engine_names:
            continue
        if name in taken:
            raise UsageError(kind, shown, f"parameters of other names: every {kind} has an option {name!r} already")
        if default is inspect.Parameter.empty:
            raise UsageError(kind, shown, f"a default for its parameter {name!r}, which becomes an option")
        hint, choices = _plain(hints.get(name, type(default)))
        if hint is None:
            allowed = f"a parameter {name!r} of type bool, int, float or str, a tuple of these, or None"
            raise UsageError(kind, shown, allowed)
        default = tuple(default) if isinstance(default, list) else default
        fields.append((name, hint, option(default, docs.get(name, ""), choices=choices)))
    bases = () if base is None else (base,)
    return dataclasses.make_dataclass("Options", fields, bases=bases, frozen=True)


def _plain(hint: Any) -> tuple[Any, tuple[str, ...] | None]:
    """A type hint as an option's type, and its choices; None for an unsupported hint."""
    if hint in (*_SIMPLE, type(None)):
        return hint, None
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal and all(isinstance(argument, str) for argument in arguments):
        return str, arguments
    if hint in (list, tuple):
        return tuple[float, ...], None
    if origin in (list, tuple):
        simple = arguments and arguments[0] in _SIMPLE
        return (types.GenericAlias(tuple, (arguments[0], ...)), None) if simple else (None, None)
    if origin in (typing.Union, types.UnionType):
        kinds = [_plain(argument) for argument in arguments]
        if any(kind is None for kind, _ in kinds):
            return None, None
        choices = [choice for _, kind_choices in kinds for choice in kind_choices or ()]
        return typing.Union[tuple(kind for kind, _ in kinds)], tuple(choices) or None  # noqa: UP007  a union of runtime types
    return None, None


def first_line(function: object, name: str) -> str:
    """The first line of a docstring without its full stop; the name if there is none."""
    lines = (inspect.getdoc(function) or "").strip().splitlines()
    return lines[0].rstrip(".") if lines else name
