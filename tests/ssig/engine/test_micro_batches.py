"""Merging fills micro-batches across groups, keeps every answer in its place, and survives a full device."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn

from ssig.engine.jobs import group_of, method_job
from ssig.engine.micro_batches import Engine, Job, run
from ssig.engine.replica import Replica
from ssig.errors import ModelError
from ssig.randomness import stream
from ssig.registry import METHODS
from ssig.types import SCORE, SCORE_AND_GRADIENT, Attribution, Group, Request, Response, Steps


class Recorder(nn.Module):
    """Passes points through a network and records how many it saw at once, and whether with gradients."""

    def __init__(self, network: nn.Module, fits: int = 10**9) -> None:
        super().__init__()
        self.network = network
        self.fits = fits
        self.batches: list[tuple[int, bool]] = []

    def forward(self, points: Tensor) -> Tensor:
        if len(points) > self.fits:
            raise torch.OutOfMemoryError("more points than fit")
        self.batches.append((len(points), points.requires_grad))
        return self.network(points)


def jobs_of(images: Tensor, targets: Tensor, group_size: int, samples: int = 6) -> Iterator[Job[int]]:
    spec = METHODS["ssig-signed"]
    for start in range(0, len(images), group_size):
        span = slice(start, start + group_size)
        streams = tuple(stream(0, "s", str(i), spec.name) for i in range(len(images)))[span]
        options = spec.parse({"samples": samples, "baseline": "black"})
        yield method_job(
            start, spec, options, group_of(options, images[span], targets[span], streams, mean=torch.zeros(3))
        )


def maps(replica: Replica, jobs: Iterator[Job[int]]) -> Tensor:
    done = {job.tag: result.map for job, result in run(replica, jobs)}
    return torch.cat([done[tag] for tag in sorted(done)])


@pytest.mark.parametrize(("group_size", "micro_batch"), [(1, 1), (1, 4), (2, 3), (3, 8), (5, 2)])
def test_results_do_not_depend_on_groups_or_micro_batches(
    cnn: nn.Module, images: Tensor, targets: Tensor, group_size: int, micro_batch: int
) -> None:
    expected = maps(Replica(cnn, micro_batch=100), jobs_of(images, targets, 5))
    found = maps(Replica(cnn, micro_batch=micro_batch), jobs_of(images, targets, group_size))
    assert torch.allclose(found, expected, rtol=1e-10, atol=1e-14)


def test_ragged_groups_fill_every_micro_batch(cnn: nn.Module, targets: Tensor) -> None:
    images = torch.rand(12, 3, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    recorder = Recorder(cnn).eval()
    maps(Replica(recorder, micro_batch=4), jobs_of(images, targets.repeat(3)[:12], 3))
    sizes = [size for size, with_gradient in recorder.batches if with_gradient]
    assert sum(sizes) == 12 * 6
    assert len(sizes) <= 12 * 6 / 4 + 1


def test_a_full_device_halves_the_micro_batch_and_remembers(cnn: nn.Module, images: Tensor, targets: Tensor) -> None:
    recorder = Recorder(cnn, fits=2).eval()
    replica = Replica(recorder, micro_batch=5)
    expected = maps(Replica(cnn), jobs_of(images, targets, 5))
    assert torch.allclose(maps(replica, jobs_of(images, targets, 5)), expected, rtol=1e-10, atol=1e-14)
    assert replica.micro_batch == 5
    assert replica.size(SCORE) == replica.size(SCORE_AND_GRADIENT) == 2


def test_one_point_that_does_not_fit_is_an_error(cnn: nn.Module, images: Tensor, targets: Tensor) -> None:
    with pytest.raises(torch.OutOfMemoryError):
        maps(Replica(Recorder(cnn, fits=0).eval(), micro_batch=4), jobs_of(images, targets, 5))


def test_requests_choose_targets_logits_and_layers(cnn: nn.Sequential, images: Tensor, targets: Tensor) -> None:
    seen: dict[str, Tensor | None] = {}

    def method(group: Group) -> Steps:
        first = yield Request(
            group.images, group.owners(), targets=torch.full((5,), 2), want=frozenset({"score", "logits"})
        )
        seen["scores"], seen["logits"], seen["none"] = first.scores, first.logits, first.gradients
        second = yield Request(group.images, group.owners(), layer="2")
        seen["activations"], seen["layer gradients"] = second.activations, second.gradients
        return stub(group)

    group = Group(images, torch.zeros_like(images), ())
    list(run(Replica(cnn), [Job("x", method(group), targets)]))
    logits = cnn(images)
    assert torch.allclose(not_none(seen["scores"]), logits[:, 2])
    assert torch.allclose(not_none(seen["logits"]), logits)
    assert seen["none"] is None
    inner = cnn[:3](images).detach().requires_grad_()
    cnn[3:](inner).gather(1, targets[:, None]).sum().backward()
    assert torch.allclose(not_none(seen["activations"]), inner.detach())
    assert torch.allclose(not_none(seen["layer gradients"]), not_none(inner.grad))


def test_a_method_may_finish_without_a_request(cnn: nn.Module, images: Tensor, targets: Tensor) -> None:
    def method(group: Group) -> Steps:
        return stub(group)
        yield Request(images, group.owners(), want=SCORE)

    (pair,) = run(Replica(cnn), [Job(7, method(Group(images, images, ())), targets)])
    assert pair[0].tag == 7


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda network: network.train(), "training mode"),
        (lambda network: nn.Sequential(network, nn.Flatten(0)).eval(), "expected"),
    ],
)
def test_networks_that_cannot_be_right_are_refused(
    cnn: nn.Module, images: Tensor, targets: Tensor, break_it: Callable[[nn.Module], nn.Module], message: str
) -> None:
    with pytest.raises(ModelError, match=message):
        maps(Replica(break_it(cnn)), jobs_of(images, targets, 5))


def test_targets_beyond_the_classes_and_unknown_layers_are_named(cnn: nn.Module, images: Tensor) -> None:
    replica = Replica(cnn)
    with pytest.raises(ModelError, match="target class 5 of a network with 5 classes"):
        replica.evaluate(images, torch.full((5,), 5), "logit", SCORE)
    with pytest.raises(ModelError, match="no layer 'stem'"):
        replica.evaluate(images, torch.zeros(5, dtype=torch.int64), "logit", frozenset({"gradient"}), "stem")


def not_none(tensor: Tensor | None) -> Tensor:
    assert tensor is not None
    return tensor


def stub(group: Group) -> Attribution:
    zeros = torch.zeros(len(group))
    return Attribution(group.images, group.images.sum(dim=1), zeros, zeros, None, None, zeros.long())


def test_an_answer_that_cannot_be_joined_fails_its_job_and_no_more(
    cnn: nn.Module, images: Tensor, targets: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(parts: list[Response]) -> Response:
        raise torch.OutOfMemoryError("no memory to join in")

    engine: Engine[str] = Engine(Replica(cnn, micro_batch=100))
    group = Group(images, torch.zeros_like(images), ())
    engine.add(Job("x", ask_once(group), targets))
    with monkeypatch.context() as patch:
        patch.setattr("ssig.engine.micro_batches.join", full)
        (failed,) = engine.step()
    assert isinstance(failed.error, torch.OutOfMemoryError)
    assert engine.idle
    engine.add(Job("y", ask_once(group), targets))
    (done,) = engine.step()
    assert done.error is None


def ask_once(group: Group) -> Steps:
    yield Request(group.images, group.owners(), want=SCORE)
    return stub(group)
