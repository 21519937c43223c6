"""Progress of a run for a person: a bar where there is a terminal, a line now and then where there is none."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import Progress as Bar
from rich.progress import ProgressColumn, Task
from rich.text import Text

from pipeline.driver.progress import Progress, shards_listed

LINE_SECONDS = 30.0
BAR_WIDTH = 12


class Display:
    """A `pipeline.driver.progress.Listener`; messages and progress go to standard error.

    Args:
        quiet: whether nothing is shown.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet
        self._console = Console(stderr=True, highlight=False)
        self._bar = _bar(self._console) if self._console.is_terminal and not quiet else None
        self._task = None if self._bar is None else self._bar.add_task("starting", total=None, state="")
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
        if self._quiet:
            return
        if message is not None:
            self._console.print(message, markup=False, soft_wrap=True)
        if self._bar is not None and self._task is not None:
            self._bar.update(
                self._task,
                description=waiting(progress),
                completed=int(progress.rows_computed),
                total=progress.rows_total or None,
                state=state(progress),
            )
            return
        now = time.monotonic()
        due = (progress.rows_total > 0 or progress.listed) and now - self._last_line > LINE_SECONDS
        if progress.phase != self._phase or due:
            self._phase, self._last_line = progress.phase, now
            maps = f"{int(progress.rows_computed)}/{progress.rows_total} maps"
            parts = [maps] if progress.rows_total else []
            counts = ": " + ", ".join([*parts, *filter(None, [state(progress)])]) if due else ""
            print(f"{waiting(progress)}{counts}", file=sys.stderr, flush=True)


# What a phase waits for, where that takes long enough to be asked.
_WAITS_FOR = {
    "starting Ray": "starting Ray (up to 30 s)",
    "starting actors": "starting actors: each loads the network",
}


def waiting(progress: Progress) -> str:
    """The phase, and what it waits for."""
    return _WAITS_FOR.get(progress.phase, progress.phase)


def state(progress: Progress) -> str:
    """Failures, rate, time left and actors, in a few words."""
    parts = [f"{progress.failed} failed"] if progress.failed else []  # first, since a narrow terminal cuts the end
    if progress.listed is not None:
        parts.append(shards_listed(progress.listed))
    if progress.rate:
        parts.append(f"{progress.rate:.1f} maps/s")
    if progress.seconds_left is not None and progress.rows_computed < progress.rows_total:
        parts.append(f"{clock(progress.seconds_left)} left")
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


class _Line(ProgressColumn):
    """The whole line as one text that never wraps: what does not fit the terminal is cut at its end.

    A line that wraps leaves its upper half behind at every redraw.
    """

    max_refresh = None

    def render(self, task: Task) -> Text:
        return Text(line(task), no_wrap=True, overflow="ellipsis")


def line(task: Task) -> str:
    """Phase, a bar, maps done, time taken and the state of a task."""
    parts = [task.description]
    if task.total:
        full = round(BAR_WIDTH * task.completed / task.total)
        parts.append(f"{'#' * full}{'-' * (BAR_WIDTH - full)} {int(task.completed)}/{int(task.total)} maps")
    parts.append(clock(task.elapsed or 0.0))
    return "  ".join([*parts, *([task.fields["state"]] if task.fields["state"] else [])])


def _bar(console: Console) -> Bar:
    return Bar(_Line(), console=console, transient=True)
