"""One small data set, its undisturbed run, and runs of it to be disturbed."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SUPPORT = Path(__file__).resolve().parents[1] / "support"
sys.path.insert(0, str(SUPPORT))

from disturbed import Disturbed, small_job, start, work_off  # noqa: E402
from tests_shards import members, write_tar  # noqa: E402

SAMPLES = 6


@pytest.fixture(scope="session")
def shard(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tar(tmp_path_factory.mktemp("shards") / "a.tar", members(0, SAMPLES))


@pytest.fixture(scope="session")
def expected(shard: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An undisturbed run."""
    run = tmp_path_factory.mktemp("undisturbed") / "run"
    process = start(work_off, small_job(shard, run))
    process.join()
    assert process.exitcode == 0
    return run


@pytest.fixture
def disturbed(tmp_path: Path, shard: Path, expected: Path) -> Iterator[Disturbed]:
    case = Disturbed(tmp_path, shard, expected)
    yield case
    case.close()
