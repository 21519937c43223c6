"""One line for what is wrong with a job, from what its validation found."""

from __future__ import annotations

import typing
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from ssig.errors import UsageError


def usage_error(error: ValidationError, path: Path | None, root: type[BaseModel]) -> UsageError:
    """The first problem of a job: its field, what was found, what is allowed, and how many more there are.

    Args:
        error: what the validation of `root` found.
        path: the job file; None where there is none.
        root: the model of the whole job.
    """
    problems = error.errors()
    first = problems[0]
    fields = {name for model in _models(root) for name in model.model_fields}
    location = [
        part
        for part in first["loc"]
        if not isinstance(part, str) or part in fields or first["type"] == "extra_forbidden"
    ]
    field = ".".join(str(part) for part in location)
    allowed = first["msg"]
    found: Any = first["input"]
    if first["type"] == "extra_forbidden":
        allowed = "one of " + ", ".join(_at(root, first["loc"][:-1]).model_fields)
    elif first["type"] == "missing":
        allowed, found = "a value (it has no default)", None
    where = f"{path.name}: {field}" if path is not None else field
    if len(problems) > 1:
        allowed += f" (and {len(problems) - 1} more)"
    return UsageError(where, found, allowed)


def one_line(error: Exception) -> str:
    """What an error says, on one line."""
    return " ".join(str(error).split())


def _at(root: type[BaseModel], location: Sequence[Any]) -> type[BaseModel]:
    """The model of the mapping at a location of a job."""
    for part in location:
        if part in root.model_fields:
            root = next(_within(root.model_fields[part].annotation), root)
    return root


def _models(root: type[BaseModel]) -> Iterator[type[BaseModel]]:
    """A model and all that its fields hold."""
    yield root
    for field in root.model_fields.values():
        for model in _within(field.annotation):
            yield from _models(model)


def _within(annotation: Any) -> Iterator[type[BaseModel]]:
    """The models that an annotation names."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in typing.get_args(annotation):
        yield from _within(part)
