"""A run to export: 24 images under two methods, of which one cannot be decoded and one has no label."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from report_runs import HOSTILE_LABEL, Method, write_run

METHODS = (
    Method("ssig", "ssig", 0.0, signed=False, random=True),
    Method(HOSTILE_LABEL, "ig", 0.3, signed=True, random=False),
)


@pytest.fixture(scope="session")
def written_run(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The second method leads on insertion and deletion, by far."""
    return write_run(tmp_path_factory.mktemp("export"), methods=METHODS)


@pytest.fixture
def lines() -> list[str]:
    """What was told."""
    return []


@pytest.fixture(scope="session")
def earlier_run() -> Path:
    """A run of ssig 0.1.0 with an evaluation."""
    return Path(__file__).resolve().parents[3] / "data" / "run-0.1.0"
