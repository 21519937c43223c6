"""Data that are not there, or are of another kind, are refused before anything large is imported."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pipeline.shards.presence import require_data, require_shards
from ssig.errors import UsageError

JPEG = b"\xff\xd8\xff\xe0" + bytes(600)
TAR = b"a.jpg" + bytes(1019)


def files(folder: Path, *contents: bytes) -> list[str]:
    for number, content in enumerate(contents):
        (folder / f"{number}.jpg").write_bytes(content)
    return sorted(map(str, folder.iterdir()))


def test_images_in_place_of_shards_are_named_once(tmp_path: Path) -> None:
    paths = files(tmp_path, JPEG, JPEG, JPEG)
    with pytest.raises(UsageError, match=re.escape("a JPEG image, not a tar archive: type --images FOLDER")) as error:
        require_shards(paths)
    assert "(and 2 more)" in str(error.value)


def test_one_file_that_may_be_a_shard_is_enough(tmp_path: Path) -> None:
    require_shards(files(tmp_path, JPEG, TAR))
    require_shards([str(tmp_path / "gone.tar")])  # a file that cannot be read is reported later


@pytest.mark.parametrize(
    ("field", "beside"),
    [("labels", ("gone.csv", None, None)), ("boxes", (None, "gone.json", None)), ("masks", (None, None, "gone"))],
)
def test_what_lies_beside_the_images_must_be_there(
    field: str, beside: tuple[str | None, str | None, str | None], tmp_path: Path
) -> None:
    require_data(str(tmp_path), None, None, None)
    with pytest.raises(UsageError, match=rf"dataset\.{field}: found 'gone"):
        require_data(str(tmp_path), *beside)
    with pytest.raises(UsageError, match=r"dataset\.images: found"):
        require_data(str(tmp_path / "gone"), None, None, None)
