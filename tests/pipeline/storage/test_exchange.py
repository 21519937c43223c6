"""Two folders swap their names, in one step or in two; files get second names."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.storage import fault_points, open_storage
from pipeline.storage.exchange import exchanged
from pipeline.storage.local import LocalStorage

ONE, OTHER, FORMER = "metrics/a", "aside/b", "aside/former"


@pytest.fixture
def storage(tmp_path: Path) -> LocalStorage:
    storage = LocalStorage(tmp_path)
    storage.put(f"{ONE}/old", b"old")
    storage.put(f"{OTHER}/new", b"new")
    return storage


def names(storage: LocalStorage, folder: str) -> list[str]:
    return [entry.name.rpartition("/")[2] for entry in storage.list(folder)]


@pytest.mark.parametrize("at_once", [True, False])
def test_folders_swap(storage: LocalStorage, monkeypatch: pytest.MonkeyPatch, at_once: bool) -> None:
    if not at_once:
        monkeypatch.setattr("pipeline.storage.local.exchanged", lambda one, other: False)
    storage.exchange(ONE, OTHER, FORMER)
    assert (names(storage, ONE), names(storage, OTHER), names(storage, FORMER)) == (["new"], ["old"], [])
    storage.exchange("metrics/none", OTHER, FORMER)
    assert (names(storage, "metrics/none"), names(storage, OTHER)) == (["old"], [])


@pytest.mark.parametrize("at_once", [True, False])
def test_a_folder_that_is_gone_takes_no_place(
    storage: LocalStorage, monkeypatch: pytest.MonkeyPatch, at_once: bool
) -> None:
    """A driver that stood still must not put nothing in the place of a table."""
    if not at_once:
        monkeypatch.setattr("pipeline.storage.local.exchanged", lambda one, other: False)
        monkeypatch.setattr("pipeline.storage.local._sync", lambda path: None)  # it went after it was looked at
    storage.delete(f"{OTHER}/new")
    storage.remove_folder(OTHER)
    with pytest.raises(FileNotFoundError):
        storage.exchange(ONE, OTHER, FORMER)
    assert names(storage, ONE) == ["old"]


def test_a_swap_in_two_steps_that_is_cut_off_is_undone(storage: LocalStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    def hook(point: str, about: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("pipeline.storage.local.exchanged", lambda one, other: False)
    monkeypatch.setattr(fault_points, "hook", hook)
    with pytest.raises(KeyboardInterrupt):
        storage.exchange(ONE, OTHER, FORMER)
    assert names(storage, ONE) == []
    storage.recover(ONE, FORMER)
    storage.recover(ONE, FORMER)
    assert (names(storage, ONE), names(storage, OTHER), names(storage, FORMER)) == (["old"], ["new"], [])


def test_this_system_swaps_in_one_step(storage: LocalStorage) -> None:
    root = Path(storage.root)
    if not exchanged(root / ONE, root / OTHER):
        pytest.skip("no renameat2 with RENAME_EXCHANGE here")
    assert names(storage, ONE) == ["new"]


@pytest.mark.parametrize("where", ["disk", "memory"])
def test_a_file_gets_a_second_name_and_a_local_file_a_place(tmp_path: Path, where: str) -> None:
    storage = open_storage(str(tmp_path / "run") if where == "disk" else f"memory://{tmp_path.name}-{where}/run")
    for content in (b"first", b"second"):
        staged = tmp_path / "staged"
        staged.write_bytes(content)
        storage.upload(staged, "a/b")
        assert not staged.exists()
        storage.copy("a/b", "c/d")
        assert (storage.read("a/b"), storage.read("c/d")) == (content, content)
    storage.delete("a/b")
    assert storage.read("c/d") == b"second"


def test_nothing_is_written_through_a_link_that_leads_out(storage: LocalStorage, tmp_path: Path) -> None:
    outside = tmp_path.parent / f"{tmp_path.name}-outside"
    outside.mkdir()
    (tmp_path / "link").symlink_to(outside)
    staged = tmp_path / "staged"
    staged.write_bytes(b"new")
    for act in (
        lambda: storage.copy(f"{ONE}/old", "link/old"),
        lambda: storage.upload(staged, "link/old"),
        lambda: storage.exchange(ONE, "link/folder", FORMER),
    ):
        with pytest.raises(PermissionError):
            act()
    assert list(outside.iterdir()) == []
