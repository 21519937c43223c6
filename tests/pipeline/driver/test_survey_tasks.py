"""Shards surveyed by tasks of a real Ray: in order, with what threads find, and with errors of storage as such."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "support"))

from tests_shards import write_tar

from pipeline.driver import survey_tasks
from pipeline.driver.listing import by_threads
from pipeline.driver.survey_tasks import by_tasks
from pipeline.shards.surveying import ShardChangedError, look_up

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]


@pytest.fixture
def shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setattr(survey_tasks, "SHARDS_A_TASK", 9)
    paths = [write_tar(tmp_path / f"{n:02d}.tar", [(f"{n}.jpg", b"x"), (f"{n}.cls", b"1")]) for n in range(40)]
    paths[7].write_bytes(paths[7].read_bytes()[:700])
    return list(map(str, paths))


def test_tasks_find_in_order_what_threads_find(shards: list[str]) -> None:
    records = look_up(shards)
    found = list(by_tasks(records))
    expected = list(by_threads(records))
    assert [survey.record for survey in found] == [survey.record for survey in expected] == records
    assert all(one.samples.equals(other.samples) for one, other in zip(found, expected, strict=True))
    assert [survey.quarantine for survey in found] == [survey.quarantine for survey in expected]
    assert len(found[7].quarantine) == 1


def test_an_error_of_storage_is_raised_as_such(shards: list[str]) -> None:
    records = look_up(shards)
    write_tar(Path(shards[20]), [("other.jpg", b"y" * 2000)])
    with pytest.raises(ShardChangedError, match="changed"):
        list(by_tasks(records))


def test_a_caller_may_stop_early(shards: list[str]) -> None:
    surveys = by_tasks(look_up(shards))
    assert next(surveys).record.name == "00.tar"
    surveys.close()
