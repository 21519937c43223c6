"""What the host does beside a device: threads that decode, units in hand, and the switch interval."""

from __future__ import annotations

import sys

import pytest

from pipeline.driver.executor import Member, calls_at_once
from pipeline.unit import beside_device
from pipeline.unit.beside_device import (
    JOBS,
    MOST_DECODERS,
    SWITCH_SECONDS,
    UNITS_ON_A_GPU,
    decoders,
    take_turns_quickly,
    units_in_hand,
)


@pytest.mark.parametrize(
    ("on_device", "on_host", "expected"),
    [(1.0, 0.0, 1), (1.0, 0.5, 2), (1.0, 1.0, 2), (1.0, 1.1, 3), (1.0, 2.5, 4), (1.0, 9.0, 4), (0.0, 1.0, 4)],
)
def test_units_in_hand_hide_the_host(on_device: float, on_host: float, expected: int) -> None:
    assert units_in_hand(on_device, on_host, most=4) == expected


@pytest.mark.parametrize(("on_device", "on_host"), JOBS[:2])
def test_a_gpu_is_kept_busy_while_metrics_are_computed(on_device: float, on_host: float) -> None:
    """Units that take turns: while one is on the device, each of the others has so long for its host's part."""
    assert (UNITS_ON_A_GPU - 1) * on_device >= on_host


def test_a_worker_takes_more_units_where_it_computes_on_a_gpu() -> None:
    rooms = [Member("actor-1", info=info).room for info in ({"device": "cpu"}, {"device": "cuda:0"}, {"gpu": "GPU-1"})]
    assert rooms == [2, UNITS_ON_A_GPU, UNITS_ON_A_GPU]
    assert Member("actor-1").room == 0
    assert calls_at_once(on_gpu=True) == UNITS_ON_A_GPU
    assert calls_at_once(on_gpu=False) == 2


def test_threads_decode_beside_a_gpu_alone() -> None:
    assert [decoders(threads, on_gpu=True) for threads in (1, 2, 4, 64)] == [0, 1, 3, MOST_DECODERS]
    assert {decoders(threads, on_gpu=False) for threads in (1, 2, 64)} == {0}


def test_the_switch_interval_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[float] = []
    monkeypatch.setattr(sys, "setswitchinterval", given.append)
    take_turns_quickly()
    assert given == [SWITCH_SECONDS]
    assert sys.getswitchinterval() > beside_device.SWITCH_SECONDS
