"""Records of what cannot be done."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.driver.outcomes import Outcomes
from pipeline.driver.schedule import Order, Work
from pipeline.run.log import RunLog
from pipeline.shards import manifest as manifests
from pipeline.shards.samples import Poison
from pipeline.storage import open_storage
from pipeline.storage.base import Storage

UNIT = "000000-000002-000004"


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return open_storage(str(tmp_path / "run"))


@pytest.fixture
def outcomes(storage: Storage, make_shard: Callable[..., Path]) -> tuple[Outcomes, list[str]]:
    manifests.build([str(make_shard(count=6))], 2).save(storage)
    told: list[str] = []
    return Outcomes(storage, manifests.load(storage).rows, RunLog(storage, "attempt"), told.append), told


def record(storage: Storage, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(storage.read(f"quarantine/{name}.json"))
    return found


def test_a_sample_is_named_by_its_position_in_the_unit(storage: Storage, outcomes: tuple[Outcomes, list[str]]) -> None:
    outcomes[0].quarantined(Work(UNIT, ("ig",), 2, poison={1: Poison("it kills")}), 1)
    found = record(storage, f"poison-{UNIT}-000003")
    assert (found["shard"], found["kind"], found["key"]) == ("a.tar", "poison", "image0003")
    assert found["offset"] > 0
    assert found["reason"] == "it kills"


def test_a_unit_that_stays_undone_says_why(storage: Storage, outcomes: tuple[Outcomes, list[str]]) -> None:
    outcomes[0].given_up(Order(Work(UNIT, ("ig",), 2, failures=4)), "failed 4 times")
    found = record(storage, f"unit-{UNIT}")
    assert (found["kind"], found["reason"], found["attempts"]) == ("exhausted", f"unit {UNIT}: failed 4 times", 4)


def test_where_the_storage_fails_a_person_is_told(
    storage: Storage, outcomes: tuple[Outcomes, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(name: str, data: bytes) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(storage, "put", full)
    outcomes[0].given_up(Order(Work(UNIT, ("ig",), 2, failures=4)), "failed 4 times")
    (message,) = outcomes[1]
    assert "could not be written: no space left; it says" in message
    assert "failed 4 times" in message
