"""Numbers on disk are those that were written, however they are read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from measured import stored_numbers

from pipeline.report.image_numbers import ImageNumbers


@given(st.data())
def test_they_are_read_as_they_were_written(data: st.DataObject) -> None:
    images, methods, columns = (data.draw(st.integers(1, most)) for most in (20, 3, 4))
    stored, expected = ImageNumbers(images, methods, columns), np.full((images, methods, columns), np.nan, np.float32)
    for number in range(data.draw(st.integers(0, 8))):
        where = np.array(data.draw(st.lists(st.integers(0, images - 1), unique=True)), np.int64)
        method, column = data.draw(st.integers(0, methods - 1)), data.draw(st.integers(0, columns - 1))
        numbers = np.where(where % 3 == 0, np.nan, where + 100 * number).astype(np.float32)
        stored.write(where, method, column, numbers)
        expected[where, method, column] = numbers
    for column in range(columns):
        np.testing.assert_array_equal(np.concatenate(list(stored.pieces(column))), expected[:, :, column])
        chosen = np.concatenate(list(stored.pieces_of_columns([column])), axis=1)
        np.testing.assert_array_equal(chosen, expected[:, :, column])
        np.testing.assert_array_equal(stored.images(column, [images - 1, 0]), expected[[images - 1, 0], :, column])
        np.testing.assert_array_equal(stored.of_method(methods - 1, column), expected[:, methods - 1, column])
    together = np.concatenate(list(stored.pieces_of_columns()), axis=1)
    np.testing.assert_array_equal(together, expected.reshape(images, -1))


@pytest.mark.parametrize("images", [1, 4, 6])
def test_pieces_hold_all(monkeypatch: pytest.MonkeyPatch, images: int) -> None:
    values = np.random.default_rng(0).random((images, 2, 5), np.float32)
    stored = stored_numbers(values)
    monkeypatch.setattr("pipeline.report.image_numbers._RANKED", 16)
    monkeypatch.setattr("pipeline.report.image_numbers._IN_MEMORY", 3 * images)
    pieces = list(stored.pieces_of_images([4, 1]))
    assert [len(piece) for piece in pieces] == ([4, 2] if images == 6 else [images])
    np.testing.assert_array_equal(np.concatenate(pieces), values[:, :, [4, 1]])
    blocks = list(stored.pieces_of_columns())
    assert [block.shape[1] for block in blocks] == [3, 3, 3, 1]
    np.testing.assert_array_equal(np.concatenate(blocks, axis=1), values.reshape(images, -1))


def test_what_holds_a_number_is_known() -> None:
    values = np.full((3, 2, 3), np.nan, np.float32)
    values[2, 1, 0] = 1
    values[1, 0, 2] = np.inf
    stored = stored_numbers(values)
    assert stored.present.tolist() == [[False, False, False], [True, False, False]]
    assert stored.holding.tolist() == [True, False, False]


def test_a_full_disk_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.TemporaryFile", lambda **_: open("/dev/full", "r+b"))  # noqa: SIM115
    stored = ImageNumbers(1_000_000, 2, 3)
    with pytest.raises(OSError, match=r"No space left on device: /.* for up to 24 MB of numbers \(TMPDIR"):
        stored.write(np.arange(2), 1, 2, np.zeros(2, np.float32))


def test_a_folder_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "none"))
    with pytest.raises(OSError, match=r"No such file or directory: .*/none for up to 24 MB of numbers \(TMPDIR"):
        ImageNumbers(1_000_000, 2, 3)


def test_a_run_without_images_has_none() -> None:
    stored = ImageNumbers(0, 2, 3)
    stored.write(np.empty(0, np.int64), 1, 1, np.empty(0, np.float32))
    assert [piece.shape for piece in stored.pieces_of_images([0])] == [(0, 2, 1)]
    assert [piece.shape for piece in stored.pieces_of_columns()] == [(0, 6)]
