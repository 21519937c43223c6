"""Values of the command line: methods and metrics with their options, and fields of a job, as in YAML."""

from __future__ import annotations

from typing import Any

from ssig.errors import UsageError


def choice(option: str, text: str) -> dict[str, Any]:
    """A method or metric from the command line: ``[SOURCE:]NAME[:option=value,…]``, values as in YAML."""
    from ssig.registry.choices import split

    name, values = split(option, text)
    return {"name": name, **{field: typed(option, field, value, text) for field, value in values.items()}}


def assignment(text: str) -> tuple[str, Any]:
    """``actors.max=4`` as a dotted field and its value, as in YAML."""
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise UsageError("--set", text, "FIELD=VALUE, such as actors.max=4")
    return name, typed("--set", name, value, text)


def typed(option: str, field: str, value: str, typed_text: str) -> Any:
    """The value of a field. A label stays the text that was typed, without its quotes."""
    from pipeline.job.configuration import TEXTS

    if field.rpartition(".")[2] in TEXTS and not value.strip().startswith(("'", '"')):
        return value.strip()
    return scalar(option, value, typed_text)


def scalar(option: str, value: str, typed_text: str | None = None) -> Any:
    """A value of the command line, as YAML reads it."""
    from pipeline.storage import yaml12

    try:
        return yaml12.load(value)
    except yaml12.YAMLError as error:
        raise UsageError(option, typed_text or value, f"a value as in YAML ({yaml12.explained(error)})") from None
