"""The points at which tests let a process fail: each that is passed is named, and nothing happens at one by itself."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.storage import fault_points

PIPELINE = Path(fault_points.__file__).parents[1]


def passed() -> set[str]:
    """The points that the product passes."""
    calls = (node for path in PIPELINE.rglob("*.py") for node in ast.walk(ast.parse(path.read_text())))
    return {
        node.args[0].value
        for node in calls
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) == "fault_points.point"
        and isinstance(node.args[0], ast.Constant)
        and isinstance(node.args[0].value, str)
    }


def test_each_point_that_is_passed_has_a_name_and_each_name_a_point() -> None:
    assert passed() == set(fault_points.POINTS)


def test_a_point_does_what_the_hook_does(monkeypatch: pytest.MonkeyPatch) -> None:
    fault_points.point("after-read", "unit")
    seen: list[tuple[str, str]] = []
    monkeypatch.setattr(fault_points, "hook", lambda *arguments: seen.append(arguments))
    fault_points.point("after-read", "unit")
    assert seen == [("after-read", "unit")]


def test_the_environment_sets_no_hook(tmp_path: Path) -> None:
    """The variables of the tests' own faults mean nothing to the product."""
    code = "from pipeline.storage import fault_points; fault_points.point('after-read'); print(fault_points.hook)"
    environment = {
        "PYTHONPATH": str(PIPELINE.parent),
        "SSIG_FAULTS": "after-read:kill",
        "SSIG_FAULTS_FOLDER": str(tmp_path),
    }
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert result.stdout == "None\n"
