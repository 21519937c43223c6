"""Tests that need a CUDA device: skipped where there is none."""

from __future__ import annotations

import pytest
import torch


def pytest_configure(config: pytest.Config) -> None:
    """Known also where the project's settings are not at hand, as in the bundle for such a machine."""
    config.addinivalue_line("markers", "gpu: needs a CUDA device")


@pytest.fixture
def cuda() -> torch.device:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    return torch.device("cuda", torch.cuda.current_device())
