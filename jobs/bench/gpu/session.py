"""Runs the sections: each measurement in a guard of its own, within its time, and saved as soon as it ends."""

from __future__ import annotations

import gc
import json
import math
import os
import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

import torch

from ssig.errors import UsageError, one_line

Made = TypeVar("Made")
Case = tuple[str, Callable[[], Any]]

RECORD = "gpu.json"
# docs/reliability.md: two runs have the same maps to this share of their norm.
RULE = 1e-4
LEFT_OUT, ERROR = "left out", "error"


@dataclass(frozen=True)
class Section:
    """A module `jobs.bench.gpu.NAME` with a function `cases(session)`.

    Attributes:
        name: of the module.
        needs: seconds without which it is not started.
        most: seconds after which none of its measurements is started.
    """

    name: str
    needs: float
    most: float


# In order of importance, since the time may run out.
SECTIONS = (
    Section("environment", 0, 15),
    Section("agreement", 10, 60),
    Section("rates", 20, 130),
    Section("busy", 10, 25),
    Section("equality", 10, 25),
    Section("surprises", 10, 20),
    Section("metrics", 10, 20),
    Section("draws", 5, 12),
    Section("waits", 5, 10),
    Section("threads", 5, 10),
    Section("slow", 5, 15),
    Section("graphs", 5, 10),
    Section("layout", 5, 10),
    Section("decode", 3, 6),
)


@dataclass
class Session:
    """One call of `ssig bench gpu`.

    Attributes:
        device: what is measured.
        tiny: whether all sizes are toys, to see that everything runs.
        seconds: that the whole call may take.
        out: folder of the record; None to save nothing.
        say: prints a line.
        record: all results so far.
        started: when the call began, by `time.monotonic`.
    """

    device: torch.device
    tiny: bool = False
    seconds: float = 340.0
    out: Path | None = None
    say: Callable[[str], None] = print
    record: dict[str, Any] = field(default_factory=lambda: {"sections": {}, "seconds": {}})
    started: float = field(default_factory=time.monotonic)
    _stop: float = float("inf")
    _made: dict[Hashable, Any] = field(default_factory=dict)

    @property
    def on_gpu(self) -> bool:
        return self.device.type == "cuda"

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self.started

    def left(self) -> float:
        """Seconds left of the section and of the call."""
        return min(self._stop, self.seconds) - self.elapsed

    def pick(self, real: Made, tiny: Made) -> Made:
        """A size: the real one, or a toy."""
        return tiny if self.tiny else real

    def sync(self) -> None:
        """Waits until the device has done all its work."""
        if self.on_gpu:
            torch.cuda.synchronize(self.device)

    def cached(self, key: Hashable, make: Callable[[], Made]) -> Made:
        """`make()`, once for all sections."""
        if key not in self._made:
            self._made[key] = make()
        made: Made = self._made[key]
        return made

    def forget(self, which: Callable[[Hashable], bool]) -> None:
        """Lets the cached results go whose keys fit."""
        self._made = {key: made for key, made in self._made.items() if not which(key)}
        _forget_memory(self.device)

    def run(self, sections: Sequence[Section]) -> None:
        """Runs sections in order; stops if the device no longer answers."""
        for section in sections:
            if self.seconds - self.elapsed < section.needs:
                self.record["sections"][section.name] = {LEFT_OUT: f"{self.seconds - self.elapsed:.0f} s are left"}
                continue
            started = self.elapsed
            self._stop = started + section.most if not self.tiny else float("inf")
            works = self._run(section.name)
            self.record["seconds"][section.name] = round(self.elapsed - started, 1)
            self.save()
            self.say(f"[{self.elapsed:5.1f} s] {section.name}: {summary(self.record['sections'][section.name])}")
            if not works:
                self.say(f"the device failed in {section.name}: the other sections are left out")
                return

    def save(self) -> None:
        """Writes the record; the file is whole at every moment."""
        if self.out is None:
            return
        self.out.mkdir(parents=True, exist_ok=True)
        staged = self.out / f".{RECORD}"
        staged.write_text(json.dumps(plain(self.record), indent=1, allow_nan=False), encoding="utf-8")
        os.replace(staged, self.out / RECORD)

    def _run(self, name: str) -> bool:
        """Runs the measurements of a section; False if the device no longer answers."""
        rows: dict[str, Any] = {}
        self.record["sections"][name] = rows
        try:
            for case, measure in _cases(name, self):
                if self.left() <= 0:
                    # What follows would still be prepared, so the section ends here.
                    rows[case] = {LEFT_OUT: "no time is left, nor for what follows in this section"}
                    break
                rows[case] = self._measured(measure)
                self.save()
        except Exception as error:  # while the section prepares its measurements
            rows["section"] = failure(error)
        _forget_memory(self.device)
        return not self.on_gpu or _answers(self.device)

    def _measured(self, measure: Callable[[], Any]) -> Any:
        try:
            return measure()
        except Exception as error:
            _forget_memory(self.device)
            return failure(error)


def plain(value: Any) -> Any:
    """A value as JSON has it: numbers that are not finite become None, other kinds text.

    `pipeline.storage.jsontext` writes all other JSON; here the pipeline is not at hand.
    """
    if isinstance(value, dict):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, bool | int | str) else str(value)


def chosen(names: str | None) -> list[Section]:
    """The sections of a list with commas, in order of importance; all of them if none is named.

    Raises:
        UsageError: there is no such section.
    """
    known = [section.name for section in SECTIONS]
    wanted = [name.strip() for name in (names or "").split(",") if name.strip()]
    for name in wanted:
        if name not in known:
            raise UsageError("--only", name, known)
    return [section for section in SECTIONS if not wanted or section.name in wanted]


def failure(error: Exception) -> dict[str, str]:
    """What is recorded in place of a result."""
    if isinstance(error, ModuleNotFoundError):
        return {LEFT_OUT: f"{error.name} is not installed"}
    return {ERROR: one_line(error)}


def failed(value: object) -> bool:
    """Whether a result was left out, or is an error."""
    return isinstance(value, dict) and (LEFT_OUT in value or ERROR in value)


def summary(rows: dict[str, Any]) -> str:
    """How a section went, in a few words."""
    if LEFT_OUT in rows:
        return f"left out: {rows[LEFT_OUT]}"
    errors = [name for name, value in rows.items() if isinstance(value, dict) and ERROR in value]
    missing = [name for name, value in rows.items() if isinstance(value, dict) and LEFT_OUT in value]
    parts = [f"{len(rows) - len(errors) - len(missing)} results"]
    parts += [f"{len(missing)} left out"] if missing else []
    parts += [f"errors: {', '.join(errors)}"] if errors else []
    return ", ".join(parts)


def _cases(name: str, session: Session) -> Iterator[Case]:
    cases: Iterator[Case] = import_module(f"jobs.bench.gpu.{name}").cases(session)
    return cases


def _answers(device: torch.device) -> bool:
    """Whether the device still computes; after an illegal access it does nothing any more in this process."""
    try:
        return int(torch.ones(2, device=device).sum()) == 2
    except RuntimeError:
        return False


def _forget_memory(device: torch.device) -> None:
    gc.collect()
    if device.type == "cuda":
        try:
            torch.cuda.empty_cache()
        except RuntimeError:  # the device no longer answers
            return
