"""The command line: help, listings, one-line errors with the exit code that scripts rely on, a whole small job."""

from __future__ import annotations

import json
import os
import signal
import subprocess
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
    *("demo", "init", "attribute", "evaluate", "report", "status", "audit", "paper"),
    *("pack", "submit", "methods", "metrics", "export", "compare", "compact"),
]


def test_help_lists_every_command_and_each_helps(cli: Cli) -> None:
    listing = cli("--help")
    assert listing.code == 0
    for command in COMMANDS:
        assert f"  {command}" in listing.out
        helped = cli(command, "--help")
        assert helped.code == 0
        assert "Usage" in helped.out


def test_help_is_in_groups_with_the_first_steps_first(cli: Cli) -> None:
    titles = [line for line in cli("-h").out.splitlines() if line.endswith(":") and not line.startswith(" ")]
    assert titles == ["Options:", "Start here:", "Look at a run:", "List:", "More:"]
    listed = cli("--help").out.partition("Start here:")[2].splitlines()
    assert [line.split()[0] for line in listed[1:4]] == ["demo", "init", "attribute"]
    assert [line for line in listed if line.endswith("...")] == []  # summaries that are cut


@pytest.mark.parametrize("command", [[], *([command] for command in COMMANDS), ["bench"], ["bench", "engine"]])
def test_h_is_help(cli: Cli, command: list[str]) -> None:
    assert cli(*command, "-h") == cli(*command, "--help")


@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        ("ssig attribute --method smooth", ["smoothgrad", "smoothgrad-squared"]),
        ("ssig attribute --metric insertion_", ["insertion_deletion_gap", "insertion_score"]),
        ("ssig evaluate run --metric dele", ["deletion"]),
        ("ssig methods gu", ["guided-ig"]),
        ("ssig metrics gin", ["gini"]),
        ("ssig au", ["audit"]),
    ],
)
def test_the_shell_completes_commands_methods_and_metrics(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, typed: str, completed: list[str]
) -> None:
    monkeypatch.setenv("_SSIG_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", typed)
    monkeypatch.setenv("COMP_CWORD", str(len(typed.split()) - 1))
    assert cli().out.split() == completed


def test_demo_opens_its_report_where_it_is_asked_to(cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    opened: list[str] = []
    monkeypatch.setattr("jobs.commands.attribute._attribute", lambda job: 0)  # the run itself has tests of its own
    monkeypatch.setattr("webbrowser.open", lambda page: opened.append(page) is None)
    assert cli("demo", "--out", tmp_path / "run").code == 0
    assert opened == []
    assert cli("demo", "--out", tmp_path / "run", "--open").code == 0
    assert opened == [(tmp_path / "run" / "report" / "index.html").as_uri()]


def test_a_folder_that_cannot_be_written_is_named_with_its_option(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = cli("demo", "--out", tmp_path / "file" / "run")
    assert result.code == 2
    assert result.err.startswith(f"error: --out: found '{tmp_path}/file/photographs'; allowed: a place that can be")


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (PermissionError(13, "Permission denied", "/sys/job.yaml"), "/sys/job.yaml: Permission denied"),
        (OSError(18, "Invalid cross-device link", "a", None, "b"), "a and b: Invalid cross-device link"),
        (OSError("the storage is gone"), "the storage is gone"),
    ],
)
def test_what_the_system_refuses_names_the_file_first(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, error: OSError, line: str
) -> None:
    def fails(*arguments: object, **options: object) -> int:
        raise error

    monkeypatch.setattr("jobs.cli.app", fails)
    assert cli("init") == (1, "", f"error: {line}\n")


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
        (["attribute"], "job is missing; needed: images and a folder for the results. Type `ssig attribute --images"),
        (["attribute"], "`ssig init`, which writes job.yaml, then `ssig attribute job.yaml`; or `ssig demo`"),
        (["attribute", "--out", "x"], "--shards is missing"),
        (["attribute", "--shards", "missing.tar"], "--out is missing; needed: a folder"),
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
    lines = first.out.splitlines()
    assert lines[0] == "6 images x 1 method: complete"
    assert lines[-3:] == [
        "No verdict: ssig is the only method, so there is nothing to compare it with.",
        f"report: {run.as_uri()}/report/index.html",
        f"next: ssig browse {run}",
    ]
    again = cli(*arguments)
    assert again.code == 0
    assert again.out.splitlines()[0] == "6 images x 1 method: complete before; nothing was left to do"
    assert cli(*arguments, "--quiet") == (0, "", "")
    outcome = json.loads(cli(*arguments, "--json").out)
    assert outcome["counts"] == {"ssig": {"ok": 6}}
    assert {name: outcome[name] for name in ("exit_code", "run", "report", "labels", "leaderboard")} == {
        "exit_code": 0,
        "run": str(run),
        "report": f"{run}/report/index.html",
        "labels": ["ssig"],
        "leaderboard": [],
    }
    assert cli("audit", run).out.rstrip().endswith("sound")
    assert json.loads(cli("status", run, "--json").out)["finished"] is True
    assert cli("report", run).code == 0
    refused = cli(*arguments, "--seed", "5")
    assert refused.code == 2
    assert "seed: recorded 0, asked for 5" in refused.err
    (run / "commits" / "stray.json").write_text("{}")
    failed = cli("audit", run)
    assert failed.code == 1
    assert "stray.json: unexpected file" in failed.out


# Ray's own end, where it was interrupted while it started, crashes the process as this one does.
SLOW = """
import atexit, os, ray, time

def network():
    atexit.register(os.abort)
    print("slow")
    time.sleep(600)
"""


def test_a_command_that_is_interrupted_early_says_how_to_go_on(tmp_path: Path) -> None:
    shard = write_tar(tmp_path / "a.tar", members(0, 1))
    (tmp_path / "slow.py").write_text(SLOW)
    words = ["--shards", str(shard), "--model", "./slow.py:network", "--method", "gradient", "--out", "run"]
    with subprocess.Popen(
        [sys.executable, "-m", "ssig", "attribute", *words],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(SUPPORT.parents[1]), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell without job control starts processes that ignore SIGINT.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "slow\n"
        process.send_signal(signal.SIGINT)
        last = process.stderr.read().splitlines()[-1]
    assert (process.returncode, last) == (130, "error: interrupted; to go on, type the same command again")
