"""Lanes: the answers of one evaluation, at the same time, with shared tensors and modules of their own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn

from ssig.acceleration.ready_replica import ready_replica
from ssig.acceleration.tuning import TuningCache
from ssig.api import attribute
from ssig.engine.lanes import MOST_LANES, Lanes, lanes_for
from ssig.engine.replica import Replica
from ssig.models import load_model
from ssig.types import SCORE_AND_GRADIENT, Response

ALL = SCORE_AND_GRADIENT | {"logits"}


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def with_lanes(network: nn.Module, count: int = 2, micro_batch: int = 4) -> Replica:
    replica = Replica(network, micro_batch=micro_batch)
    replica.lanes = Lanes(network, count, threads=2)
    return replica


class Meeting(nn.Module):
    """Passes points on when a second call has come in too; refuses points that are all of one value above 1."""

    def __init__(self, network: nn.Module, parties: int) -> None:
        super().__init__()
        self.network = network
        self.meeting = threading.Barrier(parties)
        self.threads: list[tuple[str, int]] = []
        self.eval()

    def __deepcopy__(self, memo: dict[int, object]) -> Meeting:
        return self

    def forward(self, points: Tensor) -> Tensor:
        self.threads.append((threading.current_thread().name, torch.get_num_threads()))
        self.meeting.wait(timeout=30)
        if bool((points.flatten(1).amin(dim=1) > 1).any()):
            raise ValueError("too bright")
        logits: Tensor = self.network(points)
        return logits


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("points", [1, 2, 3, 5, 9])
@pytest.mark.parametrize("layer", [None, "2", "last-conv", "penultimate"])
def test_answers_are_those_of_one_evaluation(cnn: nn.Module, count: int, points: int, layer: str | None) -> None:
    given = torch.rand(points, 3, 10, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    targets = torch.arange(points) % 5
    want = frozenset() if layer == "penultimate" else ALL
    expected, found = (
        replica.evaluate(given, targets, "logit", frozenset(want), layer)
        for replica in (Replica(cnn), with_lanes(cnn, count))
    )
    for one, other in zip(vars(found).values(), vars(expected).values(), strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-15)


def test_targets_may_weigh_several_classes(cnn: nn.Module, images: Tensor) -> None:
    weights = torch.rand(5, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected, found = (
        replica.evaluate(images, weights, "logit", SCORE_AND_GRADIENT) for replica in (Replica(cnn), with_lanes(cnn))
    )
    assert found.gradients is not None
    assert expected.gradients is not None
    torch.testing.assert_close(found.gradients, expected.gradients, rtol=1e-12, atol=1e-15)


@pytest.mark.usefixtures("two_threads")
def test_lanes_compute_at_the_same_time_each_with_its_share_of_the_threads(cnn: nn.Module, images: Tensor) -> None:
    meeting = Meeting(cnn, parties=2)
    before = torch.get_num_threads()
    replica = with_lanes(meeting)
    replica.evaluate(images[:4], torch.zeros(4, dtype=torch.int64), "logit", SCORE_AND_GRADIENT)
    assert len({name for name, _ in meeting.threads}) == 2
    assert [threads for _, threads in meeting.threads] == [1, 1]
    assert torch.get_num_threads() == before


def test_an_error_in_one_lane_is_raised_when_all_are_done(cnn: nn.Module, images: Tensor) -> None:
    replica = with_lanes(Meeting(cnn, parties=2))
    bright = torch.cat([images[:2], torch.full_like(images[:2], 2)])
    targets = torch.zeros(4, dtype=torch.int64)
    with pytest.raises(ValueError, match="too bright"):
        replica.evaluate(bright, targets, "logit", SCORE_AND_GRADIENT)
    logits = replica.evaluate(images[:4], targets, "logit", ALL).logits
    assert logits is not None
    assert len(logits) == 4


def test_memory_that_runs_out_halves_the_micro_batch(cnn: nn.Module, images: Tensor) -> None:
    class Small(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = cnn

        def forward(self, points: Tensor) -> Tensor:
            if len(points) > 1:
                raise torch.OutOfMemoryError
            return cnn(points)

    replica = with_lanes(Small().eval())
    response = replica.evaluate(images, torch.zeros(5, dtype=torch.int64), "logit", ALL)
    assert replica.size(ALL) == 2
    assert len(response.scores) == 5  # type: ignore[arg-type]


def test_copies_share_their_tensors_and_nothing_else(cnn: nn.Module) -> None:
    lanes = Lanes(cnn, 3, threads=2)
    assert lanes.networks[0] is cnn
    for copied in lanes.networks[1:]:
        for (name, tensor), (_, own) in zip(copied.state_dict().items(), cnn.state_dict().items(), strict=True):
            assert tensor.data_ptr() == own.data_ptr(), name
        assert not set(copied.modules()) & set(cnn.modules())


@pytest.mark.parametrize(("threads", "lanes"), [(0, 1), (1, 1), (2, 2), (MOST_LANES, MOST_LANES), (64, MOST_LANES)])
def test_there_is_a_lane_for_each_thread_up_to_a_number(threads: int, lanes: int) -> None:
    assert lanes_for(threads) == lanes


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_maps_of_a_real_network_are_those_without_lanes(two_threads: None, precision: str) -> None:
    replica = ready_replica(load_model("efficientnet-lite0", precision=precision), micro_batch=4)
    lanes, replica.lanes = replica.lanes, None
    assert lanes is not None
    images = torch.rand(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    expected = attribute(replica, images, [281, 967], "ssig", samples=3)
    replica.lanes = lanes
    found = attribute(replica, images, [281, 967], "ssig", samples=3)
    distance = (found.map - expected.map).flatten(1).norm(dim=1) / expected.map.flatten(1).norm(dim=1)
    # Another number of threads: kinks of ReLU6 flip, in low precision by more.
    assert float(distance.median()) <= (5e-3 if precision == "fp32" else 5e-2)


def test_what_is_faster_is_measured_and_remembered(two_threads: None, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load_model("efficientnet-lite0")
    now = [0.0]

    def timed(cost: dict[bool, float]) -> Callable[..., Response]:
        def evaluated(self: Replica, points: Tensor, *given: object) -> Response:
            now[0] += cost[self.lanes is not None] * len(points)
            return Response(torch.zeros(len(points)), torch.zeros_like(points))

        return evaluated

    for faster in (True, False):
        monkeypatch.setattr(Replica, "evaluate", timed({faster: 0.1, not faster: 0.2}))
        sizes = TuningCache()
        replica = ready_replica(model, sizes=sizes, timer=lambda: now[0])
        assert (replica.lanes is not None) == faster
        again = ready_replica(model, sizes=sizes, timer=lambda: pytest.fail("measured again"))
        assert (again.micro_batch, again.lanes is not None) == (replica.micro_batch, faster)
