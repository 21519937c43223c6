"""Folders that appear whole, and what is never replaced."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline.storage.folders import RECORD, check_folder, whole_folder
from ssig.errors import UsageError

ABOUT = {"made_by": "a test", "form": "csv"}


def written(path: Path, about: dict[str, str] = ABOUT, text: str = "1") -> Path:
    with whole_folder(path, about) as staged:
        assert not (path / "a.csv").exists() or path.joinpath("a.csv").read_text() != text
        (staged / "a.csv").write_text(text)
    return path


def test_a_folder_appears_with_its_record(tmp_path: Path) -> None:
    path = written(tmp_path / "new" / "out")
    assert sorted(entry.name for entry in path.iterdir()) == ["a.csv", RECORD]
    assert json.loads((path / RECORD).read_text()) == {**ABOUT, "holds": ["a.csv"]}
    assert [entry.name for entry in path.parent.iterdir()] == ["out"]


def test_the_same_takes_the_place_of_the_former(tmp_path: Path) -> None:
    path = written(tmp_path / "out")
    assert check_folder("--to", path, ABOUT) == path
    written(path, text="2")
    assert (path / "a.csv").read_text() == "2"
    assert [entry.name for entry in tmp_path.iterdir()] == ["out"]


def test_an_error_leaves_what_was_there(tmp_path: Path) -> None:
    path = written(tmp_path / "out")

    def interrupted() -> None:
        with whole_folder(path, ABOUT) as staged:
            (staged / "a.csv").write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        interrupted()
    assert (path / "a.csv").read_text() == "1"
    assert [entry.name for entry in tmp_path.iterdir()] == ["out"]


def test_something_else_is_replaced_only_if_that_is_asked_for(tmp_path: Path) -> None:
    path = written(tmp_path / "out")
    other = {**ABOUT, "form": "latex"}
    with pytest.raises(UsageError, match="--overwrite"):
        check_folder("--to", path, other)
    assert check_folder("--to", path, other, overwrite=True) == path


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_file_of_the_user_is_never_replaced(tmp_path: Path, overwrite: bool) -> None:
    mine = tmp_path / "own"
    mine.mkdir()
    assert check_folder("--to", mine, ABOUT) == mine  # empty
    (mine / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match=r"notes\.txt"):
        check_folder("--to", mine, ABOUT, overwrite=overwrite)
    path = written(tmp_path / "out")
    (path / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match=r"move notes\.txt"):
        check_folder("--to", path, ABOUT, overwrite=overwrite)
    with pytest.raises(UsageError, match="there is a file"):
        check_folder("--to", mine / "notes.txt", ABOUT, overwrite=overwrite)
    with pytest.raises(UsageError, match="on this machine"):
        check_folder("--to", "s3://bucket/out", ABOUT, overwrite=overwrite)
