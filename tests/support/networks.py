"""Small networks that jobs in tests name as `networks:NAME`."""

from __future__ import annotations

import ctypes
import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

CLASSES = 8


def draw_weights(network: nn.Module) -> None:
    """Gives layers the weights that torch's own initialisation draws, to the same bits on every processor.

    `uniform_` scales its numbers in a kernel, which rounds otherwise with AVX2 than with AVX-512: hashes of weights
    that are stored in `tests/data` would hold on some machines only. `rand` scales nothing.
    """
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for layer in network.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                bound = layer.weight[0].numel() ** -0.5
                for weights in (layer.weight, layer.bias):
                    weights.copy_((2 * torch.rand(weights.shape, generator=generator) - 1) * bound)


class Tiny(nn.Module):
    """A smooth convolutional network on 32 x 32 pixels: pixels interact and no kink makes results jump.

    It has the same weights every time.
    """

    input_size = (32, 32)
    mean = (0.5, 0.5, 0.5)
    std = (0.25, 0.25, 0.25)
    categories = tuple(f"class {index}" for index in range(CLASSES))

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            self.body = nn.Sequential(
                nn.Conv2d(3, 8, 5, stride=2, padding=2),
                nn.Softplus(),
                nn.Conv2d(8, 16, 3, stride=2, padding=1),
                nn.Tanh(),
                nn.AdaptiveAvgPool2d(2),
                nn.Flatten(),
                nn.Linear(64, CLASSES),
            )
        draw_weights(self)

    def forward(self, points: Tensor) -> Tensor:
        return self.body(points) * 10


def tiny() -> nn.Module:
    return Tiny().eval()


class Picky(Tiny):
    """Fails on white images, in one of several ways."""

    def __init__(self, fail: Callable[[], None]) -> None:
        super().__init__()
        self.fail = fail

    def forward(self, points: Tensor) -> Tensor:
        if bool((points.flatten(1).mean(dim=1) > 0.98).any()):
            self.fail()
        return super().forward(points)


def picky(fail: Callable[[], None]) -> nn.Module:
    return Picky(fail).eval()


def raises_on_white() -> nn.Module:
    def fail() -> None:
        raise ValueError("too bright to see")

    return picky(fail)


def dies_on_white() -> nn.Module:
    return picky(lambda: os._exit(139))


def segfaults_on_white() -> nn.Module:
    """As native code does that reads where nothing is."""
    return picky(lambda: ctypes.string_at(0) and None)


def hangs_on_white() -> nn.Module:
    return picky(lambda: time.sleep(3600))


def exhausts_memory_on_white() -> nn.Module:
    """Asks for more memory than the process may have."""

    def fail() -> None:
        limits = resource.getrlimit(resource.RLIMIT_AS)
        held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (held + 2**28, limits[1]))
        try:
            hoard = [torch.ones(2**24) for _ in range(2**10)]
            raise RuntimeError(f"{len(hoard)} times 64 MB were there")
        finally:
            resource.setrlimit(resource.RLIMIT_AS, limits)

    return picky(fail)


def gives_nan_on_white() -> nn.Module:
    class Nan(Tiny):
        def forward(self, points: Tensor) -> Tensor:
            white = points.flatten(1).mean(dim=1, keepdim=True) > 0.98
            return torch.where(white, torch.nan, 1.0) * super().forward(points)

    return Nan().eval()


def breaks_the_device_on_white() -> nn.Module:
    """As an assert on the device does: whatever the process computes afterwards fails too."""

    class Asserts(Tiny):
        is_broken = False

        def forward(self, points: Tensor) -> Tensor:
            self.is_broken |= bool((points.flatten(1).mean(dim=1) > 0.98).any())
            if self.is_broken:
                raise torch.AcceleratorError("CUDA error: device-side assert triggered")
            return super().forward(points)

    return Asserts().eval()


def fails_once_sick() -> nn.Module:
    """Fails for ever in a process in which the fault `sicken` has fired."""

    class Sick(Tiny):
        def forward(self, points: Tensor) -> Tensor:
            if "SSIG_TEST_DEVICE_FAILED" in os.environ:
                raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")
            return super().forward(points)

    return Sick().eval()


def computes_wrongly_in_actors() -> nn.Module:
    """A sick GPU that raises nothing."""

    class Wrong(Tiny):
        def forward(self, points: Tensor) -> Tensor:
            return super().forward(points) * (1.5 if "default_worker" in sys.argv[0] else 1)

    return Wrong().eval()


def raises_on_photographs() -> nn.Module:
    """Broken, but not on points that are made up: pixels of stored images are whole numbers of 1/255."""

    class Broken(Tiny):
        def forward(self, points: Tensor) -> Tensor:
            numbers = 255 * (0.25 * points + 0.5)
            stored = ((numbers - numbers.round()).abs() < 1e-3).flatten(1).all(dim=1)
            if bool((stored & (numbers.flatten(1).std(dim=1) > 0)).any()):
                raise RuntimeError("this network is broken")
            return super().forward(points)

    return Broken().eval()


def always_raises() -> nn.Module:
    class Broken(Tiny):
        def forward(self, points: Tensor) -> Tensor:
            if bool(points.any()):
                raise RuntimeError("this network is broken")
            return super().forward(points)

    return Broken().eval()


def only_in_the_driver() -> nn.Module:
    """As a module does that is not installed where the actors are."""
    if "default_worker" in sys.argv[0]:
        raise RuntimeError("not in this process")
    return tiny()
