"""`--in-process`: whole commands in one process, on a machine where Ray is not installed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.checks.audit import audit

ROOT = Path(__file__).resolve().parents[3]
SUPPORT = ROOT / "tests" / "support"
sys.path.insert(0, str(SUPPORT))

from command_line import Cli, command_line  # noqa: E402
from tests_shards import members, write_tar  # noqa: E402

# `ssig` where importing Ray fails as it does if it is not installed.
WITHOUT_RAY = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "ray":
            print("Ray was asked for", file=sys.stderr)
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
from jobs.cli import main
for command in sys.argv[1].split(";"):
    sys.argv = ["ssig", *command.split()]
    try:
        main()
    except SystemExit as stop:
        print("exit", stop.code, "ray" in sys.modules)
"""


@pytest.fixture
def ssig(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    return command_line(monkeypatch, capsys)


def test_a_run_and_its_added_metrics_need_no_ray(tmp_path: Path) -> None:
    shard, run = write_tar(tmp_path / "a.tar", members(0, 3)), tmp_path / "run"
    small = "--set actors.micro_batch=2 --quiet"
    attribute = f"attribute --shards {shard} --model networks:tiny --method gradient --out {run} {small}"
    evaluate = f"evaluate {run} --metric gini {small}"
    commands = f"{attribute} --in-process;{evaluate} --in-process"
    path = f"{ROOT}:{SUPPORT}"
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_RAY, commands],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": path, "HOME": str(tmp_path), "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert done.stdout.splitlines() == ["exit 0 False"] * 2, done.stderr
    assert "Ray was asked for" not in done.stderr
    assert audit(str(run)).problems == []
    assert list(run.glob("evaluations/gini/*/*/*.parquet"))


def test_without_ray_and_without_the_option_it_says_what_to_type(
    ssig: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)  # so that importing it fails
    shard = write_tar(tmp_path / "a.tar", members(0, 1))
    arguments = ("--shards", shard, "--model", "networks:tiny", "--method", "gradient", "--out", tmp_path / "run")
    result = ssig("attribute", *arguments)
    assert result.code == 2
    assert "type --in-process" in result.err
    assert "pip install '.[run]'" in result.err
    assert not (tmp_path / "run" / "run.json").exists()


@pytest.mark.parametrize("command", ["attribute", "evaluate"])
def test_an_executor_that_contradicts_the_option_is_refused(ssig: Cli, tmp_path: Path, command: str) -> None:
    given = (tmp_path, "--metric", "gini") if command == "evaluate" else ("--images", tmp_path)
    result = ssig(command, *given, "--in-process", "--set", "actors.executor=ray")
    assert result.code == 2
    assert "local with --in-process: leave out one of them" in result.err


@pytest.mark.parametrize("given", ["actors.num_gpus=2", "actors.num_gpus=1.5"])
def test_more_than_one_gpu_for_an_actor_is_refused(ssig: Cli, tmp_path: Path, given: str) -> None:
    shard = write_tar(tmp_path / "a.tar", members(0, 1))
    result = ssig("attribute", "--shards", shard, "--out", tmp_path / "run", "--set", given)
    assert result.code == 2
    assert result.err == (
        f"error: actors.num_gpus: found {given.partition('=')[2]}; allowed: at most 1: an actor computes on one GPU; "
        "to use several, type --set actors.num_gpus=1 --set actors.max=2\n"
    )
