"""`ssig init` writes a job file that a run can start from."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

SUPPORT = Path(__file__).resolve().parents[2] / "support"
sys.path.insert(0, str(SUPPORT))

from command_line import Cli, command_line  # noqa: E402

from pipeline.job.configuration import load_job  # noqa: E402


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Cli:
    monkeypatch.chdir(tmp_path)
    return command_line(monkeypatch, capsys)


def test_the_file_is_a_job_and_says_what_to_type(cli: Cli, tmp_path: Path) -> None:
    done = cli("init")
    assert done.code == 0
    assert "type: ssig attribute job.yaml" in done.out
    job = load_job(tmp_path / "job.yaml")
    assert [method.title for method in job.methods] == ["ssig", "ig", "smoothgrad", "random"]
    assert job.output.path == str(tmp_path / "runs" / "first")
    assert job.dataset.shards == (str(tmp_path / "shards" / "*.tar"),)


def test_every_value_but_those_to_fill_in_is_the_default(cli: Cli, tmp_path: Path) -> None:
    cli("init", "mine.yaml")
    job = load_job(tmp_path / "mine.yaml")
    plain = load_job(None, {"dataset.shards": ["a.tar"], "output.path": "out"})
    assert job.model == plain.model
    assert job.actors == plain.actors
    assert job.output.maps == plain.output.maps
    assert (job.seed, job.dataset.limit) == (plain.seed, plain.dataset.limit)


def test_a_file_that_is_there_is_kept(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text("mine")
    refused = cli("init")
    assert refused.code == 2
    assert "type `ssig init OTHER.yaml`" in refused.err
    assert (tmp_path / "job.yaml").read_text() == "mine"
    assert cli("init", "no-folder/job.yaml").code == 2
