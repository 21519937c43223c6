"""Recordings of passes: padded, one for each size and kind, only where they are equal and faster."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from ssig.acceleration.cuda_graphs import TOLERANCES, CudaRecorder
from ssig.acceleration.ready_replica import fastest
from ssig.engine.device import Device
from ssig.engine.graphs import Compute, Graphs, Seconds, padded
from ssig.engine.replica import Replica
from ssig.models.geometry import Geometry
from ssig.models.model import Model
from ssig.types import SCORE_AND_GRADIENT, Response

LOGITS = frozenset({"logits"})
TOLERANCE = 1e-5


class Tape:
    """A recorder on the CPU with a clock of its own: a pass takes as long as its points, a replay one second.

    Args:
        launched: Python's share of a pass.
        wrong: whether replays repeat the answers of the recording, as if its inputs were constants.
        fails: what recording raises.
    """

    def __init__(self, launched: float = 1.0, wrong: bool = False, fails: Exception | None = None) -> None:
        self.launched, self.wrong, self.fails = launched, wrong, fails
        self.recorded: list[tuple[int, ...]] = []
        self.threads: set[int] = set()
        self.replays = self.released = 0
        self.replay_seconds = 1.0

    def record(self, compute: Compute, points: Tensor, targets: Tensor) -> Compute:
        self.threads.add(threading.get_ident())
        if self.fails is not None:
            raise self.fails
        self.recorded.append(tuple(points.shape))
        constant = compute(points, targets)

        def replay(inputs: Tensor, classes: Tensor) -> Response:
            assert inputs.shape == points.shape
            assert inputs.stride() == points.stride()
            self.replays += 1
            return constant if self.wrong else compute(inputs, classes)

        return replay

    def elapsed(self, call: Callable[[], object]) -> Seconds:
        before = self.replays
        call()
        finished = 10.0 if self.replays == before else self.replay_seconds
        return Seconds(self.launched * finished, finished)

    def release(self) -> None:
        self.released += 1


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 6, 3, stride=2), nn.Linear(6, 3)

    def forward(self, points: Tensor) -> Tensor:
        logits: Tensor = self.head(self.conv(points).tanh().mean(dim=(2, 3)))
        return logits


@pytest.fixture
def network() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Small()


def replica_of(network: nn.Module, tape: Tape, micro_batch: int = 4) -> Replica:
    replica = Replica(network.eval(), micro_batch=micro_batch)
    replica.graphs = Graphs(tape, TOLERANCE)
    return replica


def ask(replica: Replica, count: int, want: frozenset[str] = SCORE_AND_GRADIENT, layer: str | None = None) -> None:
    """Compares the answers at `count` new points with those of the same network without recordings."""
    points = torch.rand(count, 3, 16, 16, generator=torch.Generator().manual_seed(count))
    targets = torch.arange(count) % 3
    found = replica.evaluate(points, targets, "logit", want, layer)
    expected = Replica(replica.model, micro_batch=replica.micro_batch).evaluate(points, targets, "logit", want, layer)
    for name in ("scores", "gradients", "logits", "activations"):
        one, other = getattr(found, name), getattr(expected, name)
        if other is None:
            assert one is None
        else:
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_there_is_one_recording_for_each_size_and_kind(network: nn.Module) -> None:
    tape = Tape()
    replica = replica_of(network, tape)
    for count in (4, 4, 1, 2, 3, 8, 4):
        ask(replica, count)
    assert tape.recorded == [(4, 3, 16, 16)]
    for count in (3, 4, 2):
        ask(replica, count, LOGITS)
    assert tape.recorded == [(4, 3, 16, 16)] * 2
    replica.micro_batch = 2
    for _ in range(3):
        ask(replica, 2)
    assert tape.recorded[2:] == [(2, 3, 16, 16)]


def test_a_kind_that_is_asked_for_once_is_not_recorded(network: nn.Module) -> None:
    tape = Tape()
    ask(replica_of(network, tape), 4)
    assert not tape.recorded


def test_requests_at_a_layer_are_not_recorded(network: nn.Module) -> None:
    tape = Tape()
    replica = replica_of(network, tape)
    for _ in range(3):
        ask(replica, 4, layer="conv")
    assert not tape.recorded


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_padding_repeats_the_last_point_in_the_same_format(layout: torch.memory_format) -> None:
    points = torch.rand(3, 3, 5, 7).contiguous(memory_format=layout)
    found = padded(points, 5)
    assert torch.equal(found[:3], points)
    assert torch.equal(found[3:], points[2:].expand(2, -1, -1, -1))
    assert found.is_contiguous(memory_format=layout)
    assert padded(points, 3) is points
    assert padded(torch.tensor([4, 5]), 4).tolist() == [4, 5, 5, 5]


@pytest.mark.parametrize(("seconds", "launched", "used"), [(1.0, 1.0, True), (10.0, 1.0, False), (1.0, 0.2, False)])
def test_a_recording_is_used_where_it_is_faster(
    network: nn.Module, seconds: float, launched: float, used: bool
) -> None:
    tape = Tape(launched)
    tape.replay_seconds = seconds
    replica = replica_of(network, tape)
    for _ in range(3):
        ask(replica, 4)
    before = tape.replays
    ask(replica, 4)
    assert (tape.replays > before) == used
    assert len(tape.recorded) == (launched == 1.0)  # where the device is the slower side, none is made


@pytest.mark.parametrize(("launched", "used"), [(0.9, True), (0.5, False)])
def test_few_points_are_padded_where_that_is_faster(network: nn.Module, launched: float, used: bool) -> None:
    """Four points take 10 seconds, their replay 8; one point takes Python's share of 10 seconds at least."""
    tape = Tape(launched)
    tape.replay_seconds = 8.0
    replica = replica_of(network, tape)
    for _ in range(2):
        ask(replica, 4)
    before = tape.replays
    ask(replica, 1)
    assert (tape.replays > before) == used


def test_a_recording_with_other_answers_is_not_used(network: nn.Module, caplog: pytest.LogCaptureFixture) -> None:
    tape = Tape(wrong=True)
    replica = replica_of(network, tape)
    with caplog.at_level(logging.WARNING):
        for _ in range(4):
            ask(replica, 4)
    assert tape.replays == len(tape.recorded) == 1
    assert len(caplog.records) == 1
    assert "other answers" in caplog.text


def test_after_a_failed_recording_there_is_one_warning_and_no_other_try(
    network: nn.Module, caplog: pytest.LogCaptureFixture
) -> None:
    tape = Tape(fails=RuntimeError("operation not permitted when stream is capturing"))
    replica = replica_of(network, tape)
    with caplog.at_level(logging.WARNING):
        for want in (SCORE_AND_GRADIENT, LOGITS):
            for _ in range(3):
                ask(replica, 4, want)
    assert [record.getMessage() for record in caplog.records] == [
        "the network runs without CUDA graphs: RuntimeError: operation not permitted when stream is capturing"
    ]
    assert tape.released == 1


def test_without_memory_for_one_recording_the_others_are_made(network: nn.Module) -> None:
    tape = Tape(fails=torch.OutOfMemoryError("no memory"))
    replica = replica_of(network, tape)
    for _ in range(3):
        ask(replica, 4)
    assert tape.released == 1
    assert replica.micro_batch == 4
    tape.fails = None
    for _ in range(2):
        ask(replica, 4, LOGITS)
    assert len(tape.recorded) == 1


class Full(nn.Module):
    """Runs out of memory in a layer's request while a recording is held."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network, self.held = network, False

    def forward(self, points: Tensor) -> Tensor:
        if self.held:
            self.held = False
            raise torch.OutOfMemoryError("no memory")
        logits: Tensor = self.network(points)
        return logits


def test_recordings_are_given_up_before_the_micro_batch_is_halved(network: nn.Module) -> None:
    tape, full = Tape(), Full(network)
    replica = replica_of(full, tape)
    for _ in range(3):
        ask(replica, 4)
    full.held = True
    points = torch.rand(4, 3, 16, 16)
    replica.evaluate(points, torch.zeros(4, dtype=torch.int64), "logit", SCORE_AND_GRADIENT, "network.conv")
    assert replica.micro_batch == 4
    assert tape.released == 1
    for _ in range(3):
        ask(replica, 4)
    assert len(tape.recorded) == 1
    assert replica.graphs is not None
    replica.graphs.clear()  # as after tuning
    for _ in range(3):
        ask(replica, 4)
    assert len(tape.recorded) == 2


def test_the_thread_that_replays_has_recorded(network: nn.Module) -> None:
    tape = Tape()
    replica = replica_of(network, tape)
    for _ in range(2):
        ask(replica, 4)
    assert replica.graphs is not None
    replica.graphs.clear()
    tape.threads.clear()
    device = Device(replica)
    for _ in range(4):
        device.forward(torch.rand(4, 3, 16, 16))
    (thread,) = tape.threads
    device.close()
    assert thread != threading.get_ident()
    assert tape.replays > 0


def test_tuning_records_each_size_and_keeps_none(network: nn.Module) -> None:
    tape, ticks = Tape(), iter(range(10**6))
    replica = replica_of(network, tape)
    setting = fastest(replica, None, torch.rand(1, 3, 16, 16), lambda: float(next(ticks)))
    sizes = [shape[0] for shape in tape.recorded]
    assert sizes == sorted(set(sizes))
    assert setting.micro_batch in sizes
    tape.recorded.clear()
    replica.micro_batch = setting.micro_batch
    for _ in range(2):
        ask(replica, setting.micro_batch)
    assert [shape[0] for shape in tape.recorded] == [setting.micro_batch]


def model_of(network: nn.Module, precision: str) -> Model:
    return Model(
        network,
        name="small",
        mean=torch.full((3,), 0.5),
        std=torch.full((3,), 0.25),
        geometry=Geometry(resize=(16, 16), crop=(16, 16)),
        categories=("a", "b", "c"),
        precision=precision,
    )


def test_in_fp16_the_second_try_of_a_gradient_is_no_part_of_a_recording(
    network: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ssig.engine.replica.finite", lambda gradients: torch.arange(len(gradients)) > 0)
    tape = Tape()
    replica = replica_of(model_of(network, "fp16"), tape)
    replica.graphs = Graphs(tape, 1e-2)
    for _ in range(3):
        ask(replica, 4)
    assert tape.recorded == [(4, 3, 16, 16)]
    assert tape.replays > 1


def test_a_pass_neither_waits_for_a_device_nor_copies_from_the_host() -> None:
    """On the pretend device, where a GPU's recording would fail; but for networks that do so themselves."""
    support = Path(__file__).resolve().parents[2] / "support"
    path = os.pathsep.join((str(support.parents[1]), str(support)))
    done = subprocess.run(
        [sys.executable, str(support / "recorded_on_pretend_device.py")],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    faults = json.loads(done.stdout)
    assert "waits for" in faults.pop("Waits")
    assert "copies from the host" in faults.pop("Copies")
    assert len(faults) == 21
    assert not any(faults.values()), faults


class Timed(CudaRecorder):
    """Records for real; by its clock every replay is the faster side."""

    def elapsed(self, call: Callable[[], object]) -> Seconds:
        call()
        self.calls = getattr(self, "calls", 0) + 1
        return Seconds(1.0, 1.0) if self.calls % 2 else Seconds(2.0, 2.0)


class Waits(Small):
    """Waits for the device in its pass."""

    def forward(self, points: Tensor) -> Tensor:
        return super().forward(points) * float(points.new_ones(1).item())


needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_cuda_graphs_give_the_answers_of_plain_passes(network: nn.Module, precision: str) -> None:
    device = torch.device("cuda")
    replica = Replica(model_of(network, precision).to(device), micro_batch=4)
    replica.graphs = Graphs(Timed(device), TOLERANCES[precision])
    for want in (SCORE_AND_GRADIENT, LOGITS):
        for count in (4, 4, 3, 1, 6):
            ask(replica, count, want)


@pytest.mark.gpu
@needs_gpu
def test_a_network_that_waits_for_the_gpu_runs_without_graphs(caplog: pytest.LogCaptureFixture) -> None:
    device = torch.device("cuda")
    replica = Replica(model_of(Waits(), "fp32").to(device), micro_batch=4)
    replica.graphs = Graphs(Timed(device), TOLERANCES["fp32"])
    for _ in range(4):
        ask(replica, 4)
    assert len(caplog.records) == 1
    assert "runs without CUDA graphs" in caplog.text
