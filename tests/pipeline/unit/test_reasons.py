"""Why something of another library failed, on one line: the Python error, not what stands before it."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.driver.actor import AttributionActor, reason_of, remote_class
from pipeline.driver.pool import Pool
from pipeline.unit.setup import WorkerSetup
from ssig.errors import message_line, one_line

OF_RAY = """The actor died because of an error raised in its creation task, \x1b[36mray::Actor.__init__()\x1b[39m
  File "/somewhere/actor.py", line 84, in __init__
    model = restore(state, device=device)
            ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
  File "/somewhere/loading.py", line 9, in restore
    import networks
ModuleNotFoundError: No module named 'networks'"""

OF_TORCH = """Error(s) in loading state_dict for Tiny:
\tMissing key(s) in state_dict: "body.0.weight"."""


def test_of_a_traceback_only_the_last_error_is_shown() -> None:
    assert message_line(OF_RAY) == "ModuleNotFoundError: No module named 'networks'"
    assert one_line(RuntimeError(OF_RAY)) == "ModuleNotFoundError: No module named 'networks'"
    chained = f"{OF_RAY}\n\nThe above exception was the direct cause of:\n{OF_RAY.replace('networks', 'other')}"
    assert message_line(chained) == "ModuleNotFoundError: No module named 'other'"
    own = OF_RAY.replace("ModuleNotFoundError:", "ssig.errors.ModelError:")
    assert message_line(own) == "ModelError: No module named 'networks'"


def test_of_several_lines_none_is_dropped() -> None:
    reason = one_line(RuntimeError(OF_TORCH))
    assert reason.startswith("RuntimeError: Error(s) in loading state_dict for Tiny: Missing key(s)")
    assert "body.0.weight" in reason
    assert "\n" not in reason
    assert one_line(KeyError()) == "KeyError"
    assert len(one_line(ValueError("x" * 10_000))) < 1000


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_an_actor_that_cannot_start_says_why(tmp_path: Path) -> None:
    setup = WorkerSetup(None, {}, str(tmp_path), 0, 1)  # type: ignore[arg-type]
    remote = remote_class(AttributionActor, num_cpus=0, num_gpus=0)
    pool = Pool(lambda: remote.remote(setup))
    pool.start()
    events = pool.wait(60)
    assert [event.kind for event in events] == ["lost"]
    assert "ray::" not in events[0].reason
    assert events[0].reason.startswith("AttributeError: ")
    assert "NoneType" in events[0].reason


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_a_process_that_died_says_how() -> None:
    import os

    import ray
    from ray.exceptions import RayActorError

    class Dying:
        def end(self) -> None:
            os._exit(1)

    actor = ray.remote(Dying).options(num_cpus=0).remote()
    with pytest.raises(RayActorError) as died:
        ray.get(actor.end.remote())
    reason = reason_of(died.value)
    assert reason.startswith("The actor died unexpectedly")
    assert "\n" not in reason
    assert "class_name" not in reason
