"""Networks as people write them: an acceleration that one does not stand is left out, and gradients are its own."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import prune
from torch.utils.checkpoint import checkpoint

from ssig import IntegratedGradients, attribute
from ssig.acceleration.ready_replica import ready_replica
from ssig.engine.replica import Replica
from ssig.engine.trial import try_method
from ssig.errors import ModelError, UsageError
from ssig.models.geometry import Geometry
from ssig.models.model import Model
from ssig.registry import METHODS

SIZE = 32
TARGETS = torch.tensor([0, 3, 6])


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 5, 2, 2)
        self.norm = nn.BatchNorm2d(8)
        self.second = nn.Conv2d(8, 16, 3, 2, 1)
        self.head = nn.Linear(64, 10)

    def features(self, points: Tensor) -> Tensor:
        hidden = F.softplus(self.norm(self.conv(points)))
        return F.adaptive_avg_pool2d(torch.tanh(self.second(hidden)), 2).flatten(1)

    def forward(self, points: Tensor) -> Tensor:
        logits: Tensor = self.head(self.features(points)) * 5
        return logits


class Tutorial(nn.Module):
    """Flattens with `view` after its convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 6, 5), nn.Conv2d(6, 16, 5)
        self.head = nn.Linear(16 * 5 * 5, 10)

    def forward(self, points: Tensor) -> Tensor:
        hidden = F.max_pool2d(F.relu(self.first(points)), 2)
        hidden = F.max_pool2d(F.relu(self.second(hidden)), 2)
        logits: Tensor = self.head(hidden.view(-1, 16 * 5 * 5))
        return logits


class ByImage(Tutorial):
    """Each image's channels as a batch of their own: of one image that view is good in either layout."""

    def forward(self, points: Tensor) -> Tensor:
        hidden = F.max_pool2d(F.relu(self.first(points)), 2)
        count, channels, height, width = hidden.shape
        hidden = hidden.view(count * channels, height, width).view(count, channels, height, width)
        hidden = F.max_pool2d(F.relu(self.second(hidden)), 2)
        logits: Tensor = self.head(hidden.flatten(1))
        return logits


class ViewOfInput(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(3 * SIZE * SIZE, 16), nn.Linear(16, 10)

    def forward(self, points: Tensor) -> Tensor:
        logits: Tensor = self.head(torch.tanh(self.first(points.view(len(points), -1))))
        return logits


class OneAtATime(Small):
    def forward(self, points: Tensor) -> Tensor:
        return self.head(self.features(points).reshape(1, -1)) * 5


class Remembering(Small):
    """Keeps its last features, on which a graph hangs."""

    def features(self, points: Tensor) -> Tensor:
        self.last = super().features(points)
        return self.last


class Locked(Small):
    """Holds what no copy can be made of."""

    def __init__(self) -> None:
        super().__init__()
        self.lock = threading.Lock()


class Checkpointed(Small):
    def __init__(self, reentrant: bool) -> None:
        super().__init__()
        self.reentrant = reentrant

    def forward(self, points: Tensor) -> Tensor:
        return self.head(checkpoint(self.features, points, use_reentrant=self.reentrant)) * 5


class FrozenBackbone(Small):
    def forward(self, points: Tensor) -> Tensor:
        with torch.no_grad():
            features = self.features(points)
        return self.head(features)


class WithoutGradients(Small):
    @torch.no_grad()
    def forward(self, points: Tensor) -> Tensor:
        return super().forward(points)


class Inference(Small):
    @torch.inference_mode()
    def forward(self, points: Tensor) -> Tensor:
        return super().forward(points)


def weight_normed() -> nn.Module:
    network = Small()
    network.head = torch.nn.utils.weight_norm(network.head)
    network.conv = torch.nn.utils.spectral_norm(network.conv)
    return network


def parametrized() -> nn.Module:
    network = Small()
    network.head = torch.nn.utils.parametrizations.weight_norm(network.head)
    network.conv = torch.nn.utils.parametrizations.spectral_norm(network.conv)
    return network


def pruned() -> nn.Module:
    network = Small()
    prune.l1_unstructured(network.conv, "weight", 0.5)
    return network


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "view after convolutions": Tutorial,
    "view of channels": ByImage,
    "view of the input": ViewOfInput,
    "one at a time": OneAtATime,
    "remembers its features": Remembering,
    "cannot be copied": Locked,
    "checkpoint": lambda: Checkpointed(reentrant=False),
    "weight norm by hooks": weight_normed,
    "parametrized": parametrized,
    "pruned": pruned,
    "scripted": lambda: torch.jit.script(Small().eval()),
    "traced": lambda: torch.jit.trace(Small().eval(), torch.zeros(2, 3, SIZE, SIZE)),
    "symbolic": lambda: torch.fx.symbolic_trace(Small().eval()),
}


def built(build: Callable[[], nn.Module]) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return build().eval()


def wrapped(network: nn.Module, precision: str = "fp32") -> Model:
    return Model(
        network,
        name="odd",
        mean=torch.full((3,), 0.5),
        std=torch.full((3,), 0.25),
        geometry=Geometry(resize=(SIZE, SIZE), crop=(SIZE, SIZE)),
        categories=tuple(map(str, range(10))),
        precision=precision,
    )


def pictures(count: int = 3) -> Tensor:
    """Channels-last in memory, as pictures are that come from files."""
    images = torch.rand(count, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    return images.contiguous(memory_format=torch.channels_last)


def own_gradients(network: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """By torch alone, an image at a time."""
    gradients = []
    for image, target in zip(images, TARGETS, strict=False):
        point = image.unsqueeze(0).contiguous().requires_grad_()
        gradients += torch.autograd.grad(network(point)[0, int(target)], point)
    return torch.cat(gradients)


def assert_same(found: Tensor, expected: Tensor) -> None:
    distance = (found - expected).flatten(1).norm(dim=1) / expected.flatten(1).norm(dim=1)
    assert float(distance.max()) < 1e-4


@pytest.mark.parametrize("name", NETWORKS)
def test_a_ready_network_gives_its_own_gradients(name: str) -> None:
    model = wrapped(built(NETWORKS[name]))
    images = pictures()
    expected = own_gradients(model, images)
    replica = ready_replica(model, micro_batch=1 if name == "one at a time" else 3)
    found = replica.evaluate(images, TARGETS, "logit", frozenset({"gradient"})).gradients
    assert found is not None
    assert_same(found, expected)
    assert_same(attribute(model, images, TARGETS, "gradient").values, expected)
    assert_same(attribute(model, images, TARGETS, "gradient", ready=False, micro_batch=1).values, expected)


@pytest.mark.parametrize("name", [name for name in NETWORKS if name != "one at a time"])
def test_a_plain_callable_and_the_captum_classes_too(name: str) -> None:
    network = built(NETWORKS[name])
    images = pictures()
    expected = own_gradients(network, images)
    assert_same(attribute(network, images, TARGETS, "gradient").values, expected)
    found = IntegratedGradients(network).attribute(images, images * 0, TARGETS, n_steps=2)
    assert isinstance(found, Tensor)
    assert found.isfinite().all()


def test_a_network_of_convolutions_is_evaluated_with_channels_last() -> None:
    assert ready_replica(wrapped(built(Small)), micro_batch=2).layout == torch.channels_last
    assert Replica(built(Small)).layout == torch.contiguous_format


def test_what_is_left_out_is_said(caplog: pytest.LogCaptureFixture) -> None:
    ready_replica(wrapped(built(Tutorial)), micro_batch=2)
    assert "odd runs without channels-last layout: view size is not compatible" in caplog.text
    caplog.clear()
    ready_replica(wrapped(built(Locked)), micro_batch=2)
    assert "odd runs without optimisation: Model cannot be copied: TypeError" in caplog.text


def test_tuning_settles_on_one_where_a_network_takes_no_more() -> None:
    model = wrapped(built(OneAtATime))
    assert ready_replica(model).micro_batch == 1
    with pytest.raises(UsageError, match="micro_batch: found 4; allowed: 1: the network takes no batch of 2"):
        ready_replica(model, micro_batch=4)
    with pytest.raises(ModelError, match=r"no batch of 2; try micro_batch 1 .*actors\.micro_batch: 1"):
        attribute(built(OneAtATime), pictures(), TARGETS, "gradient")


@pytest.mark.parametrize("build", [FrozenBackbone, WithoutGradients, Inference])
def test_no_gradient_reaches_the_input(build: Callable[[], nn.Module]) -> None:
    model = wrapped(built(build))
    spec = METHODS["gradient"]
    for replica in (Replica(model), ready_replica(model, micro_batch=2)):
        with pytest.raises(ModelError, match="no gradient reaches the input"):
            try_method(spec, spec.parse({}), replica, (SIZE, SIZE))
    with pytest.raises(ModelError, match="no gradient reaches the input"):
        attribute(model, pictures(), TARGETS, "gradient")


def test_reentrant_checkpoints_are_refused_in_the_librarys_words() -> None:
    model = wrapped(built(lambda: Checkpointed(reentrant=True)))
    spec = METHODS["gradient"]
    with pytest.raises(ModelError, match="set use_reentrant=False"):
        try_method(spec, spec.parse({}), Replica(model), (SIZE, SIZE))
