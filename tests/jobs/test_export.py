"""Every command of the page about exports does what the page says, and wrong use is one line."""

from __future__ import annotations

import re
import shlex
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "support"))

from command_line import Cli, command_line  # noqa: E402
from report_runs import write_run  # noqa: E402

from jobs.commands.export import TRACKERS  # noqa: E402

PAGE = (ROOT / "docs" / "how-to" / "export.md").read_text(encoding="utf-8")
COMMANDS = [
    line[line.index("export") :]
    for block in re.findall(r"```console\n(.*?)```", PAGE, re.DOTALL)
    for line in block.splitlines()
    if "ssig export" in line
]


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    return command_line(monkeypatch, capsys)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the run that the page names."""
    write_run(tmp_path)
    (tmp_path / "runs").mkdir()
    (tmp_path / "run").rename(tmp_path / "runs" / "photos")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_of_the_page_writes_what_it_says(cli: Cli, folder: Path, line: str) -> None:
    before = sorted((folder / "runs").rglob("*"))
    done = cli(*shlex.split(line))
    tracker = next((name for name in TRACKERS if f"--as {name}" in line), None)
    if tracker is not None:
        # What they get is tested beside them, where they are installed.
        assert done.code == (0 if find_spec(tracker) else 2), done.err
        assert ("wrote: " in done.out) if find_spec(tracker) else f"pip install '.[{tracker}]'" in done.err
        return
    assert done.code == 0, done.err
    wrote = [Path(text.removeprefix("wrote: ")) for text in done.out.splitlines() if text.startswith("wrote: ")]
    assert wrote
    assert all(path.exists() for path in wrote)
    assert "warning: N = 22 of 24 images" in done.err
    assert sorted((folder / "runs").rglob("*")) == before
    assert cli(*shlex.split(line)).code == 0  # the same again


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("runs/photos --as parqet --to out", "--as: found 'parqet'; did you mean parquet"),
        ("runs/photos --as csv", "--to is missing; needed: a folder.*--as csv --to FOLDER"),
        ("runs/photos --as csv --sample a --to out", "--sample: found .*only beside --as figures"),
        ("runs/photos --as latex --wide --to out", "--wide: found .*only beside --as parquet or csv"),
        ("runs/photos --as csv --project p --to out", "--project: found .*only beside --as mlflow or wandb"),
        ("runs/photos --as figures --sample photo_001 --to out", "--sample: found .*did you mean photo_0"),
        ("runs/none --as csv --to out", "run: found .*a run directory"),
        ("runs/photos --as csv --to runs/photos", "--to: found .*a new folder, or an empty one"),
        ("runs/photos --as csv --to s3://bucket/out", "--to: found .*a folder on this machine"),
    ],
)
def test_wrong_use_is_one_line(cli: Cli, folder: Path, line: str, message: str) -> None:
    done = cli("export", *shlex.split(line))
    assert done.code == 2
    assert re.search(message, done.err.splitlines()[-1])
    assert not (folder / "out").exists()


def test_the_snippet_of_the_page_reads_the_table(cli: Cli, folder: Path) -> None:
    (snippet,) = [text for text in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL) if "pandas" in text]
    assert cli(*shlex.split(COMMANDS[0])).code == 0
    names: dict[str, Any] = {}
    exec(snippet, names)
    assert set(names["frame"]["status"]) == {"ok", "undecodable", "no_label"}
