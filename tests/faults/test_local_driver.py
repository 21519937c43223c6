"""Commands that do their units themselves: killed at every step, interrupted, and raced by a second command."""

from __future__ import annotations

import json

import pytest
from disturbed import ACTOR_STEPS, Disturbed, drive
from tampering import in_earlier_form

UNIT = "000000-000002-000004"  # the second of three
DRIVER_STEPS = [
    *("after-lease", "before-run-record", "after-run-record", "after-part", "after-labels"),
    *("before-manifest", "after-manifest", "after-seal"),
    *("after-order", "after-event", "before-report", "after-report"),
]
LOCAL = {"actors__executor": "local"}


@pytest.mark.parametrize("step", [*DRIVER_STEPS, *(f"{step}:kill:about={UNIT}" for step in ACTOR_STEPS)])
def test_a_command_killed_at_any_step_is_resumed(disturbed: Disturbed, step: str) -> None:
    assert disturbed.do(drive, step if ":" in step else f"{step}:kill", **LOCAL) == -9, disturbed.messages()
    assert disturbed.do(drive, **LOCAL) == 0, disturbed.messages()
    disturbed.check("SIGKILL of a command without Ray", step.partition(":")[0], injected=1)


@pytest.mark.parametrize("step", ["before-replace", "after-replace"])
def test_a_run_of_an_earlier_form_is_resumed_with_commits_of_batches(disturbed: Disturbed, step: str) -> None:
    """Its `run.json` names the new form first; killed before or after, the same command goes on."""
    assert disturbed.do(drive, f"before-read:kill:about={UNIT}", **LOCAL) == -9, disturbed.messages()
    in_earlier_form(disturbed.run)
    next(disturbed.run.glob("commits/*/method=gradient/*.json")).unlink()
    before = (disturbed.run / "run.json").read_bytes()
    assert disturbed.do(drive, f"{step}:kill:about=run.json", **LOCAL) == -9, disturbed.messages()
    assert ((disturbed.run / "run.json").read_bytes() == before) == (step == "before-replace")
    assert not list(disturbed.run.glob("commits/batch=*"))
    assert disturbed.do(drive, **LOCAL) == 0, disturbed.messages()
    assert json.loads((disturbed.run / "run.json").read_text())["layout"] == ["batch-commits"]
    folders = [path.parent.name.partition("=")[0] for path in disturbed.run.glob("commits/**/*.json")]
    assert sorted(folders) == ["batch", "batch", "method", "method"]
    disturbed.check("SIGKILL while a run of an earlier form is resumed", step, injected=2)


@pytest.mark.parametrize("action", ["interrupt-driver", "terminate-driver"])
def test_a_command_that_is_asked_to_stop_drains(disturbed: Disturbed, action: str) -> None:
    assert disturbed.do(drive, f"after-read:{action}", **LOCAL) == 130, disturbed.messages()
    assert "finishing the units in flight" in disturbed.messages()
    assert disturbed.do(drive, **LOCAL) == 0, disturbed.messages()
    disturbed.check("SIGINT or SIGTERM of a command without Ray", "after-read", injected=1)


def test_a_command_that_is_asked_twice_ends_at_once(disturbed: Disturbed) -> None:
    """A unit would take another minute."""
    given = "before-read:terminate-driver;after-read:sleep:seconds=1;after-attribute:terminate-driver"
    assert disturbed.do(drive, given, **LOCAL) == 130, disturbed.messages()
    assert disturbed.do(drive, **LOCAL) == 0, disturbed.messages()
    disturbed.check("SIGTERM twice of a command without Ray", "after-attribute", injected=3)


@pytest.mark.parametrize("action", ["no-space", "io-error", "raise"])
def test_a_step_that_fails_costs_an_attempt(disturbed: Disturbed, action: str) -> None:
    assert disturbed.do(drive, f"before-stage:{action}:about={UNIT}", **LOCAL) == 0, disturbed.messages()
    disturbed.check(f"{action} in a command without Ray", "before-stage", injected=1)
