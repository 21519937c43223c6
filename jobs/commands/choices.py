"""Values of the command line: methods and metrics with their options, and fields of a job, as in YAML."""

from __future__ import annotations

import re
from typing import Any

from ssig.errors import UsageError


def choice(option: str, text: str) -> dict[str, Any]:
    """A method or metric from the command line: ``[SOURCE:]NAME[:option=value,…]``, values as in YAML."""
    from ssig.registry.sources import FILE

    colon = re.search(r":(?=\s*[\w-]+=)", text)  # options follow the first colon before OPTION=
    name, options = (text, "") if colon is None else (text[: colon.start()], text[colon.end() :])
    starts = list(re.finditer(r"(?:^|,)\s*([\w-]+)=", options))
    ends = [*(start.start() for start in starts[1:]), len(options)]
    values: dict[str, Any] = {}
    for start, end in zip(starts, ends, strict=False):
        field, value = start[1], options[start.end() : end]
        # The user forgot the value, or gave the option twice.
        if field in ("name", *values) or not value.strip():
            raise UsageError(option, text, "NAME, or NAME:option=value,option=value, each option once")
        values[field] = typed(option, field, value, text)
    if not name or (":" in name and not FILE.fullmatch(name)):
        raise UsageError(option, text, "NAME, NAME:option=value,option=value, or ./FILE.py:NAME for code of your own")
    return {"name": name, **values}


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
