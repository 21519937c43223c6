"""Forms of a network that give the same answers are chosen by the clock, where there is one."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from timm.layers.conv2d_same import Conv2dSame
from torch import Tensor, nn

from ssig.acceleration.choice import ROUNDS, Stopwatch, first_fast
from ssig.acceleration.operators import AlignedConv, InPlaceClamp
from ssig.acceleration.optimise import optimised


@pytest.mark.parametrize(
    ("seconds", "chosen"), [((1.0, 2.0), 0), ((2.0, 1.0), 1), ((1.01, 1.0), 0), ((1.04, 1.0), 1), ((3.0, 2.0, 1.0), 2)]
)
def test_the_first_form_is_kept_unless_another_is_faster(seconds: tuple[float, ...], chosen: int) -> None:
    calls: list[int] = []

    def form(index: int) -> Callable[[], Callable[[], object]]:
        return lambda: lambda: calls.append(index)

    def timed(call: Callable[[], object]) -> float:
        call()
        one_time = 100.0 * (len(calls) <= len(seconds))
        slow_once = 50.0 * (len(calls) == 2 * len(seconds) + 1)
        return seconds[calls[-1]] + one_time + slow_once

    assert first_fast([form(index) for index in range(len(seconds))], timed) == chosen
    assert calls == list(range(len(seconds))) * (1 + ROUNDS)  # in turn


class Padded(nn.Module):
    """A network with unequal padding and an activation that works in place; notes what its passes look like."""

    last = (0, False, False, False)

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = Conv2dSame(3, 6, 3, stride=2), nn.BatchNorm2d(6)
        self.act, self.head = nn.ReLU6(inplace=True), nn.Linear(6, 4)

    def forward(self, points: Tensor) -> Tensor:
        weight = next(self.conv.parameters())
        Padded.last = (
            len(points),
            weight.is_contiguous(memory_format=torch.channels_last),
            isinstance(self.conv, AlignedConv),
            isinstance(self.act, InPlaceClamp),
        )
        logits: Tensor = self.head(self.act(self.norm(self.conv(points))).mean(dim=(2, 3)))
        return logits


@pytest.fixture
def network() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = Padded().eval()
        nn.init.uniform_(network.norm.running_mean, -1, 1)
    return network


@pytest.fixture
def example() -> Tensor:
    return torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("slow", [(), (1,), (2,), (3,), (1, 2, 3)])
def test_what_slows_the_device_is_left_out(network: nn.Module, example: Tensor, slow: tuple[int, ...]) -> None:
    """Slow are channels last (1), padding inside kernels (2) or clamps without copies (3)."""

    def seconds(call: Callable[[], object]) -> float:
        call()
        assert Padded.last[0] == 8
        return 1.0 + sum(Padded.last[index] for index in slow)

    found = optimised(network, example, stopwatch=Stopwatch(8, seconds))
    assert found.folded == 1
    points = example.contiguous(memory_format=found.layout)
    logits = found.network(points)
    assert [index for index in (1, 2, 3) if not Padded.last[index]] == list(slow)
    assert (found.layout == torch.channels_last) == (1 not in slow)
    torch.testing.assert_close(logits, network(example), rtol=1e-4, atol=1e-6)


def test_without_a_clock_every_right_change_is_kept(network: nn.Module, example: Tensor) -> None:
    found = optimised(network, example)
    found.network(example)
    assert Padded.last == (1, True, True, True)


@pytest.mark.parametrize("fitting", [2, 0])
def test_fewer_points_are_timed_where_memory_is_short(network: nn.Module, example: Tensor, fitting: int) -> None:
    sizes = set()

    def seconds(call: Callable[[], object]) -> float:
        call()
        sizes.add(Padded.last[0])
        if Padded.last[0] > fitting:
            raise torch.OutOfMemoryError("no memory")
        return 1.0

    found = optimised(network, example, stopwatch=Stopwatch(8, seconds))
    assert found.layout == torch.channels_last
    assert min(sizes) == max(fitting, 1)


class Single(Padded):
    """Takes one point at a time."""

    def forward(self, points: Tensor) -> Tensor:
        return super().forward(points.reshape(1, 3, 16, 16))


def test_a_network_of_one_point_is_timed_with_one(example: Tensor) -> None:
    sizes = []

    def seconds(call: Callable[[], object]) -> float:
        call()
        sizes.append(Padded.last[0])
        return 1.0

    optimised(Single().eval(), example, stopwatch=Stopwatch(8, seconds))
    assert set(sizes) == {1}
