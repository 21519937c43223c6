"""Photographs a second: decoded and resized by Pillow on several threads, and decoded by the device."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import torch
from PIL import Image

from jobs.bench.gpu.networks import pictures
from jobs.bench.gpu.session import LEFT_OUT, Case, Session
from jobs.bench.gpu.timing import rate
from ssig.models import Geometry

GEOMETRY = Geometry((256, 256), (224, 224))
HEIGHT, WIDTH, QUALITY = 375, 500, 92


def cases(session: Session) -> Iterator[Case]:
    """Pillow by threads, then NVIDIA's decoder."""
    data = photograph()
    cores = os.cpu_count() or 1
    for threads in sorted({1, min(4, cores), max(1, cores - 1)}):
        yield f"Pillow, {threads} threads, images/s", partial(_pillow, session, data, threads)
    yield "the device, images/s", partial(_device, session, data)


def photograph() -> bytes:
    """A JPEG of the size of ImageNet's photographs."""
    values = (pictures(1, (HEIGHT, WIDTH))[0].movedim(0, -1) * 255).to(torch.uint8)
    buffer = io.BytesIO()
    Image.fromarray(values.numpy()).save(buffer, "jpeg", quality=QUALITY)
    return buffer.getvalue()


def _pillow(session: Session, data: bytes, threads: int) -> float:
    def one(_: int) -> None:
        GEOMETRY.apply(Image.open(io.BytesIO(data)))

    count = session.pick(64, 2)
    with ThreadPoolExecutor(threads) as pool:
        return rate(session, lambda: list(pool.map(one, range(count))), count, 0.4)


def _device(session: Session, data: bytes) -> Any:
    if not session.on_gpu:
        return {LEFT_OUT: "the device decodes only where it is a GPU"}
    from torchvision.io import decode_jpeg

    raw = [torch.frombuffer(bytearray(data), dtype=torch.uint8)] * 64
    return rate(session, lambda: decode_jpeg(raw, device=session.device), len(raw), 0.4)
