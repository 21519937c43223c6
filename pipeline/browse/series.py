"""The runs that are browsed, and their series: the rows of one method of one model of one run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from pipeline.report.columns import Column, metric_columns
from pipeline.report.reference import ordered_methods
from pipeline.run.layout import ATTRIBUTIONS
from pipeline.run.reader import Run, open_run
from pipeline.run.stored_commits import StoredCommits
from ssig.errors import UsageError


@dataclass(frozen=True)
class Series:
    """One method of one model of one run.

    Attributes:
        number: its position among all series, from 0.
        run_number: the position of its run, from 0.
        name: how pages and addresses call it: as much of run, model and method as tells it from the others.
        columns: the scalar columns of its metrics.
        commits: in order of unit.
    """

    number: int
    run_number: int
    run: Run
    model: str
    method: str
    name: str
    columns: tuple[Column, ...]
    commits: StoredCommits

    @property
    def table(self) -> str:
        """Its table in the index."""
        return f"series_{self.number}"

    @cached_property
    def has_maps(self) -> bool:
        """Whether maps of some unit are stored."""
        stored = self.run.config[self.model, self.method].get("maps") != "none"
        return stored and any(commit.file(ATTRIBUTIONS) for commit in self.commits)

    @property
    def categories(self) -> Sequence[str]:
        """The network's names of its classes, in order; empty where the run records none."""
        categories: Sequence[str] = self.run.config[self.model, self.method].get("categories") or ()
        return categories

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of its maps in pixels."""
        height, width = self.run.config[self.model, self.method].get("model", {}).get("input_size", (224, 224))
        return int(width), int(height)

    def class_name(self, number: int | None) -> str:
        """What a class is called."""
        if number is None:
            return "unknown"
        return str(self.categories[number]) if 0 <= number < len(self.categories) else f"class {number}"


class Collection:
    """The runs of one page: opened once, in the user's order.

    Attributes:
        runs, names: each run, and what pages call it.
        series: of all runs, in order of run, model and the user's order of methods.

    Raises:
        UsageError: a folder is no run, is damaged, or no method was recorded in any of them.
    """

    def __init__(self, paths: Sequence[str]) -> None:
        self.runs = [open_run(path) for path in dict.fromkeys(paths)]
        self.names = distinct([run.root.rstrip("/").rpartition("/")[2] for run in self.runs])
        keys = [
            (number, model, method)
            for number, run in enumerate(self.runs)
            for model in dict.fromkeys(model for model, _ in run.config)
            for method in ordered_methods(run, model)
        ]
        if not keys:
            raise UsageError("run", ", ".join(paths), "a run in which a method was recorded")
        names = series_names([(self.names[run], model, method) for run, model, method in keys])
        self.series = [self._series(number, names[number], *key) for number, key in enumerate(keys)]
        self.by_name = {one.name: one for one in self.series}

    def _series(self, number: int, name: str, run_number: int, model: str, method: str) -> Series:
        run = self.runs[run_number]
        columns, commits = metric_columns(run, model), run.committed(model, method)
        return Series(number, run_number, run, model, method, name, columns, commits)


def distinct(names: Sequence[str]) -> list[str]:
    """The names, with a number behind each that repeats an earlier one."""
    result: list[str] = []
    for name in names:
        shown, number = name, 2
        while shown in result:
            shown, number = f"{name} ({number})", number + 1
        result.append(shown)
    return result


def series_names(keys: Sequence[tuple[str, str, str]]) -> list[str]:
    """What tells each (run, model, method) from the others: the method alone where that is enough."""
    runs, models = {run for run, _, _ in keys}, {model for _, model, _ in keys}
    return distinct(
        [
            " / ".join([*([run] if len(runs) > 1 else []), *([model] if len(models) > 1 else []), method])
            for run, model, method in keys
        ]
    )
