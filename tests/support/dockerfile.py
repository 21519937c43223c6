"""A Dockerfile as its instructions, and what its `.dockerignore` lets a build copy."""

from __future__ import annotations

import re
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple


class Instruction(NamedTuple):
    """An instruction: its word, such as RUN, and the rest of it on one line."""

    word: str
    rest: str


def instructions(path: Path) -> list[Instruction]:
    """The instructions of a Dockerfile, in order, without comments."""
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [Instruction(*line.split(maxsplit=1)) for line in joined.splitlines() if line.strip()]


def arguments(steps: list[Instruction]) -> dict[str, str]:
    """The build arguments and their defaults."""
    pairs = (step.rest.partition("=") for step in steps if step.word == "ARG")
    return {name: value.strip('"') for name, _, value in pairs}


def copied(steps: list[Instruction]) -> list[tuple[list[str], str]]:
    """What each COPY copies, and where to."""
    return [(words[:-1], words[-1]) for step in steps if step.word == "COPY" for words in [step.rest.split()]]


def is_sent(path: str, ignored: Path) -> bool:
    """Whether a path of the repository is sent to the builder, by a `.dockerignore` whose last match counts."""
    sent = True
    for line in ignored.read_text(encoding="utf-8").splitlines():
        pattern = line.lstrip("!").removeprefix("**/")
        found = fnmatch(path, pattern) or path.startswith(f"{pattern}/") or path.endswith(f"/{pattern}")
        if line and not line.startswith("#") and found:
            sent = line.startswith("!")
    return sent
