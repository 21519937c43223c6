"""Workers without a cluster, in processes of their own: killed, stopped, raced and starved at every step."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import fault_actions
import pyarrow.parquet as pq
import pytest
from disturbed import Disturbed, await_that, contents, go_on, is_stopped, small_disk, small_job, work_off
from small_runs import do_units

from pipeline.checks.audit import audit
from pipeline.job.configuration import Job
from pipeline.run.deletion import forget_failed
from pipeline.run.directory import RunDirectory
from pipeline.run.reader import open_run
from pipeline.shards.samples import Poison
from pipeline.storage import open_storage

UNIT = "000000-000002-000004"  # the second of three
IG = "model=networks%3Atiny/method=ig"
TABLE_STEPS = ("before-stage", "after-write", "after-fsync", "before-publish", "after-link", "after-publish")
STEPS = [
    ("before-read", UNIT),
    ("after-read", UNIT),
    ("after-attribute", UNIT),
    *((step, f"{table}/{IG}/{UNIT}") for table in ("attributions", "metrics") for step in TABLE_STEPS),
    ("after-label", f"ig/{UNIT}"),
    ("after-label", f"gradient/{UNIT}"),
    ("before-commit", UNIT),
    ("after-link", f"{UNIT}.json"),
    ("after-commit", UNIT),
]


def named(step: tuple[str, str]) -> str:
    return f"{step[0]} {step[1].partition('/')[0]}".removesuffix(f" {UNIT}")


def assert_all_whole(run: Path) -> None:
    """What has a name is whole, even while a unit is half done."""
    for file in run.glob("*/*/*/*.parquet"):
        assert pq.read_table(file).num_rows == 2


@pytest.mark.parametrize("step", STEPS, ids=named)
def test_a_worker_killed_at_any_step_loses_nothing(disturbed: Disturbed, step: tuple[str, str]) -> None:
    point, about = step
    assert disturbed.do(work_off, f"{point}:kill:about={about}") == -9
    assert_all_whole(disturbed.run)
    assert not audit(str(disturbed.run)).ok
    assert disturbed.do(work_off) == 0
    disturbed.check("SIGKILL of a worker", named(step), injected=1)


def test_a_worker_killed_over_and_over_gets_on(disturbed: Disturbed) -> None:
    given = ";".join(f"{point}:kill" for point in ("after-read", *TABLE_STEPS, "before-commit", "after-commit"))
    codes = []
    while not codes or codes[-1] != 0:
        codes.append(disturbed.do(work_off, given))
    assert codes == [-9] * disturbed.injected + [0]
    disturbed.check("SIGKILL of a worker, nine times", "every step in turn", injected=9)


@pytest.mark.parametrize("point", ["after-read", "before-publish", "after-publish", "before-commit"])
def test_two_attempts_at_the_same_units_are_one(disturbed: Disturbed, point: str) -> None:
    plan(disturbed)
    # Whoever comes there first waits for the other, who then wins.
    processes = [disturbed.begin(work_off, f"{point}:sleep:seconds=0.2:times=12") for _ in range(2)]
    assert [disturbed.end(process) for process in processes] == [0, 0]
    disturbed.check("two attempts race", point)


@pytest.mark.parametrize(
    ("point", "about"),
    [
        ("after-read", UNIT),
        ("before-stage", "attributions"),
        ("before-publish", "attributions"),
        ("after-publish", "attributions"),
        ("before-publish", "metrics"),
        ("before-commit", UNIT),
        ("after-link", "commits"),
    ],
)
def test_a_zombie_that_ends_after_its_successor_changes_nothing(disturbed: Disturbed, point: str, about: str) -> None:
    zombie = disturbed.begin(work_off, f"{point}:stop:seconds=0:about={about}")
    await_that(lambda: is_stopped(zombie.pid))
    assert disturbed.do(work_off) == 0
    assert audit(str(disturbed.run)).problems == []
    before = {name: data for name, data in contents(disturbed.run).items() if ".attempts" not in name}
    go_on(zombie.pid)
    assert disturbed.end(zombie) == 0
    assert contents(disturbed.run) == before  # and it leaves nothing behind
    disturbed.check("SIGSTOP, successor commits, SIGCONT", point, injected=1)


@pytest.mark.parametrize("point", ["before-stage", "after-write", "before-publish", "after-link", "before-commit"])
@pytest.mark.parametrize("action", ["no-space", "io-error"])
def test_a_disk_that_fails_costs_an_attempt(disturbed: Disturbed, point: str, action: str) -> None:
    assert disturbed.do(work_off, f"{point}:{action}:about={UNIT}") == 1
    assert "on purpose" in disturbed.messages()
    assert disturbed.do(work_off) == 0
    disturbed.check({"no-space": "ENOSPC", "io-error": "EIO"}[action], point, injected=1)


def limited(job: Job) -> int:
    """A worker whose files may not grow beyond what a table of maps needs."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (6000, resource.RLIM_INFINITY))
    return work_off(job)


def test_a_limit_on_file_sizes_leaves_no_half_file(disturbed: Disturbed) -> None:
    assert disturbed.do(limited) == 1
    assert "too large" in disturbed.messages()
    assert_all_whole(disturbed.run)
    assert disturbed.do(work_off) == 0
    disturbed.check("RLIMIT_FSIZE", "writing", by_hand=1)


@pytest.fixture
def disk(disturbed: Disturbed, tmp_path: Path) -> Iterator[Path]:
    with ExitStack() as stack:
        remount = stack.enter_context(small_disk(tmp_path / "disk", "64k"))
        disturbed.run = tmp_path / "disk" / "run"
        disturbed.remount = remount  # type: ignore[attr-defined]
        yield tmp_path / "disk"


def test_a_full_disk_is_made_good_by_space(disturbed: Disturbed, disk: Path) -> None:
    assert disturbed.do(work_off) == 1
    assert "No space left" in disturbed.messages()
    assert_all_whole(disturbed.run)
    disturbed.remount("size=16m")  # type: ignore[attr-defined]
    assert disturbed.do(work_off) == 0
    disturbed.check("a full disk", "writing", by_hand=1)


def test_a_read_only_disk_changes_nothing(disturbed: Disturbed, disk: Path) -> None:
    disturbed.remount("size=16m")  # type: ignore[attr-defined]
    assert disturbed.do(work_off, f"before-stage:kill:about={UNIT}") == -9
    before = contents(disturbed.run)
    disturbed.remount("ro")  # type: ignore[attr-defined]
    assert disturbed.do(work_off) == 1
    assert "Read-only" in disturbed.messages()
    assert contents(disturbed.run) == before
    disturbed.remount("rw")  # type: ignore[attr-defined]
    assert disturbed.do(work_off) == 0
    disturbed.check("a read-only disk", "writing", by_hand=1)


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-100])


def flipped(file: Path) -> None:
    """One bit, in the middle of what the table holds."""
    data = bytearray(file.read_bytes())
    data[len(data) // 3] ^= 1
    file.write_bytes(data)


@pytest.mark.parametrize("damage", [cut, flipped])
@pytest.mark.parametrize("table", ["attributions", "metrics"])
def test_a_damaged_file_that_nobody_committed_is_made_anew(
    disturbed: Disturbed, table: str, damage: Callable[[Path], None]
) -> None:
    assert disturbed.do(work_off, f"before-commit:kill:about={UNIT}") == -9
    (file,) = disturbed.run.glob(f"{table}/*/method=ig/{UNIT}.parquet")
    damage(file)
    assert disturbed.do(work_off) == 0
    disturbed.check(f"a file is {damage.__name__} before its commit", table, by_hand=1)


def test_files_of_another_time_are_no_obstacle(disturbed: Disturbed) -> None:
    """Another host's clock: everything on the disk is from the future, or long past."""
    assert disturbed.do(work_off, f"after-publish:kill:about=attributions/{IG}/{UNIT}") == -9
    for number, file in enumerate(sorted(path for path in disturbed.run.rglob("*") if path.is_file())):
        os.utime(file, (2e9, 2e9) if number % 2 else (0, 0))
    assert disturbed.do(work_off) == 0
    disturbed.check("files from the future and the past", "after-publish", by_hand=1)


@pytest.mark.parametrize("seconds", [-1e8, 1e8])
@pytest.mark.parametrize("point", ["after-read", "after-write", "before-commit"])
def test_a_worker_whose_clock_jumps_goes_on(disturbed: Disturbed, point: str, seconds: float) -> None:
    assert disturbed.do(work_off, f"{point}:clock:about={UNIT}:seconds={seconds}") == 0
    disturbed.check(f"the clock jumps {'ahead' if seconds > 0 else 'back'}", point, injected=1)


def fail_and_take_back(job: Job) -> int:
    """A worker that keeps a sample from its network, and then the removal of what holds its row."""
    do_units(job, poison={UNIT: {2: Poison("it kills")}})
    return take_back(job)


def take_back(job: Job) -> int:
    directory = RunDirectory(open_storage(job.output.path))
    forget_failed(directory, directory.labels)
    return 0


@pytest.mark.parametrize("point", ["before-take-back", "after-take-back", "before-replace", "after-replace"])
def test_a_unit_that_is_taken_back_leaves_its_other_labels_done(disturbed: Disturbed, point: str) -> None:
    """The label that was done before the sample was found to kill keeps its rows, and its place in the run."""
    assert disturbed.do(work_off, f"after-label:kill:about=ig/{UNIT}") == -9
    assert disturbed.do(fail_and_take_back, f"{point}:kill:about={UNIT}.json") == -9
    found = open_run(disturbed.run)
    assert sum(commit.rows for commit in found.committed("networks:tiny", "ig")) == 6
    assert disturbed.do(take_back) == 0
    assert disturbed.do(work_off) == 0
    disturbed.check("SIGKILL while a unit is taken back", point, injected=2)


def plan(disturbed: Disturbed) -> None:
    """Records the run, and does none of its units."""
    do_units(small_job(disturbed.shard, disturbed.run), limit=0)


@pytest.mark.parametrize("text", ["nowhere:kill", "after-read:explode"])
def test_a_fault_that_cannot_fire_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=text.split(":")["nowhere" not in text]):
        fault_actions.parse(text)


def test_faults_fire_as_often_as_they_are_told_to(tmp_path: Path) -> None:
    faults = fault_actions.parse("after-read:raise:skip=1:times=2:about=b")
    two = [fault_actions.Faults(faults, tmp_path) for _ in range(2)]
    raised = []
    for number in range(8):
        two[number % 2].point("after-read", "a")
        two[number % 2].point("before-read", "b")
        try:
            two[number % 2].point("after-read", "b")
        except RuntimeError:
            raised.append(number)
    assert raised == [1, 2]
    assert fault_actions.fired(tmp_path) == ["after-read:raise b"] * 2
