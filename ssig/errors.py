"""Errors that a person can act on: each names the field, what was found and what is allowed."""

from __future__ import annotations

import difflib
import re
import reprlib
from collections.abc import Iterable

# Messages show the value that was found; of a long value, only the beginning.
_SHOWN = reprlib.Repr()
_SHOWN.maxstring = _SHOWN.maxother = 1000
_SHOWN.maxlong = 50
_SHOWN.maxlist = _SHOWN.maxtuple = _SHOWN.maxdict = _SHOWN.maxset = 20
_SHOWN.maxlevel = 3


# A message shows at most so many characters of another library's error.
_LONGEST_REASON = 500
_FRAME = re.compile(r'\s*File "[^"]*", line \d+')
_MODULES = re.compile(r"^(?:\w+\.)+(?=\w+(?:: |$))")  # of an error's type in a traceback
_ESCAPES = re.compile(r"\x1b\[[0-9;]*m")


def one_line(error: BaseException) -> str:
    """The type and message of another library's error, on one line: ``Type: message``; see `message_line`."""
    text, name = message_line(str(error)), type(error).__name__
    if not text:
        return name
    return text if _last_frame(str(error)) is not None else f"{name}: {text}"


def message_line(text: str) -> str:
    """A message of another library, on one line.

    Some libraries (Ray, `torch.compile`) write the traceback of another process into their message. Only the error at
    the end of that traceback is shown, since the lines before it do not depend on the reason.
    """
    lines = _ESCAPES.sub("", text).splitlines()
    frame = _last_frame(text)
    if frame is not None:
        # After the last frame come its code, indented, and then the error.
        lines = lines[frame + 1 :]
        start = next((number for number, line in enumerate(lines) if line and not line[0].isspace()), 0)
        lines = lines[start:]
    line = " ".join(" ".join(lines).split())
    if frame is not None:
        line = _MODULES.sub("", line)
    return line if len(line) <= _LONGEST_REASON else f"{line[: _LONGEST_REASON - 3]}..."


def _last_frame(text: str) -> int | None:
    """The index of the line that holds the last frame of a traceback in a text; None if the text has no traceback."""
    frames = [number for number, line in enumerate(_ESCAPES.sub("", text).splitlines()) if _FRAME.match(line)]
    return frames[-1] if frames else None


# Exit codes of the commands.
DONE, UNFINISHED, USAGE, FAILED_SAMPLES, INTERRUPTED = 0, 1, 2, 3, 130
EXIT_CODES = {
    DONE: "Done: every image has its result.",
    UNFINISHED: "Incomplete. Run the same command to resume. `ssig audit`: a result is missing, doubled or damaged.",
    USAGE: "Wrong use: nothing was computed. The message says what to type.",
    FAILED_SAMPLES: "Finished, but some samples failed or a shard is damaged. Rows and records say which and why.",
    INTERRUPTED: "Interrupted. Run the same command to resume.",
}


class SsigError(Exception):
    """Base of every error that this project raises on purpose."""


class UsageError(SsigError, ValueError):
    """A wrong option, name or argument: the caller can correct it; nothing has been computed yet.

    Args:
        field: the option, argument or configuration field, as the user wrote it.
        found: the value that was given; `NOTHING` if a value is missing.
        allowed: the values that are allowed: a sentence, or the names to choose from.
        known: valid names, of which the nearest is suggested; by default the names in `allowed`.
        unknown: the last part of `field`, if no field or option has that name; `found` is then its value.
        owner: the method or other object that has no field or option `unknown`; may be empty.
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
        similar = nearest(found if unknown is None else unknown, names if known is None else known)
        self.nearest = similar[0] if similar else None
        shown = _shown(found)
        problem = f"found {shown}"
        if unknown is not None:
            missing = f"{owner} has no" if owner else "there is no"
            problem = f"{missing} {kind} {unknown!r} (value: {shown})"
        suggestion = f"did you mean {self.nearest}? " if similar else ""
        if found is NOTHING and unknown is None:
            super().__init__(f"{field} is missing; needed: {self.allowed}")
        else:
            super().__init__(f"{field}: {problem}; {suggestion}allowed: {self.allowed}")

    def __reduce__(self) -> tuple[type[UsageError], tuple[str, object, str], dict[str, object]]:
        # Exceptions are pickled between processes; by default, unpickling calls __init__ with the message.
        return type(self), (self.field, self.found, self.allowed), {"nearest": self.nearest, "args": self.args}


class _Nothing:
    def __repr__(self) -> str:
        return "nothing"

    def __reduce__(self) -> str:
        return "NOTHING"


NOTHING = _Nothing()
# Longer words are not misspelled names, and comparing them takes long.
_LONGEST_NAME = 100


def nearest(name: object, names: Iterable[str], most: int = 1) -> list[str]:
    """The names most similar to a wrong one, the nearest first; empty if none is similar."""
    if not isinstance(name, str) or len(name) > _LONGEST_NAME:
        return []
    plain: dict[str, str] = {}
    for candidate in names:
        plain.setdefault(plain_name(candidate), candidate)
    return [plain[hit] for hit in difflib.get_close_matches(plain_name(name), plain, n=most)]


def plain_name(name: str) -> str:
    """A name without what people confuse: capitals, and - with _."""
    return name.lower().replace("_", "-")


def unknown_entry(kind: str, name: str, names: Iterable[str]) -> UsageError:
    """The error for a method or metric that does not exist; it lists all names only if none is similar."""
    valid_names = list(names)
    allowed = f"the names that `ssig {kind}s` lists" if nearest(name, valid_names) else valid_names
    return UsageError(kind, name, allowed, known=valid_names)


def _shown(found: object) -> str:
    try:
        return _SHOWN.repr(found)
    except ValueError:  # Python writes no integer of thousands of digits
        return f"a {type(found).__name__} too long to be shown"


class ModelError(SsigError):
    """A network that cannot be found, loaded or evaluated."""
