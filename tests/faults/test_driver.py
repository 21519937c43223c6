"""Drivers and their actors on a real cluster: killed at every step, interrupted, starved, and left by their nodes."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from disturbed import (
    ACTOR_STEPS,
    Disturbed,
    await_that,
    drive,
    go_on,
    is_stopped,
    small_disk,
    small_job,
    start,
    work_off,
)
from tests_shards import members, write_tar

from pipeline.checks.audit import audit

pytestmark = [pytest.mark.ray, pytest.mark.slow]

UNIT = "000000-000002-000004"  # the second of three
SECOND = f":about={UNIT}"


@pytest.fixture
def on_ray(disturbed: Disturbed, ray_cluster: None) -> Disturbed:
    """Drivers that join the tests' cluster."""
    import ray

    disturbed.environment = {"RAY_ADDRESS": ray.get_runtime_context().gcs_address}
    return disturbed


@pytest.mark.parametrize(
    "step",
    [
        "driver-started",
        "after-lease",
        "before-run-record",
        "after-link:kill:about=run.json",
        "after-run-record",
        "after-link:kill:about=manifest/",
        "after-part",
        "before-manifest",
        "after-link:kill:about=manifest.parquet",
        "after-manifest",
        "after-link:kill:about=manifest.json",
        "after-seal",
        "after-link:kill:about=config",
        "after-labels",
        "after-order:kill:skip=1",
        "after-event:kill:skip=2",
        "before-report",
        "before-replace:kill:about=report/report.json",
        "after-replace:kill:about=report/report.json",
        "after-report",
    ],
)
def test_a_driver_killed_at_any_step(on_ray: Disturbed, step: str) -> None:
    assert on_ray.do(drive, step if ":" in step else f"{step}:kill") == -9, on_ray.messages()
    assert on_ray.do(drive) == 0, on_ray.messages()
    on_ray.check("SIGKILL of the driver", step.replace(":kill:", " ").removeprefix("about="), injected=1)


@pytest.mark.parametrize("step", ACTOR_STEPS)
def test_an_actor_killed_at_any_step_is_replaced(on_ray: Disturbed, step: str) -> None:
    assert on_ray.do(drive, f"{step}:kill:about={UNIT}") == 0, on_ray.messages()
    on_ray.check("SIGKILL of an actor", step, injected=1)


def test_actors_killed_over_and_over_get_on(on_ray: Disturbed) -> None:
    points = ("after-read", "after-fsync", "after-publish", "before-commit")
    code = on_ray.do(drive, ";".join(f"{point}:kill:about={UNIT}" for point in points))
    while code == 1:  # a unit that failed four times is left for the next command
        code = on_ray.do(drive)
    assert code == 0, on_ray.messages()
    on_ray.check("SIGKILL of the actors of one unit, four times", "four steps", injected=4)


def test_the_last_unit_is_given_up_and_left_for_the_next_command(on_ray: Disturbed) -> None:
    """It kills whoever writes it, and nobody who probes its samples."""
    code = on_ray.do(drive, "before-stage:kill:times=4:about=000000-000004-000006")
    assert code == 1, on_ray.messages()
    assert len(list(on_ray.run.glob("quarantine/unit-000000-000004-000006.json"))) == 1
    assert on_ray.do(drive) == 0, on_ray.messages()
    on_ray.check("SIGKILL of the actors of the last unit, four times", "before-stage", injected=4)


@pytest.mark.parametrize("step", ACTOR_STEPS)
@pytest.mark.parametrize("action", ["kill-driver", "kill-both"])
def test_a_driver_killed_while_an_actor_works(on_ray: Disturbed, action: str, step: str) -> None:
    assert on_ray.do(drive, f"{step}:{action}{SECOND}") == -9
    assert on_ray.do(drive) == 0, on_ray.messages()
    on_ray.check({"kill-driver": "SIGKILL of the driver", "kill-both": "SIGKILL of both"}[action], step, injected=1)


@pytest.fixture
def apart(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """The environment of a Ray that no other driver finds; the path is short, since sockets lie in the folder."""
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        monkeypatch.setenv("RAY_TMPDIR", folder)
        yield {"RAY_TMPDIR": folder}


@pytest.mark.parametrize("step", ACTOR_STEPS)
def test_a_group_killed_with_its_own_cluster(disturbed: Disturbed, apart: dict[str, str], step: str) -> None:
    disturbed.environment = apart
    assert disturbed.do(drive, f"{step}:kill-group{SECOND}") == -9, disturbed.messages()
    assert disturbed.do(drive) == 0, disturbed.messages()
    disturbed.check("SIGKILL of the process group", step, injected=1)


@pytest.mark.parametrize("action", ["interrupt-driver", "terminate-driver"])
def test_a_driver_that_is_asked_to_stop_drains(on_ray: Disturbed, action: str) -> None:
    assert on_ray.do(drive, f"before-commit:{action}") == 130, on_ray.messages()
    done = len(list(on_ray.run.glob("commits/**/*.json")))
    assert 0 < done < 3
    assert on_ray.do(drive) == 0, on_ray.messages()
    assert on_ray.redone == 0
    on_ray.check({"interrupt-driver": "SIGINT", "terminate-driver": "SIGTERM"}[action], "before-commit", injected=1)


def test_a_driver_that_is_asked_twice_stops_at_once(on_ray: Disturbed) -> None:
    code = on_ray.do(drive, "before-commit:interrupt-driver;before-commit:sleep;before-commit:interrupt-driver:skip=1")
    assert code == 130, on_ray.messages()
    assert on_ray.do(drive) == 0, on_ray.messages()
    on_ray.check("SIGINT, twice", "before-commit", injected=3)


@pytest.mark.parametrize("step", ["after-manifest", "after-labels", "before-report"])
def test_a_driver_that_is_terminated_beside_its_work_ends_as_interrupted(on_ray: Disturbed, step: str) -> None:
    assert on_ray.do(drive, f"{step}:terminate-driver") == 130, on_ray.messages()
    assert on_ray.do(drive) == 0, on_ray.messages()
    on_ray.check("SIGTERM", step, injected=1)


@pytest.mark.parametrize("seconds", [-1e8, 1e8])
@pytest.mark.parametrize("point", ["after-lease", "after-event", "before-commit"])
def test_a_clock_that_jumps_stops_nobody(on_ray: Disturbed, point: str, seconds: float) -> None:
    assert on_ray.do(drive, f"{point}:clock:seconds={seconds}") == 0, on_ray.messages()
    on_ray.check(f"the clock jumps {'ahead' if seconds > 0 else 'back'}", f"{point}, with a driver", injected=1)


def test_a_driver_that_stood_still_while_another_took_over_leaves_its_run_alone(on_ray: Disturbed) -> None:
    """Its host was suspended: its heartbeat is old, and it goes on when the other has done all."""
    zombie = on_ray.begin(drive, "before-run-record:stop:seconds=0")
    await_that(lambda: is_stopped(zombie.pid))
    (lease,) = on_ray.run.glob(".lease/*.json")
    lease.write_text(json.dumps({"host": "another", "boot": "one", "pid": 1, "beat": 0}))
    assert on_ray.do(drive) == 0, on_ray.messages()
    go_on(zombie.pid)
    assert on_ray.end(zombie) == 1
    assert "LeaseHeldError" in on_ray.messages()
    on_ray.check("a zombie driver", "before-run-record", injected=1)


@pytest.mark.parametrize("step", ["before-manifest", "after-manifest"])
def test_a_driver_that_stood_still_while_it_listed_the_shards_leaves_the_run_alone(
    on_ray: Disturbed, step: str
) -> None:
    zombie = on_ray.begin(drive, f"{step}:stop:seconds=0")
    await_that(lambda: is_stopped(zombie.pid))
    (lease,) = on_ray.run.glob(".lease/*.json")
    lease.write_text(json.dumps({"host": "another", "boot": "one", "pid": 1, "beat": 0}))
    assert on_ray.do(drive) == 0, on_ray.messages()
    go_on(zombie.pid)
    assert on_ray.end(zombie) == 1
    on_ray.check("a zombie driver", step, injected=1)


def test_a_second_driver_is_refused_and_disturbs_nobody(on_ray: Disturbed) -> None:
    first = on_ray.begin(drive, "before-commit:sleep:seconds=3:times=2")
    await_that(lambda: any(on_ray.run.glob("metrics/*/*/*.parquet")))
    assert on_ray.do(drive) == 1
    assert "LeaseHeldError" in on_ray.messages()
    assert on_ray.end(first) == 0
    on_ray.check("a second driver", "during the run", by_hand=1)


def test_a_worker_that_outlives_its_driver_changes_nothing(on_ray: Disturbed) -> None:
    """It stands still, on a node that was lost from sight; a driver has done all when it goes on."""
    zombie = on_ray.begin(work_off, f"before-commit:stop:seconds=0{SECOND}")
    await_that(lambda: is_stopped(zombie.pid))
    assert on_ray.do(drive) == 0, on_ray.messages()
    go_on(zombie.pid)
    assert on_ray.end(zombie) == 0
    on_ray.check("a zombie worker", "before-commit", injected=1)


def test_a_disk_that_is_full_for_a_while_costs_attempts(on_ray: Disturbed) -> None:
    assert on_ray.do(drive, "after-write:no-space:times=3") == 0, on_ray.messages()
    on_ray.check("ENOSPC, three times", "after-write", injected=3)


def test_a_disk_that_stays_full_leaves_units_for_the_next_command(on_ray: Disturbed) -> None:
    assert on_ray.do(drive, f"before-stage:no-space:times=4{SECOND}") == 1, on_ray.messages()
    (record,) = [json.loads(path.read_text()) for path in on_ray.run.glob("quarantine/*.json")]
    assert record["kind"] == "exhausted"
    assert "No space left" in record["reason"]
    assert not audit(str(on_ray.run)).ok
    assert on_ray.do(drive) == 0, on_ray.messages()
    assert not list(on_ray.run.glob("quarantine/*.json"))
    on_ray.check("ENOSPC until a unit is given up", "before-stage", injected=4)


@pytest.fixture
def on_small_disk(on_ray: Disturbed, tmp_path: Path) -> Iterator[Callable[[str], None]]:
    """The run lies on a file system of its own; gives a function that mounts it anew with other options."""
    with small_disk(tmp_path / "disk", "16m") as remount:
        on_ray.run = tmp_path / "disk" / "run"
        yield remount


def test_a_disk_that_is_really_full_leaves_units_and_the_driver_says_so(
    on_ray: Disturbed, on_small_disk: Callable[[str], None]
) -> None:
    """Its own log and records cannot be written either; that ends nothing sooner or otherwise."""
    driver = on_ray.begin(drive, f"before-stage:stop:seconds=0{SECOND}")
    await_that(lambda: any(map(is_stopped, actors_of(on_ray.run))))
    filler = on_ray.run.parent / "filler"
    fill(filler)
    go_on(*actors_of(on_ray.run))
    assert on_ray.end(driver) == 1, on_ray.messages()
    assert "No space left" in on_ray.messages()
    filler.unlink()
    assert on_ray.do(drive) == 0, on_ray.messages()
    assert not list(on_ray.run.glob("quarantine/*.json"))
    on_ray.check("a full disk, with a driver", "before-stage", injected=1, by_hand=1)


def test_a_disk_that_turns_read_only_leaves_units_for_the_next_command(
    on_ray: Disturbed, on_small_disk: Callable[[str], None]
) -> None:
    driver = on_ray.begin(drive, "before-stage:stop:seconds=0")  # the first time, so that no file is open
    await_that(lambda: any(map(is_stopped, actors_of(on_ray.run))))
    on_small_disk("ro")
    go_on(*actors_of(on_ray.run))
    assert on_ray.end(driver) == 1, on_ray.messages()
    assert "Read-only" in on_ray.messages()
    on_small_disk("rw")
    assert on_ray.do(drive) == 0, on_ray.messages()
    on_ray.check("a disk turns read-only, with a driver", "before-stage", injected=1, by_hand=1)


def fill(file: Path) -> None:
    """Takes all the space that is left."""
    with file.open("wb", buffering=0) as hoard, suppress(OSError):
        while hoard.write(bytes(4096)):
            pass


@pytest.fixture
def larger(tmp_path: Path, ray_cluster: None, request: pytest.FixtureRequest) -> Iterator[Disturbed]:
    """Twelve units, or another number, on a cluster of nodes of their own."""
    folder = tmp_path / "larger"
    folder.mkdir()
    shard = write_tar(folder / "a.tar", members(0, 2 * getattr(request, "param", 12)))
    process = start(work_off, small_job(shard, folder / "expected"))
    process.join()
    case = Disturbed(folder, shard, folder / "expected")
    yield case
    case.close()


def test_nodes_that_come_and_go(larger: Disturbed, apart: dict[str, str]) -> None:
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        node = cluster.add_node(num_cpus=1)
        cluster.wait_for_nodes()
        larger.environment = {**apart, "RAY_ADDRESS": cluster.address}
        driver = larger.begin(drive, "before-commit:sleep:seconds=5:times=24", actors__max="auto")
        await_that(lambda: len(nodes_of(larger.run)) == 2)
        await_that(lambda: len(list(larger.run.glob("commits/**/*.json"))) > 2)
        cluster.remove_node(node, allow_graceful=False)
        await_that(lambda: "actor lost" in events(larger.run))
        cluster.add_node(num_cpus=1)
        assert larger.end(driver, 180) == 0, larger.messages()
        assert len(nodes_of(larger.run)) == 3
        larger.check("a node is lost, another comes", "during the run", by_hand=2)
    finally:
        cluster.shutdown()


@pytest.mark.parametrize("larger", [36], indirect=True)
def test_nodes_that_drain_die_and_come(larger: Disturbed, apart: dict[str, str]) -> None:
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        dying, draining = cluster.add_node(num_cpus=1), cluster.add_node(num_cpus=1)
        cluster.wait_for_nodes()
        larger.environment = {**apart, "RAY_ADDRESS": cluster.address}
        driver = larger.begin(drive, "before-commit:sleep:seconds=6:times=99", actors__max="auto")
        await_that(lambda: len(nodes_of(larger.run)) == 3)
        await_that(lambda: len(list(larger.run.glob("commits/**/*.json"))) > 1)
        drain(cluster.address, draining.node_id)
        await_that(lambda: "actor left" in events(larger.run))
        cluster.remove_node(dying, allow_graceful=False)
        await_that(lambda: "actor lost" in events(larger.run))
        cluster.add_node(num_cpus=1)
        assert larger.end(driver, 240) == 0, larger.messages()
        log = logged(larger.run)
        (left,) = {line["actor"] for line in log if line["event"] == "actor left"}
        (place,) = [line["node"] for line in log if line["event"] == "actor ready" and line["actor"] == left]
        assert place == draining.node_id
        assert left not in {line["actor"] for line in log if line["event"] == "unit failed"}
        larger.check("a node drains, one is lost, another comes", "during the run", by_hand=3)
    finally:
        cluster.shutdown()


def drain(address: str, node: str) -> None:
    """Gives a node notice, as a cloud does before it takes a spot machine: no new work from now on."""
    import ray
    from ray.core.generated import autoscaler_pb2

    reason = autoscaler_pb2.DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION")
    deadline = (time.time_ns() + 300 * 10**9) // 10**6
    accepted, why = ray._raylet.GcsClient(address=address).drain_node(node, reason, "spot", deadline)
    assert accepted, why


def test_an_object_store_that_is_full_of_others_things_delays_nobody(
    disturbed: Disturbed, apart: dict[str, str]
) -> None:
    from ray.cluster_utils import Cluster

    small = {"num_cpus": 1, "object_store_memory": STORE_BYTES, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=small)
    try:
        disturbed.environment = {**apart, "RAY_ADDRESS": cluster.address}
        full = disturbed.run.parent / "full"
        hoarder = start(hoard, cluster.address, full)
        await_that(full.exists)
        assert disturbed.do(drive) == 0, disturbed.messages()
        assert hoarder.is_alive()
        hoarder.kill()
        hoarder.join()
        disturbed.check("a full Ray object store", "during the run", by_hand=1)
    finally:
        cluster.shutdown()


STORE_BYTES = 80 * 2**20


def hoard(address: str, full: Path) -> None:
    """Holds more in Ray's object store than it has room for."""
    import numpy as np
    import ray

    ray.init(address, log_to_driver=False)
    held = [ray.put(np.zeros(STORE_BYTES // 8, np.uint8)) for _ in range(12)]
    full.touch()
    time.sleep(600)
    assert held


def logged(run: Path) -> list[dict[str, Any]]:
    """What drivers wrote into their logs."""
    return [json.loads(line) for path in run.glob("logs/*.jsonl") for line in path.read_text().splitlines()]


def actors_of(run: Path) -> list[int]:
    """The processes of all actors that were ever ready."""
    return [line["pid"] for line in logged(run) if line["event"] == "actor ready"]


def nodes_of(run: Path) -> set[str]:
    """The nodes on which an actor was ever ready."""
    return {line["node"] for line in logged(run) if line["event"] == "actor ready"}


def events(run: Path) -> set[str]:
    return {line["event"] for line in logged(run)}
