"""Every command of the page about comparisons does what the page says, in 80 columns."""

from __future__ import annotations

import json
import re
import shlex
import sys
from pathlib import Path
from urllib.parse import parse_qsl

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "support"))

from command_line import Cli, command_line  # noqa: E402
from documents import shell_commands  # noqa: E402
from report_runs import METHODS, Method, write_run  # noqa: E402

from pipeline.browse.series import Collection  # noqa: E402
from pipeline.browse.view import parse_view  # noqa: E402

COMMANDS = [command.removeprefix("ssig ") for command in shell_commands(ROOT / "docs" / "how-to" / "compare.md")]


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    return command_line(monkeypatch, capsys)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the runs that the page names; insertion of ig/50 is better in the second."""
    (tmp_path / "runs").mkdir()
    better = [METHODS[0], Method("ig/50", "ig", 0.3, signed=True, random=False)]
    for name, methods in (("before", METHODS), ("after", better)):
        (tmp_path / name).mkdir()
        write_run(tmp_path / name, methods=methods).path.rename(tmp_path / "runs" / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_command_of_the_page_runs_in_80_columns(cli: Cli, folder: Path) -> None:
    assert len(COMMANDS) == 2
    for line in COMMANDS:
        done = cli(*shlex.split(line))
        assert done.code == 0, done.err
        printed = [
            text for text in done.out.splitlines() if not text.startswith(("A: ", "B: ", "wrote: ", "then open: "))
        ]
        assert max(map(len, printed)) <= 80
        assert "B is better in 3 and worse in 0 of" in done.out
        assert "next: ssig browse runs/before runs/after" in printed
        wrote = [Path(text.removeprefix("wrote: ")) for text in done.out.splitlines() if text.startswith("wrote: ")]
        assert len(wrote) == (4 if "--out" in line else 0)
        assert all(path.exists() for path in wrote)
    assert cli(*shlex.split(COMMANDS[1])).code == 0  # the same again
    refused = cli(*shlex.split(COMMANDS[1].replace("--seed 1", "--seed 2")))
    assert (refused.code, "--overwrite" in refused.err) == (2, True)


def test_the_address_is_a_view_that_browse_understands(cli: Cli, folder: Path) -> None:
    done = cli("compare", "runs/before", "runs/after", "--maps", "0")
    (address,) = [text for text in done.out.splitlines() if text.startswith("then open: ")]
    view = parse_view(parse_qsl(address.partition("?")[2]), Collection(["runs/before", "runs/after"]))
    assert view.problems == ()
    assert (view.method, view.versus, view.sort) == ("after / ig/50", "before / ig/50", "insertion")


def test_json_is_the_record_that_is_written(cli: Cli, folder: Path) -> None:
    done = cli("compare", "runs/before", "runs/after", "--maps", "2", "--out", "out", "--json")
    assert json.loads(done.out) == json.loads((folder / "out" / "comparison.json").read_text())


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("runs/before runs/none", "run: found .*a run directory"),
        ("runs/before", "RUN_B is missing"),
        ("runs/before runs/before", "RUN_B: found .*another run than RUN_A"),
        ("runs/before runs/after --out runs", "--out: found .*a new folder, or an empty one"),
    ],
)
def test_wrong_use_is_one_line(cli: Cli, folder: Path, line: str, message: str) -> None:
    done = cli("compare", *shlex.split(line))
    assert done.code == 2
    assert re.search(message, done.err.splitlines()[-1]), done.err
