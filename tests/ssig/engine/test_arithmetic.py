"""The switches of float32 arithmetic are those of the precision while a network runs, and the user's own after it."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from ssig.acceleration.ready_replica import ready_replica
from ssig.engine.arithmetic import arithmetic
from ssig.engine.replica import Replica
from ssig.errors import UsageError
from ssig.models.geometry import Geometry
from ssig.models.model import PRECISIONS, Model
from ssig.types import SCORE, SCORE_AND_GRADIENT

PLACES: tuple[Callable[[], str], ...] = (
    lambda: torch.backends.cudnn.conv.fp32_precision,
    lambda: torch.backends.cudnn.rnn.fp32_precision,
    lambda: torch.backends.cuda.matmul.fp32_precision,
    lambda: torch.backends.mkldnn.conv.fp32_precision,
    lambda: torch.backends.mkldnn.rnn.fp32_precision,
    lambda: torch.backends.mkldnn.matmul.fp32_precision,
)
EXPECTED = {"fp32": "ieee", "tf32": "tf32", "fp16": "ieee", "bf16": "ieee"}


def switches() -> list[str]:
    return [str(place()) for place in PLACES]


class Recorder(nn.Module):
    """Notes the switches forwards and backwards, and fails on white."""

    seen: list[tuple[str, list[str]]]

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 4, 3), nn.Linear(4, 5)
        self.seen = []

    def __deepcopy__(self, memo: dict[int, object]) -> Recorder:
        return self

    def forward(self, points: Tensor) -> Tensor:
        self.seen.append(("forward", switches()))
        if bool((points > 1.9).all()):
            raise ValueError("too bright")
        hidden = self.conv(points)
        if hidden.requires_grad:
            hidden.register_hook(lambda gradient: self.seen.append(("backward", switches())))
        logits: Tensor = self.head(hidden.tanh().mean(dim=(2, 3)))
        return logits


def recording(precision: str) -> tuple[Model, Recorder]:
    recorder = Recorder()
    model = Model(
        recorder,
        name="recorder",
        mean=torch.zeros(3),
        std=torch.full((3,), 0.5),
        geometry=Geometry(resize=(8, 8), crop=(8, 8)),
        categories=tuple("abcde"),
        precision=precision,
    )
    return model, recorder


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("lanes", [False, True])
def test_switches_are_set_within_an_evaluation_and_put_back(precision: str, lanes: bool) -> None:
    model, recorder = recording(precision)
    before = switches()
    threads = torch.get_num_threads()
    if lanes:
        torch.set_num_threads(2)
    try:
        replica = ready_replica(model, micro_batch=2) if lanes else Replica(model)
    finally:
        torch.set_num_threads(threads)
    assert (replica.lanes is not None) == lanes
    recorder.seen.clear()
    replica.evaluate(torch.rand(2, 3, 8, 8), torch.tensor([0, 1]), "logit", SCORE_AND_GRADIENT)
    assert {place for place, _ in recorder.seen} == {"forward", "backward"}
    assert all(found == [EXPECTED[precision]] * len(PLACES) for _, found in recorder.seen)
    assert switches() == before


def test_they_are_put_back_after_an_error() -> None:
    model, recorder = recording("tf32")
    before = switches()
    with pytest.raises(ValueError, match="too bright"):
        Replica(model).evaluate(torch.ones(1, 3, 8, 8), torch.tensor([0]), "logit", SCORE)
    assert recorder.seen[0][1] == ["tf32"] * len(PLACES)
    assert switches() == before


def test_what_the_user_has_set_is_put_back_and_holds_for_the_users_own_callables() -> None:
    _, recorder = recording("fp32")
    was = torch.backends.cuda.matmul.fp32_precision
    torch.backends.cuda.matmul.fp32_precision = "tf32"
    try:
        before = switches()
        Replica(recorder.eval()).evaluate(torch.rand(1, 3, 8, 8), torch.tensor([0]), "logit", SCORE)
        assert recorder.seen[-1][1] == before
        with arithmetic("fp32"):
            assert switches() == ["ieee"] * len(PLACES)
        assert switches() == before
    finally:
        torch.backends.cuda.matmul.fp32_precision = was


def test_evaluations_of_one_precision_overlap_and_those_of_another_wait() -> None:
    before = switches()
    together = threading.Barrier(2)
    seen: list[list[str]] = []

    def work(precision: str, meet: bool) -> None:
        for _ in range(20):
            with arithmetic(precision):
                if meet:
                    together.wait(30)
                seen.append([precision, *set(switches())])

    threads = [threading.Thread(target=work, args=("fp32", True)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    threads = [threading.Thread(target=work, args=(name, False)) for name in ("fp32", "tf32", "bf16", "tf32")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    assert len(seen) == 6 * 20
    assert all(found == [EXPECTED[precision]] for precision, *found in seen)
    assert switches() == before


def test_one_within_another() -> None:
    with arithmetic("fp32"):
        with arithmetic("bf16"):  # the same switches
            assert switches() == ["ieee"] * len(PLACES)
        assert switches() == ["ieee"] * len(PLACES)
        with pytest.raises(RuntimeError, match="ieee arithmetic cannot start one in tf32"), arithmetic("tf32"):
            pass


def test_unknown_precisions_are_refused_with_the_four_names() -> None:
    with pytest.raises(UsageError, match="one of fp32, tf32, fp16, bf16"):
        recording("fp8")
