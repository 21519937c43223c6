"""A replica halves the kind that does not fit, checks targets on the host, and overflows late on an accelerator."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from ssig.engine import replica as replica_module
from ssig.engine.jobs import group_of, method_job
from ssig.engine.micro_batches import Engine, Job, run
from ssig.engine.replica import Replica, device_of
from ssig.errors import ModelError
from ssig.models.geometry import Geometry
from ssig.models.model import Model
from ssig.randomness import stream
from ssig.registry import METHODS
from ssig.types import SCORE, SCORE_AND_GRADIENT

GRADIENT = frozenset({"gradient"})


class Hungry(nn.Module):
    """A network that takes at most so many points with gradients, and any number without."""

    def __init__(self, network: nn.Module, fits: int) -> None:
        super().__init__()
        self.network, self.fits = network, fits
        self.seen: list[int] = []

    def forward(self, points: Tensor) -> Tensor:
        if points.requires_grad and len(points) > self.fits:
            raise torch.OutOfMemoryError("more points than fit")
        self.seen.append(len(points))
        return self.network(points)


@pytest.fixture
def accelerated(monkeypatch: pytest.MonkeyPatch) -> None:
    """The replica takes the CPU for a device with a queue of its own."""
    monkeypatch.setattr(replica_module, "is_accelerator", lambda device: True)


def test_what_does_not_fit_is_halved_and_nothing_else(cnn: nn.Module, images: Tensor, targets: Tensor) -> None:
    network = Hungry(cnn, fits=2).eval()
    replica = Replica(network, micro_batch=5)
    replica.evaluate(images, targets, "logit", SCORE_AND_GRADIENT)
    assert replica.size(SCORE_AND_GRADIENT) == 2
    assert replica.size(SCORE) == replica.size(SCORE_AND_GRADIENT, "network.0") == replica.micro_batch == 5
    network.seen.clear()
    replica.evaluate(images, targets, "logit", SCORE)
    replica.evaluate(images, targets, "logit", SCORE_AND_GRADIENT)
    assert network.seen == [5, 2, 2, 1]


def test_another_micro_batch_is_tried_from_its_start(cnn: nn.Module, images: Tensor, targets: Tensor) -> None:
    replica = Replica(Hungry(cnn, fits=2).eval(), micro_batch=5)
    replica.evaluate(images, targets, "logit", SCORE_AND_GRADIENT)
    replica.micro_batch = 5
    assert replica.size(SCORE_AND_GRADIENT) == 2
    replica.micro_batch = 4
    assert replica.size(SCORE_AND_GRADIENT) == 4


def test_the_engine_fills_the_micro_batch_of_each_kind(cnn: nn.Module, images: Tensor, targets: Tensor) -> None:
    network = Hungry(cnn, fits=2).eval()
    replica = Replica(network, micro_batch=5)
    for _ in range(2):
        network.seen.clear()
        list(run(replica, jobs(images, targets, samples=6)))
    # The scores of images and baselines, then gradients at 6 points an image.
    assert network.seen == [5, 5] + [2, 2, 1] * 6


def jobs(images: Tensor, targets: Tensor, samples: int, size: int = 5) -> Iterator[Job[int]]:
    spec = METHODS["ssig-signed"]
    options = spec.parse({"samples": samples, "baseline": "black"})
    for start in range(0, len(images), size):
        span = slice(start, start + size)
        streams = tuple(stream(0, "s", str(k), spec.name) for k in range(len(images)))[span]
        group = group_of(options, images[span], targets[span], streams, mean=torch.zeros(3))
        yield method_job(start, spec, options, group)


@pytest.mark.parametrize("on_accelerator", [False, True])
@pytest.mark.parametrize("wrong", [-1, 5, 2**40])
def test_a_target_that_is_no_class_is_named(
    cnn: nn.Module, images: Tensor, wrong: int, on_accelerator: bool, request: pytest.FixtureRequest
) -> None:
    if on_accelerator:
        request.getfixturevalue("accelerated")
    targets = torch.tensor([0, 1, wrong, 3, 4])
    replica = Replica(cnn)
    for want in (SCORE, GRADIENT):
        with pytest.raises(ModelError, match=f"target class {wrong} of a network with 5 classes, 0 to 4$"):
            replica.evaluate(images, targets, "logit", want)


@pytest.mark.parametrize("width", [1, 4, 6])
def test_weights_of_another_number_of_classes_are_named(cnn: nn.Module, images: Tensor, width: int) -> None:
    with pytest.raises(ModelError, match=f"weights of {width} classes for a network with 5 classes"):
        Replica(cnn).evaluate(images, torch.ones(5, width), "logit", SCORE)


def test_no_target_reaches_an_accelerator_before_it_is_checked(
    cnn: nn.Module, images: Tensor, accelerated: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    scored: list[Tensor] = []

    def score(logits: Tensor, targets: Tensor, name: str) -> Tensor:
        scored.append(targets)
        return logits[:, 0]

    monkeypatch.setattr(replica_module, "score", score)
    network = Hungry(cnn, fits=9).eval()
    replica = Replica(network, micro_batch=5)
    with pytest.raises(ModelError, match="target class 7"):
        replica.evaluate(images, torch.full((5,), 7), "logit", SCORE)
    assert scored == []
    network.seen.clear()
    replica.evaluate(images, torch.full((5,), 4), "logit", SCORE)
    assert (len(scored), network.seen) == (1, [5])


def test_the_device_is_that_of_a_buffer_or_else_what_is_given() -> None:
    class Constant(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("colour", torch.zeros(3, device="meta"))

    assert device_of(Constant()).type == "meta"
    assert device_of(nn.Flatten(), "meta").type == "meta"
    assert device_of(lambda points: points).type == "cpu"


class Steep(nn.Module):
    """Its gradients overflow in float16 at the highest scale; notes when it is called."""

    def __init__(self, log: list[str]) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.conv, self.head = nn.Conv2d(3, 8, 3), nn.Linear(8, 5)
        self.log = log

    def forward(self, points: Tensor) -> Tensor:
        self.log.append(f"network of {len(points)}")
        hidden = self.conv(points).tanh()
        wide = hidden.float()
        hidden = (wide + 3e6 * (wide - wide.detach())).to(hidden.dtype)
        logits: Tensor = self.head(hidden.mean(dim=(2, 3)))
        return logits


class Noted:
    """A mark that notes who waits for it."""

    def __init__(self, log: list[str], number: int) -> None:
        self.log, self.number = log, number

    def wait(self) -> None:
        self.log.append(f"wait for {self.number}")


def half_precision(log: list[str], micro_batch: int) -> Replica:
    grey, geometry = torch.full((3,), 0.5), Geometry(resize=(12, 12), crop=(12, 12))
    model = Model(
        Steep(log),
        name="steep",
        mean=grey,
        std=grey / 2,
        geometry=geometry,
        categories=tuple("abcde"),
        precision="fp16",
    )
    return Replica(model.eval(), micro_batch=micro_batch)


def pictures(count: int) -> Tensor:
    return torch.rand(count, 3, 12, 12, generator=torch.Generator().manual_seed(0))


def test_gradients_that_overflow_are_taken_again_after_the_next_micro_batch_is_there(
    accelerated: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    log: list[str] = []
    numbers = iter(range(100))
    replica = half_precision(log, micro_batch=2)
    images = pictures(4)
    engine: Engine[int] = Engine(replica)
    replica.forward(images[:1])
    log.clear()
    monkeypatch.setattr(replica_module, "mark", lambda device: Noted(log, next(numbers)))
    for job in one_gradient(images, 2):
        engine.add(job)
    while not engine.idle:
        engine.step()
    # First the scores of images and baselines. Then no micro-batch is waited for until the next is there.
    assert log[:8] == ["network of 2"] * 6 + ["wait for 0", "network of 2"]
    assert [line for line in log if line.startswith("wait")] == ["wait for 0", "wait for 1"]


def one_gradient(images: Tensor, size: int) -> Iterator[Job[int]]:
    spec = METHODS["gradient"]
    options = spec.parse({"baseline": "black"})
    for start in range(0, len(images), size):
        span = slice(start, start + size)
        streams = tuple(stream(0, "s", str(k), spec.name) for k in range(len(images)))[span]
        group = group_of(options, images[span], torch.arange(len(images))[span], streams, mean=torch.zeros(3))
        yield method_job(start, spec, options, group)


@pytest.mark.parametrize("micro_batch", [1, 2, 3, 8])
def test_late_checks_change_no_result(micro_batch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    images, targets = pictures(5), torch.arange(5)

    def maps() -> Tensor:
        replica = half_precision([], micro_batch)
        done = {job.tag: result.map for job, result in run(replica, jobs(images, targets, samples=4, size=2))}
        return torch.cat([done[tag] for tag in sorted(done)])

    at_once = maps()
    monkeypatch.setattr(replica_module, "is_accelerator", lambda device: True)
    late = maps()
    assert bool(at_once.isfinite().all())
    assert bool((at_once != 0).any())
    assert torch.allclose(late, at_once, rtol=0.02, atol=0.02 * float(at_once.abs().max()))


def test_an_error_of_a_late_check_ends_its_jobs_and_no_more(
    accelerated: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    replica = half_precision([], micro_batch=2)
    checks = iter([torch.OutOfMemoryError("no room to try again")])
    plain = Replica._scale_down

    def scale_down(self: Replica, *arguments: object) -> None:
        error = next(checks, None)
        if error is not None:
            raise error
        plain(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Replica, "_scale_down", scale_down)
    engine: Engine[int] = Engine(replica)
    finished = [ended for job in one_gradient(pictures(4), 2) for ended in engine.add(job)]
    while not engine.idle:
        finished += engine.step()
    assert sorted((ended.job.tag, type(ended.error).__name__) for ended in finished) == [
        (0, "OutOfMemoryError"),
        (2, "NoneType"),
    ]
