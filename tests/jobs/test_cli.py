"""The command line: help, listings, one-line errors with the exit code that scripts rely on, a whole small job."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

import ssig
from jobs.commands.choices import assignment, choice
from ssig.errors import UsageError
from ssig.registry import METHODS, METRICS

SUPPORT = Path(__file__).resolve().parents[1] / "support"
sys.path.insert(0, str(SUPPORT))

from command_line import Cli, command_line  # noqa: E402
from tests_shards import members, write_tar  # noqa: E402


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    return command_line(monkeypatch, capsys)


COMMANDS = [
    *("demo", "attribute", "evaluate", "report", "status", "audit", "paper"),
    *("pack", "submit", "methods", "metrics"),
]


def test_help_lists_every_command_and_each_helps(cli: Cli) -> None:
    listing = cli("--help")
    assert listing.code == 0
    for command in COMMANDS:
        assert f"  {command}" in listing.out
        helped = cli(command, "--help")
        assert helped.code == 0
        assert "Usage" in helped.out


def test_the_version_is_told(cli: Cli) -> None:
    assert cli("--version") == (0, f"ssig {ssig.__version__}\n", "")


def test_the_old_name_of_paper_still_works_and_is_not_listed(cli: Cli) -> None:
    assert "argument" not in cli("--help").out
    old, new = cli("argument", "--help"), cli("paper", "--help")
    assert old.code == 0
    assert old.out.replace("ssig argument", "ssig paper") == new.out


@pytest.mark.parametrize("kind", ["methods", "metrics"])
def test_listings_are_tables_and_json(cli: Cli, kind: str) -> None:
    entries = json.loads(cli(kind, "--json").out)
    table = cli(kind).out
    registry = METHODS if kind == "methods" else METRICS
    assert [entry["name"] for entry in entries] == registry.names()
    for entry in entries:
        assert entry["name"] in table
        assert all({"name", "default", "allowed", "doc"} <= set(option) for option in entry["options"])
    assert "option" in cli(kind, entries[0]["name"]).out


@pytest.mark.parametrize("kind", ["methods", "metrics"])
def test_listings_cut_nothing_on_a_narrow_terminal(cli: Cli, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    lines = cli(kind).out.splitlines()
    column = lines[0].index(lines[0].split(None, 1)[1])
    words = {word for line in lines for word in line[column:].split()}
    for entry in json.loads(cli(kind, "--json").out):
        sentence = entry["definition"] if kind == "metrics" else entry["equation"]
        assert set(sentence.split()) <= words


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["attribute"], "--shards"),
        (["attribute", "--shards", "missing.tar"], "--out"),
        (["attribute", "--shards", "missing.tar", "--out", "x"], "missing.tar"),
        (["attribute", "--shards", "missing.tar", "--out", "x", "--method", "ssigg"], "did you mean ssig?"),
        (["attribute", "--shards", "missing.tar", "--out", "x", "--method", "ig:stepz=3"], "--method ig:stepz"),
        (["attribute", "--shards", "missing.tar", "--out", "x", "--method", "ig:steps"], "--method"),
        (["attribute", "--shards", "missing.tar", "--out", "x", "--metric", "nope"], "insertion"),
        (["attribute", "--shards", "missing.tar", "--out", "x", "--set", "actors"], "--set"),
        (["attribute", "--shards", "missing.tar", "--out", "x", "--set", "actors.most=3"], "actors.most"),
        (["attribute", "no.yaml"], "no.yaml"),
        (["attribute", "--nonsense"], "--nonsense"),
        (["audit", "nowhere"], "run.json"),
        (["status", "nowhere"], "run.json"),
        (["report", "nowhere"], "run"),
        (["methods", "nope"], "ssig"),
        (["pack", "nowhere", "--out", "x"], "nowhere"),
        (["nope"], "nope"),
    ],
)
def test_wrong_use_is_one_line_and_exit_2(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    result = cli(*arguments)
    assert result.code == 2
    assert message in result.err
    assert result.err.startswith("error: ")
    assert "Traceback" not in result.err
    assert list(tmp_path.iterdir()) == []


def test_choices_and_assignments_are_read_as_yaml() -> None:
    assert choice("--method", "ssig") == {"name": "ssig"}
    assert choice("--method", "ig:steps=16,label=7") == {"name": "ig", "steps": 16, "label": "7"}
    assert choice("--method", "ig:baseline=[0, 0.5, 1],rule=left")["baseline"] == [0, 0.5, 1]
    assert assignment("actors.max=auto") == ("actors.max", "auto")
    for slip in ("ig:steps", ":steps=3", "ig:steps=3,steps=4", "ig:"):
        with pytest.raises(UsageError):
            choice("--method", slip)


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_a_job_from_start_to_audit(cli: Cli, tmp_path: Path) -> None:
    shard = write_tar(tmp_path / "a.tar", members(0, 6))
    run = tmp_path / "run"
    arguments = ["attribute", "--shards", shard, "--model", "networks:tiny", "--method", "ssig:samples=2"]
    arguments += ["--metric", "roc_auc", "--out", run, "--set", "actors.num_gpus=0", "--set", "actors.num_cpus=1"]
    first = cli(*arguments)
    assert first.code == 0, first.err
    assert "1 units to do, 1 done" in first.out
    assert first.out.rstrip().endswith(f"report: {run}/report/index.html")
    again = cli(*arguments)
    assert (again.code, again.out.splitlines()[0]) == (0, "0 units to do, 0 done")
    assert cli("audit", run).out.rstrip().endswith("sound")
    assert json.loads(cli("status", run, "--json").out)["finished"] is True
    assert cli("report", run).code == 0
    refused = cli(*arguments, "--seed", "5")
    assert refused.code == 2
    assert "seed: recorded 0, asked for 5" in refused.err
    (run / "commits" / "stray.json").write_text("{}")
    failed = cli("audit", run)
    assert failed.code == 1
    assert "stray.json: unreferenced file" in failed.out
