"""Messages for wrong values of a job: the field, its value, and what it allows, in words.

What a field allows is read from its annotation and its bounds, so that all errors have the same words, none of them
pydantic's.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Sequence
from typing import Any, Literal

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from ssig.errors import NOTHING, UsageError
from ssig.options import in_words

# Kinds of pydantic's errors that need messages of their own.
_UNKNOWN, _MISSING, _WRONG_KEY = "extra_forbidden", "missing", "invalid_key"
_KEY = "[key]"  # ends the location of a key that is wrong
_MOST = 3  # further problems that are named
_PLURALS = {"text": "texts", "a number": "numbers", "a whole number": "whole numbers"}


def usage_error(error: ValidationError, model: type[BaseModel], file: str | None) -> UsageError:
    """One error for the first of the values that `model` refused; the fields of further ones are named.

    Args:
        error: what pydantic raised.
        model: the model that was to be made.
        file: name of the job file; None where the values come from elsewhere.
    """
    problems = error.errors(include_url=False, include_context=False)
    kind, location, value = problems[0]["type"], problems[0]["loc"], problems[0]["input"]
    if kind == _MISSING and isinstance(location[-1], int):  # a list that is too short
        kind, location = "too_short", location[:-1]
    path, annotation, bounds = _field(model, location)
    allowed, names = allowed_in(annotation, bounds), _choices(annotation)
    unknown, owner = None, ""
    if kind == _UNKNOWN:
        unknown, owner = str(location[-1]), ".".join(path)
        path.append(unknown)
        names = [name for section in _kinds(annotation) if _is_model(section) for name in section.model_fields]
        allowed = "one of " + ", ".join(names) if len(names) > 1 else names[0]
    elif kind == _MISSING:
        needed = _needed(annotation)
        path, value, names = [*path, *needed], NOTHING, []
        allowed = allowed_in(*_field(model, [*location, *needed])[1:])
    elif kind == _WRONG_KEY or location[-1] == _KEY:
        allowed, names = "names that are text", []
    where = ".".join(path)
    further_fields = {".".join(_field(model, problem["loc"])[0]) for problem in problems[1:]}
    wrong_fields = sorted(
        further_field
        for further_field in further_fields
        if further_field and not f"{where}.".startswith(f"{further_field}.")
    )
    if wrong_fields:
        allowed += f" (also wrong: {', '.join(wrong_fields[:_MOST])}{', …' if len(wrong_fields) > _MOST else ''})"
    field = where if file is None else f"{file}: {where}"
    return UsageError(field, value, allowed, known=names, unknown=unknown, owner=owner)


def _field(model: type[BaseModel], location: Sequence[int | str]) -> tuple[list[str], Any, Sequence[Any]]:
    """The path of a location without pydantic's additions, the annotation there, and its bounds."""
    path: list[str] = []
    annotation: Any = model
    bounds: Sequence[Any] = ()
    for part in location:
        inner = _inner(annotation, part)
        if inner is not None:
            annotation, bounds = inner
            path.append(str(part))
    return path, annotation, bounds


def _inner(annotation: Any, part: int | str) -> tuple[Any, Sequence[Any]] | None:
    """The annotation and bounds of a field, item or key of a value; None if `part` only says which kind was tried."""
    for kind, _ in _with_bounds(annotation, ()):
        if _is_model(kind) and part in kind.model_fields:
            field: FieldInfo = kind.model_fields[str(part)]
            return field.annotation, field.metadata
        items = typing.get_args(kind)
        if typing.get_origin(kind) is tuple and isinstance(part, int):
            return items[0] if items[-1] is ... else items[min(part, len(items) - 1)], ()
        if typing.get_origin(kind) is dict and part != _KEY:
            return items[1], ()
    return None


def _needed(annotation: Any) -> list[str]:
    """The first field without a default of a missing value that is a model: what must be given at least."""
    for kind in _kinds(annotation):
        if _is_model(kind):
            for name, field in kind.model_fields.items():
                if field.is_required():
                    return [name, *_needed(field.annotation)]
    return []


def allowed_in(annotation: Any, bounds: Sequence[Any]) -> str:
    """What an annotation and its bounds allow, in words."""
    words = [_words(kind, inner) for kind, inner in _with_bounds(annotation, bounds)]
    words.sort(key=lambda word: word == "null")
    return (", or " if any("," in word for word in words) else " or ").join(dict.fromkeys(words))


def _words(kind: Any, bounds: Sequence[Any]) -> str:
    origin, items = typing.get_origin(kind), typing.get_args(kind)
    if kind is type(None):
        return "null"
    if origin is Literal:
        return in_words(["str"], map(str, items))
    if origin is tuple:
        return _list(items, bounds)
    if _is_model(kind):
        return _mapping(kind)
    if origin is dict or kind is dict:
        return "a mapping of names to values"
    if kind in (int, float):
        low, high = _bound(bounds, "ge"), _bound(bounds, "le")
        below = _bound(bounds, "lt")
        most = "2^63 - 1" if below == 2**63 else high
        return in_words([kind.__name__], (), low, _bound(bounds, "gt"), most)
    if kind is bool:
        return in_words(["bool"])
    return "non-empty text" if _bound(bounds, "min_length") else "text"


def _list(items: Sequence[Any], bounds: Sequence[Any]) -> str:
    if _is_model(_kinds(items[0])[0]):
        few = "a list such as [NAME, {name: NAME, OPTION: VALUE}]"
    else:
        first, comma, ending = allowed_in(items[0], ()).partition(",")
        count = "" if items[-1] is ... else f"{len(items)} "
        few = f"a list of {count}{_PLURALS.get(first, first)}{comma}{ending}"
    return few + (", not empty" if _bound(bounds, "min_length") else "")


def _mapping(model: type[BaseModel]) -> str:
    names = list(model.model_fields)
    if "options" in names:  # a method or a metric, which is given as its name or with its options beside it
        return "NAME, or {name: NAME, OPTION: VALUE}"
    return "a mapping of " + ", ".join(names)


def _choices(annotation: Any) -> list[str]:
    """The words to choose from, of which the nearest is suggested."""
    literals = (kind for kind in _kinds(annotation) if typing.get_origin(kind) is Literal)
    return [str(word) for literal in literals for word in typing.get_args(literal)]


def _kinds(annotation: Any) -> list[Any]:
    return [kind for kind, _ in _with_bounds(annotation, ())]


def _with_bounds(annotation: Any, bounds: Sequence[Any]) -> list[tuple[Any, Sequence[Any]]]:
    """The alternatives of an annotation, each with the bounds that hold for it."""
    if typing.get_origin(annotation) is typing.Annotated:
        inner, *constraints = typing.get_args(annotation)
        flat = [
            item
            for constraint in constraints
            for item in (constraint.metadata if isinstance(constraint, FieldInfo) else (constraint,))
        ]
        return _with_bounds(inner, [*bounds, *flat])
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return [pair for kind in typing.get_args(annotation) for pair in _with_bounds(kind, bounds)]
    return [(annotation, bounds)]


def _bound(bounds: Sequence[Any], name: str) -> Any:
    return next((value for bound in bounds if (value := getattr(bound, name, None)) is not None), None)


def models_of(annotation: Any) -> list[type[BaseModel]]:
    """The models among the alternatives of an annotation; none for a list of them."""
    return [kind for kind in _kinds(annotation) if _is_model(kind)]


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)
