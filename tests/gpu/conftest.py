"""Tests that need a CUDA device; without one they are skipped. They also run from the bundle of `make gpu-bundle`."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from jobs.bench.gpu.session import Session

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))


def pytest_configure(config: pytest.Config) -> None:
    """The marker is known also where the project's settings are not at hand."""
    config.addinivalue_line("markers", "gpu: needs a CUDA device")


@pytest.fixture
def cuda() -> torch.device:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    return torch.device("cuda", torch.cuda.current_device())


@pytest.fixture
def session(cuda: torch.device) -> Session:
    return Session(cuda)
