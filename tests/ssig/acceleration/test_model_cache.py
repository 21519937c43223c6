"""A network of `load_model` is made ready once, cached until it changes, and tuned if that saves time."""

from __future__ import annotations

import gc
import threading
import warnings
import weakref
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import ssig.acceleration.model_cache as model_cache
from ssig import IntegratedGradients, attribute
from ssig.acceleration.model_cache import cached_replica
from ssig.acceleration.tuning import Setting
from ssig.engine.replica import Replica
from ssig.models.geometry import Geometry
from ssig.models.model import Model


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 8, 3, stride=2), nn.BatchNorm2d(8)
        self.head = nn.Linear(8, 5)
        self.gain = 1.0

    def forward(self, points: Tensor) -> Tensor:
        logits: Tensor = self.head(self.norm(self.conv(points)).tanh().mean(dim=(2, 3))) * self.gain
        return logits


@pytest.fixture
def model() -> Model:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = Small()
        network.norm.running_mean.uniform_(-1, 1)  # type: ignore[union-attr]
    return Model(
        network,
        name="small",
        mean=torch.full((3,), 0.5),
        std=torch.full((3,), 0.25),
        geometry=Geometry(resize=(16, 16), crop=(16, 16)),
        categories=tuple("abcde"),
    )


@pytest.fixture
def pictures() -> Tensor:
    return torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def network_of(model: Model, layer: str | None = None) -> object:
    with cached_replica(model, 1, layer=layer) as replica:
        return replica.model


def gradients(model: Callable[[Tensor], Tensor], images: Tensor, **options: bool) -> Tensor:
    return attribute(model, images, [0, 1, 2], "gradient", **options).values


def test_the_second_call_finds_what_the_first_has_made(model: Model, pictures: Tensor) -> None:
    before = [tensor.clone() for tensor in model.state_dict().values()]
    first = network_of(model)
    found = gradients(model, pictures)
    assert network_of(model) is first
    assert isinstance(first, Model)
    assert first is not model
    assert isinstance(first.network.norm, nn.Identity)
    assert isinstance(model.network.norm, nn.BatchNorm2d)
    assert all(torch.equal(one, other) for one, other in zip(model.state_dict().values(), before, strict=True))
    expected = gradients(model, pictures, ready=False)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


def change_in_place(model: Model) -> None:
    model.network.conv.weight.mul_(1.5)  # type: ignore[operator, union-attr]


def change_unseen_by_version(model: Model) -> None:
    model.network.conv.weight.data.mul_(1.5)  # type: ignore[operator, union-attr]


def change_tensor(model: Model) -> None:
    model.network.head.weight = nn.Parameter(model.network.head.weight * 2)  # type: ignore[operator, union-attr]


def change_module(model: Model) -> None:
    model.network.norm = nn.Identity().eval()


def change_attribute(model: Model) -> None:
    model.network.gain = 3.0  # type: ignore[assignment]


def add_hook(model: Model) -> None:
    model.network.conv.register_forward_hook(lambda module, inputs, output: output * 2)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "change",
    [change_in_place, change_unseen_by_version, change_tensor, change_module, change_attribute, add_hook],
)
def test_a_changed_network_is_made_ready_anew(model: Model, pictures: Tensor, change: Callable[[Model], None]) -> None:
    first, before = network_of(model), gradients(model, pictures)
    change(model)
    assert network_of(model) is not first
    found, expected = gradients(model, pictures), gradients(model, pictures, ready=False)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)
    assert not torch.allclose(found, before, rtol=1e-2)


def test_threads_are_part_of_it(model: Model) -> None:
    before = torch.get_num_threads()
    first = network_of(model)
    try:
        torch.set_num_threads(before + 1)
        assert network_of(model) is not first
    finally:
        torch.set_num_threads(before)


def test_a_layer_is_what_its_name_says(model: Model, pictures: Tensor) -> None:
    options = {"layer": "network.conv", "relu": False}
    found = attribute(model, pictures, [0, 1, 2], "grad-cam", **options).map
    plain = attribute(model, pictures, [0, 1, 2], "grad-cam", ready=False, **options).map
    torch.testing.assert_close(found, plain, rtol=1e-4, atol=1e-6)
    assert isinstance(network_of(model, "network.conv"), Model)


def test_it_goes_with_the_network(pictures: Tensor) -> None:
    small = Model(
        Small(),
        name="small",
        mean=torch.full((3,), 0.5),
        std=torch.full((3,), 0.25),
        geometry=Geometry(resize=(16, 16), crop=(16, 16)),
        categories=tuple("abcde"),
    )
    gradients(small, pictures)
    gone, copied = weakref.ref(small), weakref.ref(network_of(small))  # type: ignore[arg-type, var-annotated]
    del small
    gc.collect()
    assert gone() is None
    assert copied() is None


def test_plain_callables_and_plain_networks_stay_plain(
    model: Model, pictures: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise AssertionError("made ready")

    monkeypatch.setattr("ssig.api.attribution.cached_replica", refuse)
    gradients(model.network, pictures)
    gradients(lambda points: model(points), pictures)
    gradients(model, pictures, ready=False)
    IntegratedGradients(model, ready=False).attribute(pictures, target=1, n_steps=2)
    gradients(Replica(model), pictures)
    with pytest.raises(AssertionError, match="made ready"):
        gradients(model, pictures)
    with pytest.raises(AssertionError, match="made ready"):
        IntegratedGradients(model).attribute(pictures, target=1, n_steps=2)


class Clock:
    """Each look is `step` seconds after the last."""

    def __init__(self, step: float) -> None:
        self.now, self.step = 0.0, step

    def __call__(self) -> float:
        self.now += self.step
        return self.now


@pytest.mark.parametrize(("step", "points", "tuned"), [(1.0, 400, True), (0.001, 400, False), (1.0, 4, False)])
def test_it_is_tuned_where_the_work_is_longer_than_tuning(
    model: Model, monkeypatch: pytest.MonkeyPatch, step: float, points: int, tuned: bool
) -> None:
    calls: list[Setting] = []

    def fastest(*arguments: object) -> Setting:
        calls.append(Setting(7))
        return calls[-1]

    monkeypatch.setattr(model_cache, "fastest", fastest)
    for _ in range(2):
        with cached_replica(model, points, timer=Clock(step)) as replica:
            assert (replica.micro_batch == 7) == tuned
    assert len(calls) == tuned
    with cached_replica(model, points, micro_batch=3) as replica:
        assert replica.micro_batch == 3


def test_small_jobs_add_up(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_cache, "fastest", lambda *arguments: Setting(7))
    sizes = []
    for _ in range(8):
        with cached_replica(model, 1, timer=Clock(2.0)) as replica:
            sizes.append(replica.micro_batch)
    assert sizes[0] != 7
    assert sizes[-1] == 7


def test_threads_take_turns(model: Model, pictures: Tensor) -> None:
    expected = gradients(model, pictures)
    found: list[Tensor] = []
    threads = [threading.Thread(target=lambda: found.append(gradients(model, pictures))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(found) == 4
    for one in found:
        torch.testing.assert_close(one, expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("scale", "shift", "named"),
    [(255.0, 0.0, "divide by 255"), (4.6, -2.1, "undo any normalisation"), (2.0, -1.0, "undo any normalisation")],
)
def test_images_outside_pixel_space_are_warned_of(
    model: Model, pictures: Tensor, scale: float, shift: float, named: str
) -> None:
    pictures[0, 0, 0, 0], pictures[0, 0, 0, 1] = 0.0, 1.0
    given = pictures * scale + shift
    with pytest.warns(UserWarning, match=rf"images from {shift:.4g} to {scale + shift:.4g}: .*\[0, 1\].*{named}"):
        gradients(model, given)


def test_no_warning_within_it_after_smooth_resizing_or_for_a_callable(model: Model, pictures: Tensor) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        gradients(model, pictures)
        gradients(model, pictures * 1.2 - 0.1)
        gradients(model.network, pictures * 255)
