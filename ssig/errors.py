"""Errors that a person can act on: each names the field, what was found and what is allowed."""

from __future__ import annotations

import difflib
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
_MODULES = re.compile(r"^(?:\w+\.)+(?=\w+(?:: |$))")  # of an error's type in a traceback
_ESCAPES = re.compile(r"\x1b\[[0-9;]*m")


def told(error: BaseException) -> str:
    """What an error of another library says, on one line: ``Type: message``; see `said`."""
    text, name = said(str(error)), type(error).__name__
    if not text:
        return name
    return text if _last_frame(str(error)) is not None else f"{name}: {text}"


def said(text: str) -> str:
    """What a message of another library says, on one line.

    Some libraries (Ray, `torch.compile`) write the traceback of another process into it. Of that the error it ends
    with is told, since what stands before is the same whatever the reason.
    """
    lines = _ESCAPES.sub("", text).splitlines()
    frame = _last_frame(text)
    if frame is not None:
        # Behind the last frame stands its code, indented, and then the error.
        lines = lines[frame + 1 :]
        start = next((number for number, line in enumerate(lines) if line and not line[0].isspace()), 0)
        lines = lines[start:]
    line = " ".join(" ".join(lines).split())
    if frame is not None:
        line = _MODULES.sub("", line)
    return line if len(line) <= _LONGEST_REASON else f"{line[: _LONGEST_REASON - 3]}..."


def _last_frame(text: str) -> int | None:
    """The number of the line with the last frame of a traceback in a text; None if there is none."""
    frames = [number for number, line in enumerate(_ESCAPES.sub("", text).splitlines()) if _FRAME.match(line)]
    return frames[-1] if frames else None


# Exit codes of the commands: everything done; the run could not finish; wrong use, nothing was begun; finished, some
# samples failed or are in quarantine; interrupted, to be resumed.
DONE, UNFINISHED, USAGE, FAILED_SAMPLES, INTERRUPTED = 0, 1, 2, 3, 130


class SsigError(Exception):
    """Base of every error that this project raises on purpose."""


class UsageError(SsigError, ValueError):
    """A wrong option, name or argument: the caller can mend it; nothing has been computed yet.

    Args:
        field: the option, argument or configuration field, as the user wrote it.
        found: what was given; `NOTHING` where something is missing.
        allowed: what may be given instead: a sentence, or the names to choose from.
        known: names of which the nearest is suggested; by default those of `allowed`.
        unknown: the last part of `field`, if no field or option has that name; `found` is then its value.
        owner: what has no field or option `unknown`, such as a method; empty where nothing is to be named.
        kind: what `unknown` would be: a field or an option.
    """

    def __init__(
        self,
        field: str,
        found: object,
        allowed: str | Iterable[str],
        *,
        known: Iterable[str] | None = None,
        unknown: str | None = None,
        owner: str = "",
        kind: str = "field",
    ) -> None:
        names = [] if isinstance(allowed, str) else list(allowed)
        self.field = field
        self.found = found
        self.allowed = (
            allowed if isinstance(allowed, str) else ("one of " if len(names) > 1 else "") + ", ".join(names)
        )
        near = nearest(found if unknown is None else unknown, names if known is None else known)
        self.nearest = near[0] if near else None
        shown = _shown(found)
        problem = f"found {shown}"
        if unknown is not None:
            missing = f"{owner} has no" if owner else "there is no"
            problem = f"{missing} {kind} {unknown!r} (value: {shown})"
        suggestion = f"did you mean {self.nearest}? " if near else ""
        super().__init__(f"{field}: {problem}; {suggestion}allowed: {self.allowed}")

    def __reduce__(self) -> tuple[type[UsageError], tuple[str, object, str], dict[str, object]]:
        # Exceptions cross process borders by pickle, which would otherwise call __init__ with the message.
        return type(self), (self.field, self.found, self.allowed), {"nearest": self.nearest, "args": self.args}


class _Nothing:
    def __repr__(self) -> str:
        return "nothing"

    def __reduce__(self) -> str:
        return "NOTHING"


NOTHING = _Nothing()
# Longer words are no slips of names, and comparing them takes long.
_LONGEST_NAME = 100


def nearest(name: object, known: Iterable[str], most: int = 1) -> list[str]:
    """The known names that a wrong one is most like, the nearest first; none where all are far."""
    if not isinstance(name, str) or len(name) > _LONGEST_NAME:
        return []
    lowered: dict[str, str] = {}
    for candidate in known:
        lowered.setdefault(candidate.lower(), candidate)
    return [lowered[hit] for hit in difflib.get_close_matches(name.lower(), lowered, n=most)]


def unknown_entry(kind: str, name: str, known: Iterable[str]) -> UsageError:
    """The error for a method or metric that does not exist; all names are listed only where none is near."""
    names = list(known)
    allowed = f"the names that `ssig {kind}s` lists" if nearest(name, names) else names
    return UsageError(kind, name, allowed, known=names)


def _shown(found: object) -> str:
    try:
        return _SHOWN.repr(found)
    except ValueError:  # Python writes no integer of thousands of digits
        return f"a {type(found).__name__} too long to be shown"


class ModelError(SsigError):
    """A network that cannot be found, loaded or evaluated."""
