"""What is asked of a device: nothing of the CPU, and of a GPU its share, its name and its memory."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from ssig.acceleration.accelerator import elapsed, keep_to_share, physical_name, synchronise
from ssig.acceleration.ready_replica import _kind

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)


def test_the_cpu_is_asked_for_nothing() -> None:
    synchronise(CPU)
    keep_to_share(CPU, 0.5)
    assert physical_name(CPU) is None
    launched, finished = elapsed(CPU, lambda: sum(range(1000)))
    assert 0 < launched <= finished


def test_settings_are_kept_apart_by_memory_and_share(monkeypatch: pytest.MonkeyPatch) -> None:
    device = SimpleNamespace(total_memory=80 * 2**30, uuid="1234")
    share = 1.0
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA H100")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: device)
    monkeypatch.setattr(torch.cuda, "get_per_process_memory_fraction", lambda index: share)
    whole = _kind(GPU)
    assert whole == f"NVIDIA H100, 1 of 80 GiB, torch {torch.__version__}"
    share = 0.5
    half = _kind(GPU)
    device.total_memory = 40 * 2**30
    assert len({whole, half, _kind(GPU)}) == 3
    assert physical_name(GPU) == "GPU-1234"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_keeps_a_process_to_its_share() -> None:
    whole = _kind(GPU)
    try:
        keep_to_share(GPU, 0.25)
        assert _kind(GPU) != whole
        half = torch.cuda.get_device_properties(GPU).total_memory // 2
        with pytest.raises(torch.OutOfMemoryError):
            torch.empty(half, dtype=torch.uint8, device=GPU)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, GPU)
    assert str(physical_name(GPU)).startswith("GPU-")
    launched, finished = elapsed(GPU, lambda: torch.rand(1000, 1000, device=GPU) @ torch.rand(1000, 1000, device=GPU))
    assert 0 < launched <= finished
