"""The machine: its card, driver and libraries, and how fast it copies and multiplies."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Iterator
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from jobs.bench.gpu.session import Case, Session
from jobs.bench.gpu.timing import rate

PACKAGES = (
    *("triton", "torchvision", "timm", "captum", "scipy", "scikit-image", "scikit-learn", "pillow", "safetensors"),
    *("typer", "rich"),
)


def cases(session: Session) -> Iterator[Case]:
    """Libraries and card, then rates of the card alone, by which all others are judged."""
    yield "libraries", libraries
    yield "processor", processor
    yield "card", partial(card, session)
    if session.on_gpu:
        yield "copy, TB/s", partial(_copies, session)
        for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16)):
            yield f"{name} products, TFLOP/s", partial(_products, session, dtype)
        for pinned in (True, False):
            name = "pinned" if pinned else "pageable"
            yield f"host to device, {name}, GB/s", partial(_transfers, session, pinned)


def libraries() -> dict[str, str | None]:
    """Versions; None for a package that is not installed."""
    found: dict[str, str | None] = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
    }
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


def processor() -> dict[str, Any]:
    """The host's processor, its cores, and the threads of torch."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        text = ""
    named = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return {
        "name": named[1] if named else platform.processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads of torch": torch.get_num_threads(),
    }


def card(session: Session) -> dict[str, Any]:
    """The device: name, memory, driver, and torch's defaults for it."""
    if not session.on_gpu:
        return {"name": "CPU", "driver": None}
    properties = torch.cuda.get_device_properties(session.device)
    return {
        "name": properties.name,
        "memory, GiB": round(properties.total_memory / 2**30, 1),
        "capability": f"{properties.major}.{properties.minor}",
        "multiprocessors": properties.multi_processor_count,
        "driver": driver(),
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),  # type: ignore[no-untyped-call]
        "cudnn benchmark": torch.backends.cudnn.benchmark,
    }


def driver() -> str | None:
    """The version of NVIDIA's driver, as its kernel module states it; None if it states none."""
    try:
        text = Path("/proc/driver/nvidia/version").read_text(encoding="utf-8")
    except OSError:
        return None
    found = re.search(r"\b(\d{3,}\.\d+(?:\.\d+)?)\b", text)
    return found[1] if found else None


def _copies(session: Session) -> float:
    values = torch.empty(2**28, device=session.device)
    others = torch.empty_like(values)
    return round(rate(session, lambda: others.copy_(values), 2 * values.numel() * 4, 0.2) / 1e12, 2)


def _products(session: Session, dtype: torch.dtype) -> float:
    side = 8192
    left, right = (torch.randn(side, side, device=session.device, dtype=dtype) for _ in range(2))
    return round(rate(session, lambda: left @ right, 2 * side**3, 0.2) / 1e12, 1)


def _transfers(session: Session, pinned: bool) -> float:
    host = torch.zeros(64, 3, 224, 224, pin_memory=pinned)
    return round(rate(session, lambda: host.to(session.device, non_blocking=pinned), host.numel() * 4, 0.2) / 1e9, 1)
