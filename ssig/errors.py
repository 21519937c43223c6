"""Errors that a person can act on: each names the field, what was found and what is allowed."""

from __future__ import annotations

import re
import reprlib
from collections.abc import Iterable

# What was found is shown, but of what is endless only the beginning.
_SHOWN = reprlib.Repr()
_SHOWN.maxstring = _SHOWN.maxother = 1000
_SHOWN.maxlong = 50
_SHOWN.maxlist = _SHOWN.maxtuple = _SHOWN.maxdict = _SHOWN.maxset = 20
_SHOWN.maxlevel = 3


# Characters of another library's error that are told.
_LONGEST_REASON = 500
_FRAME = re.compile(r'\s*File "[^"]*", line \d+')
_ESCAPES = re.compile(r"\x1b\[[0-9;]*m")


def told(error: BaseException) -> str:
    """What an error of another library says, on one line: ``Type: message``.

    Some libraries (Ray, `torch.compile`) write the traceback of another process into the message. Of that the error it
    ends with is told, since what stands before is the same whatever the reason.
    """
    text = _ESCAPES.sub("", str(error)).strip()
    lines = text.splitlines()
    frames = [number for number, line in enumerate(lines) if _FRAME.match(line)]
    if frames:
        # Behind the last frame: its code, indented, and then the error.
        behind = [line for line in lines[frames[-1] + 1 :]]
        start = next((number for number, line in enumerate(behind) if line and not line[0].isspace()), None)
        if start is not None:
            return _cut(" ".join(" ".join(behind[start:]).split()))
    named = type(error).__name__
    return _cut(f"{named}: {' '.join(text.split())}" if text else named)


def _cut(line: str) -> str:
    return line if len(line) <= _LONGEST_REASON else f"{line[: _LONGEST_REASON - 3]}..."


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
