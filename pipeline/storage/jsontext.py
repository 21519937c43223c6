"""The one way in which JSON is written: what any strict parser reads."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any


def to_json(
    value: Any,
    *,
    indent: int | None = None,
    readable: bool = False,
    compact: bool = False,
    default: Callable[[Any], Any] | None = None,
) -> str:
    """A value as JSON text. JSON has no word for NaN and infinities: they become null.

    Args:
        value: of mappings with text as keys, lists, tuples, text, numbers, booleans and None.
        indent: spaces a level; None for one line.
        readable: leaves letters beyond ASCII as they are.
        compact: sorts the keys and leaves out spaces: equal values give equal text.
        default: makes of any other value one of these.

    Raises:
        TypeError: another value, and no `default`.
    """
    if default is None:
        with suppress(ValueError, TypeError):  # of a number that is not finite, or a mapping that is no dict
            return _dumped(value, indent, readable, compact, None)
    return _dumped(finite(value), indent, readable, compact, default)


def _dumped(
    value: Any, indent: int | None, readable: bool, compact: bool, default: Callable[[Any], Any] | None
) -> str:
    """The text of a value, as it is.

    Raises:
        ValueError: it has a number that is not finite.
    """
    return json.dumps(
        value,
        indent=indent,
        ensure_ascii=not readable,
        sort_keys=compact,
        separators=(",", ":") if compact else None,
        default=default,
        allow_nan=False,
    )


def finite(value: Any) -> Any:
    """The same value with None for each number that is not finite."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: finite(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(inner) for inner in value]
    return value


def as_read(value: Any) -> Any:
    """A value as it comes back from its JSON text: lists for tuples, text for enumerated names."""
    return json.loads(to_json(value))
