"""`ssig index`: what it writes, prints and refuses, without torch."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "support"))

from command_line import Cli, command_line
from tests_shards import members, write_tar


@pytest.fixture
def ssig_index(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    return command_line(monkeypatch, capsys, "index")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_tar(tmp_path / "a.tar", members(0, 3))
    write_tar(tmp_path / "b.tar", [("README", b"text"), *members(3, 2)])
    return tmp_path


def test_indexes_are_written_once_and_faults_are_told(ssig_index: Cli, folder: Path) -> None:
    result = ssig_index(f"{folder}/*.tar")
    assert result.code == 0
    assert result.out == "2 indexes written, 0 up to date: 5 samples\n"
    assert result.err == "b.tar: skipped: README: a name without key or without extension\n"
    assert sorted(path.name for path in folder.glob("*.parquet")) == ["a.tar.index.parquet", "b.tar.index.parquet"]
    assert ssig_index(f"{folder}/*").out == "0 indexes written, 2 up to date: 5 samples\n"  # `*` names no index


def test_the_outcome_as_json(ssig_index: Cli, folder: Path) -> None:
    result = ssig_index(f"{folder}/*.tar", "--hash", "--json")
    assert json.loads(result.out) == {
        "written": 2,
        "current": 0,
        "samples": 5,
        "faults": ["b.tar: skipped: README: a name without key or without extension"],
    }


def test_shards_that_are_not_there_are_refused(ssig_index: Cli, folder: Path) -> None:
    result = ssig_index(f"{folder}/c.tar")
    assert result.code == 2
    assert result.err.startswith("error: SHARDS: found")


def test_torch_is_not_imported(folder: Path) -> None:
    code = (
        "import sys; from jobs.cli import main; sys.argv = ['ssig', 'index', sys.argv[1]]\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print(sorted({'torch', 'ray'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code, f"{folder}/*.tar"], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
