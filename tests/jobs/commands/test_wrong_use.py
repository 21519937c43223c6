"""What typer refuses is told in our own words, for every option and argument of every command."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from jobs.cli import app

SUPPORT = Path(__file__).resolve().parents[2] / "support"
sys.path.insert(0, str(SUPPORT))

from command_line import Cli, command_line  # noqa: E402

LEAKED = re.compile(
    "Input should|No such|Invalid value|Missing |Got unexpected|requires an argument|not take a value|valid integer"
    "|Possible options|Try '|pydantic|index out of range"
)


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    return command_line(monkeypatch, capsys)


def commands(group: Any, above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command with the words that call it."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*above, name))
        else:
            yield (*above, name), command


COMMANDS = dict(commands(typer.main.get_command(app)))


@pytest.mark.parametrize("words", list(COMMANDS), ids=" ".join)
def test_nothing_that_typer_says_is_shown(cli: Cli, words: tuple[str, ...], tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    command = COMMANDS[words]
    options = [param for param in command.params if param.param_type_name == "option"]
    wrong = [["--nonsense"], ["-z"], ["one", "two", "three"]]
    wrong += [[param.opts[0]] if not param.is_flag else [f"{param.opts[0]}=3"] for param in options]
    numbers = [param for param in options if param.type_descriptor.annotation in (int, float)]
    wrong += [[param.opts[0], "x"] for param in numbers]
    wrong += [[param.opts[0], "0"] for param in numbers if param.type_descriptor.parameter_info.min]
    if any(param.required for param in command.params):
        wrong.append([])
    for arguments in wrong:
        told = cli(*words, *arguments)
        assert told.code == 2, arguments
        assert told.err.startswith("error: ")
        assert told.err.count("\n") == 1
        assert not LEAKED.search(told.err), told.err


@pytest.mark.parametrize("words", list(COMMANDS), ids=" ".join)
def test_a_slip_in_an_option_gets_the_option(cli: Cli, words: tuple[str, ...]) -> None:
    for param in COMMANDS[words].params:
        if param.param_type_name == "option":
            name = param.opts[0]
            assert f"did you mean {name}?" in cli(*words, name[:-1] + ("xx" if len(name) > 5 else name[-1] * 2)).err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["statsu"], "command: found 'statsu'; did you mean status? allowed: the commands that `ssig --help` lists"),
        (["bench", "engin"], "did you mean engine? allowed: the commands that `ssig bench --help` lists"),
        (["audit"], "RUN is missing; needed: run directory: a path, s3:// or gs://; type `ssig audit RUN`"),
        (
            ["audit", "run", "more"],
            "found 'more'; allowed: what the first lines of `ssig audit --help` show",
        ),
        (["attribute", "--limit", "abc"], "--limit: found 'abc'; allowed: a whole number"),
        (["bench", "engine", "--images", "0"], "--images: found '0'; allowed: a whole number, at least 1"),
        (["bench", "engine", "--shards", "none.tar"], "--shards: found '"),
        (["paper", "--shards", "none.tar", "--out", "x"], "--shards: found '"),
        (["audit", "run", "--repair=3"], "--repair: found 'a value'; allowed: no value: type `--repair` alone"),
        (["attribute", "--shards", "a", "--out", "b", "--limit", "-3"], "--limit: found -3; allowed: a whole number"),
        (
            ["attribute", "--shards", "a", "--out", "b", "--method", "ig:stepz=1"],
            "--method ig:stepz: ig has no option 'stepz' (value: 1); did you mean steps? allowed: one of ",
        ),
        (
            ["attribute", "--shards", "a", "--out", "b", "--metric", "deltion"],
            "--metric: found 'deltion'; did",
        ),
        (
            ["attribute", "--shards", "a", "--out", "b", "--set", "actrs.max=1"],
            "actrs: there is no field 'actrs'",
        ),
        (
            ["attribute", "--shards", "a", "--out", "b", "--set", "actors.mx=1"],
            "actors.mx: actors has no field 'mx' (value: 1)",
        ),
        (["evaluate", "run"], "--metric is missing; needed: a metric (type --metric NAME;"),
    ],
)
def test_messages(cli: Cli, arguments: list[str], message: str) -> None:
    told = cli(*arguments)
    assert told.code == 2
    assert message in told.err


def test_no_first_line_of_a_command_is_cut_in_the_list(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    for group in ((), ("bench",)):
        assert "..." not in cli(*group, "--help").out.partition("Commands:")[2]


@pytest.mark.parametrize("words", list(COMMANDS), ids=" ".join)
def test_every_option_is_explained_in_sentences(words: tuple[str, ...]) -> None:
    for param in COMMANDS[words].params:
        assert param.help, param.name
        assert param.help[0].isupper() or param.help.startswith("LOC_"), param.help
        assert not param.help.startswith("Of "), param.help
        assert param.help.endswith((".", "…", ")")), param.help
