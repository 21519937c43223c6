"""Methods and metrics with their options in one text: ``NAME:option=value,…``, as on the command line."""

from __future__ import annotations

import json
import math
import re
from typing import Any

from ssig.errors import UsageError
from ssig.registry.sources import CAPTUM, FILE


def split(field: str, text: str) -> tuple[str, dict[str, str]]:
    """``[SOURCE:]NAME[:option=value,…]`` as the name and the text of each option.

    Raises:
        UsageError: `field`; an option without a value or given twice, or no name.
    """
    colon = re.search(r":(?=\s*[\w-]+=)", text)  # options follow the first colon before OPTION=
    name, options = (text, "") if colon is None else (text[: colon.start()], text[colon.end() :])
    starts = list(re.finditer(r"(?:^|,)\s*([\w-]+)=", options))
    ends = [*(start.start() for start in starts[1:]), len(options)]
    values: dict[str, str] = {}
    for start, end in zip(starts, ends, strict=False):
        option, value = start[1], options[start.end() : end]
        # The user forgot the value, or gave the option twice.
        if option in ("name", *values) or not value.strip():
            raise UsageError(field, text, "NAME, or NAME:option=value,option=value, each option once")
        values[option] = value
    if not name or (":" in name and not (FILE.fullmatch(name) or CAPTUM.fullmatch(name))):
        raise UsageError(field, text, "NAME, NAME:option=value,option=value, or ./FILE.py:NAME for code of your own")
    return name, values


def with_options(field: str, text: str) -> tuple[str, dict[str, Any]]:
    """The same with the value of each option: a number, true, false, null, a list of these, or text.

    Raises:
        UsageError: as `split`.
    """
    name, values = split(field, text)
    return name, {option: plain(value) for option, value in values.items()}


def plain(text: str) -> Any:
    """The value that a text means: a number, true, false, null, a list of these, or else the text itself."""
    text = text.strip()
    if text.startswith("[") and text.endswith("]"):
        return [plain(item) for item in text[1:-1].split(",") if item.strip()]
    if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"":
        return text[1:-1]
    try:
        value: Any = json.loads(text)
    except ValueError:
        return _number(text)
    return value if isinstance(value, (int, float, bool, type(None))) else text


def _number(text: str) -> float | str:
    """A number that JSON does not write so, such as .5, or the text."""
    try:
        value = float(text)
    except ValueError:
        return text
    return value if math.isfinite(value) else text
