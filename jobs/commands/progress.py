"""Progress of a run for a person: a bar where there is a terminal, a line now and then where there is none."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, Task, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar
from rich.text import Text

from pipeline.driver.progress import Progress

LINE_SECONDS = 30.0


class Display:
    """A `pipeline.driver.progress.Listener`; messages and progress go to standard error."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False)
        self._bar = _bar(self._console) if self._console.is_terminal else None
        self._task = None if self._bar is None else self._bar.add_task("", total=None, state="")
        self._phase = ""
        self._last_line = time.monotonic()

    def __enter__(self) -> Display:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, progress: Progress, message: str | None) -> None:
        if message is not None:
            self._console.print(message, markup=False, soft_wrap=True)
        if self._bar is not None and self._task is not None:
            total = progress.rows_total or None
            self._bar.update(
                self._task,
                description=progress.phase,
                completed=int(progress.rows_computed),
                total=total,
                state=state(progress),
            )
            return
        now = time.monotonic()
        due = progress.rows_total > 0 and now - self._last_line > LINE_SECONDS
        if progress.phase != self._phase or due:
            self._phase, self._last_line = progress.phase, now
            counts = f": {int(progress.rows_computed)}/{progress.rows_total} maps, {state(progress)}" if due else ""
            print(f"{progress.phase}{counts}", file=sys.stderr, flush=True)


def state(progress: Progress) -> str:
    """Rate, time left, failures and actors, in a few words."""
    parts = []
    if progress.rate:
        parts.append(f"{progress.rate:.1f} maps/s")
    if progress.seconds_left is not None and progress.rows_computed < progress.rows_total:
        parts.append(f"{clock(progress.seconds_left)} left")
    if progress.failed:
        parts.append(f"{progress.failed} failed")
    starting = sum(doing == "starting" for doing in progress.actors.values())
    if progress.actors:
        ready = len(progress.actors) - starting
        parts.append(f"{ready} actor{'' if ready == 1 else 's'}" + (f", {starting} starting" if starting else ""))
    return ", ".join(parts)


def clock(seconds: float) -> str:
    """Seconds as hours, minutes and seconds."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


class _State(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(str(task.fields["state"]))


def _bar(console: Console) -> Bar:
    return Bar(
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        _State(),
        console=console,
        transient=True,
    )
