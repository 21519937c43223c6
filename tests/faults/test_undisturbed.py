"""The run that disturbed ones are compared with."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import pytest
from undisturbed import undisturbed


def test_it_is_shared_until_the_shards_are_copied_anew(
    shard: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    copied = Path(shutil.copy2(shard, tmp_path))
    first = undisturbed({"dataset__shards": [str(copied)]})
    assert undisturbed({"dataset__shards": [str(copied)]}) == first
    os.utime(copied, (1, 1))
    again = undisturbed({"dataset__shards": [str(copied)]})
    assert again != first
    assert again.parent == first.parent
