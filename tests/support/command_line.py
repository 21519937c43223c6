"""The command line as tests call it: in this process, with its exit code and what it printed."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import NamedTuple

import pytest

from jobs.cli import main


class Result(NamedTuple):
    code: int
    out: str
    err: str


Cli = Callable[..., Result]


def command_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *command: str) -> Cli:
    """`run(*arguments)` calls `ssig COMMAND ARGUMENTS`."""

    def run(*arguments: object) -> Result:
        monkeypatch.setattr(sys, "argv", ["ssig", *command, *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            main()
        captured = capsys.readouterr()
        assert isinstance(stop.value.code, int)
        return Result(stop.value.code, captured.out, captured.err)

    return run
