"""Drivers that are killed while they list the shards of a run, and units that are done before all are listed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from disturbed import Disturbed, await_that, drive, small_job, start, work_off
from fault_actions import fired
from tests_shards import members, write_tar

from pipeline.checks.audit import audit
from pipeline.checks.findings import Kind
from pipeline.checks.status import status
from pipeline.report import write_report
from pipeline.run.reader import open_run
from ssig.errors import UsageError

SHARDS = 5


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("five")
    return [str(write_tar(folder / f"s{number}.tar", members(3 * number, 3))) for number in range(SHARDS)]


@pytest.fixture(scope="module")
def undisturbed(shards: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("undisturbed") / "run"
    process = start(work_off, small_job(Path(shards[0]), run, dataset__shards=shards))
    process.join()
    assert process.exitcode == 0
    return run


@pytest.fixture
def case(tmp_path: Path, shards: list[str], undisturbed: Path) -> Iterator[Disturbed]:
    case = Disturbed(tmp_path, Path(shards[0]), undisturbed)
    yield case
    case.close()


def given(shards: list[str]) -> dict[str, Any]:
    return {"actors__executor": "local", "dataset__shards": shards}


NOTED = "after-part:note:times=100"


def test_a_driver_killed_while_it_lists_goes_on_behind_the_last_part(case: Disturbed, shards: list[str]) -> None:
    assert case.do(drive, f"after-part:kill:skip=2;{NOTED}", **given(shards)) == -9, case.messages()
    assert sorted(path.name for path in (case.run / "manifest").iterdir()) == [f"00000{n}.parquet" for n in range(3)]
    line = "3 of 5 shards are listed so far; type the same `ssig attribute` command to go on"

    found = audit(str(case.run))
    assert [finding.message for finding in found.findings if line in finding.message]
    assert {finding.kind for finding in found.findings} == {Kind.UNFINISHED}
    assert line in str(status(str(case.run)).unsealed)
    run = open_run(case.run)
    with pytest.raises(UsageError, match="3 of 5 shards are listed so far"):
        _ = run.manifest
    with pytest.raises(UsageError, match="3 of 5 shards are listed so far"):
        write_report(run)

    assert case.do(drive, NOTED, **given(shards)) == 0, case.messages()
    parts = [line for line in fired(case.folder) if line.startswith("after-part:note")]
    assert (
        len(parts) == len(set(parts)) == SHARDS - 1
    )  # the third was killed before it was noted, and not listed again
    assert not (case.run / "manifest").exists() or not list((case.run / "manifest").iterdir())
    case.check("SIGKILL of a driver that lists shards", "after-part")


def test_units_are_done_before_all_shards_are_listed(case: Disturbed, shards: list[str]) -> None:
    driver = case.begin(drive, "after-part:sleep:skip=1:seconds=20", **given(shards))
    await_that(lambda: any(case.run.glob("metrics/*/*/000000-*.parquet")))
    assert not (case.run / "manifest.json").exists()
    assert case.end(driver) == 0, case.messages()
    case.check("a listing that stands still", "after-part", injected=1)


@pytest.mark.slow
@pytest.mark.parametrize("step", ["before-manifest", "after-manifest", "after-seal"])
def test_a_driver_killed_while_it_seals(case: Disturbed, shards: list[str], step: str) -> None:
    assert case.do(drive, f"{step}:kill", **given(shards)) == -9, case.messages()
    assert case.do(drive, **given(shards)) == 0, case.messages()
    assert not list(case.run.glob("manifest/*"))
    case.check("SIGKILL of a driver that seals the manifest", step, injected=1)


@pytest.mark.slow
def test_a_part_that_was_damaged_is_listed_again(case: Disturbed, shards: list[str]) -> None:
    assert case.do(drive, "after-part:kill:skip=3", **given(shards)) == -9, case.messages()
    (case.run / "manifest" / "000001.parquet").write_bytes(b"PAR1")
    assert case.do(drive, **given(shards)) == 0, case.messages()
    case.check("a damaged part of the manifest", "after-part", by_hand=1)


@pytest.mark.slow
def test_a_driver_that_is_asked_to_stop_while_it_lists_drains(case: Disturbed, shards: list[str]) -> None:
    slowly = "after-part:sleep:skip=1:times=10:seconds=4"
    code = case.do(drive, f"{slowly};after-part:terminate-driver:skip=2", **given(shards))
    assert code == 130, case.messages()
    assert not (case.run / "manifest.json").exists()
    assert not (case.run / "report").exists()
    assert case.do(drive, **given(shards)) == 0, case.messages()
    case.check("SIGTERM of a driver that lists shards", "after-part")
