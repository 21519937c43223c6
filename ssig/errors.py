"""Errors that a person can act on: each names the field, what was found and what is allowed."""

from __future__ import annotations

import reprlib
from collections.abc import Iterable

# What was found is shown, but of what is endless only the beginning.
_SHOWN = reprlib.Repr()
_SHOWN.maxstring = _SHOWN.maxother = 1000
_SHOWN.maxlong = 50
_SHOWN.maxlist = _SHOWN.maxtuple = _SHOWN.maxdict = _SHOWN.maxset = 20
_SHOWN.maxlevel = 3


class SsigError(Exception):
    """Base of every error that this project raises on purpose."""


class UsageError(SsigError, ValueError):
    """A wrong option, name or argument: the caller can mend it; nothing has been computed yet.

    Args:
        field: the option, argument or configuration field, as the user wrote it.
        found: what was given.
        allowed: what may be given instead: a sentence, or the names to choose from.
    """

    def __init__(self, field: str, found: object, allowed: str | Iterable[str]) -> None:
        self.field = field
        self.found = found
        self.allowed = allowed if isinstance(allowed, str) else "one of " + ", ".join(allowed)
        super().__init__(f"{field}: found {_shown(found)}; allowed: {self.allowed}")

    def __reduce__(self) -> tuple[type[UsageError], tuple[str, object, str]]:
        # Exceptions cross process borders by pickle, which would otherwise call __init__ with the message.
        return type(self), (self.field, self.found, self.allowed)


def _shown(found: object) -> str:
    try:
        return _SHOWN.repr(found)
    except ValueError:  # Python writes no integer of thousands of digits
        return f"a {type(found).__name__} too long to be shown"


class ModelError(SsigError):
    """A network that cannot be found, loaded or evaluated."""
