"""`ssig compact`: what it prints, and its exit codes."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from pipeline.driver.synthetic import SyntheticRun, write_synthetic_run
from pipeline.run.lease import Lease
from pipeline.storage import open_storage

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "support"))

from command_line import Cli, command_line

TABLE = "metrics/model=synthetic/method=ig"


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    return command_line(monkeypatch, capsys)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    plan = SyntheticRun(images=12, methods=["ig"], metrics=[], unit_size=4)
    return Path(write_synthetic_run(tmp_path, plan).root)


def test_it_says_in_a_line_what_it_did(cli: Cli, run: Path) -> None:
    planned = cli("compact", run, "--dry-run")
    assert planned.code == 0
    assert planned.out.startswith("6 files of 2 tables would become 2: 24 rows,")
    assert not (run / "compactions").exists()
    done = cli("compact", run)
    assert (done.code, done.out.splitlines()[0][:42]) == (0, "6 files of 2 tables became 2: 24 rows, 0 M")
    assert cli("compact", run) == (0, "nothing to compact\n", "")
    assert cli("audit", run).code == 0


def test_json_has_every_table(cli: Cli, run: Path) -> None:
    record = json.loads(cli("compact", run, "--no-maps", "--json").out)
    assert [(table["table"], table["files"], table["parts"]) for table in record["tables"]] == [(TABLE, 3, 1)]
    assert (record["dry_run"], record["failed"]) == (False, {})


def test_a_damaged_table_is_named_and_the_code_is_1(cli: Cli, run: Path) -> None:
    next((run / TABLE).iterdir()).write_bytes(b"none")
    failed = cli("compact", run)
    assert failed.code == 1
    assert f"not compacted: {TABLE}: " in failed.out


def test_a_run_with_a_driver_is_left_alone(cli: Cli, run: Path) -> None:
    with Lease(open_storage(str(run))):
        refused = cli("compact", run)
    assert refused.code == 2
    assert "another driver works on this run" in refused.err
    assert cli("compact", run.parent).code == 2
