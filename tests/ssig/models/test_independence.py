"""Networks that mix the images of a batch or are random are found, with the submodule; the others pass untouched."""

from __future__ import annotations

import copy
import math

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import ssig
from ssig.engine.replica import Replica
from ssig.errors import ModelError
from ssig.models.independence import check_independence, check_modes, independent, preserved, probes


class Tiny(nn.Module):
    def __init__(self, classes: int = 5) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, 2)
        self.norm: nn.Module = nn.BatchNorm2d(8)
        self.drop: nn.Module = nn.Dropout(0.5)
        self.head = nn.Linear(8, classes)

    def forward(self, x: Tensor) -> Tensor:
        features = F.softplus(self.norm(self.conv(x))).mean((2, 3))
        logits: Tensor = self.head(self.drop(features))
        return logits


class FunctionalDropout(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(x, 0.5)


class Extremes(nn.Module):
    """Normalises by the extremes of the whole batch."""

    def forward(self, x: Tensor) -> Tensor:
        return (x - x.min()) / (x.max() - x.min())


class Centred(nn.Module):
    """Subtracts the mean of the batch."""

    def forward(self, x: Tensor) -> Tensor:
        return x - x.mean(0, keepdim=True)


class Neighbour(nn.Module):
    """Shifts a channel from each image to the next, as networks of video do."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x[:, :-1], x[:, -1:].roll(1, 0)], dim=1)


class OwnStatistics(nn.Module):
    """Normalises by the batch in every mode, and keeps an average of it."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("average", torch.zeros(8))

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean((0, 2, 3))
        self.average.mul_(0.9).add_(0.1 * mean)
        return x - mean.view(1, -1, 1, 1)


class OneImage(Tiny):
    def forward(self, x: Tensor) -> Tensor:
        features = self.norm(self.conv(x)).mean((2, 3))
        return self.head(features.reshape(1, -1))


def tiny(**parts: nn.Module) -> Tiny:
    torch.manual_seed(0)
    network = Tiny()
    for name, part in parts.items():
        setattr(network, name, part)
    return network.eval()


def with_mode(name: str) -> Tiny:
    network = tiny()
    network.get_submodule(name).train()
    return network


IMAGE = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (tiny().train(), "the network is in training mode"),
        (with_mode("norm"), "submodule 'norm' is in training mode"),
        (with_mode("drop"), "submodule 'drop' is in training mode"),
        (
            tiny(norm=nn.BatchNorm2d(8, track_running_stats=False)),
            "'norm' is a BatchNorm2d without running statistics",
        ),
        (tiny(drop=FunctionalDropout()), "is random in evaluation mode.*submodule 'drop'"),
        (tiny(norm=Extremes()), "mixes the images of a batch.*submodule 'norm'"),
        (tiny(norm=Centred()), "mixes the images of a batch.*submodule 'norm'"),
        (tiny(norm=Neighbour()), "mixes the images of a batch.*submodule 'norm'"),
        (tiny(norm=OwnStatistics()), "mixes the images of a batch.*submodule 'norm'"),
    ],
)
def test_what_mixes_or_draws_is_named_and_nothing_is_written(network: nn.Module, message: str) -> None:
    before = copy.deepcopy(network.state_dict())
    state = torch.random.get_rng_state()
    modes = [module.training for module in network.modules()]
    with pytest.raises(ModelError, match=message):
        independent(network, IMAGE)
    with pytest.raises(ModelError, match=message):
        ssig.attribute(network, IMAGE, [0], "gradient")
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert [module.training for module in network.modules()] == modes
    assert torch.equal(torch.random.get_rng_state(), state)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())


def test_a_replica_looks_at_every_submodule() -> None:
    with pytest.raises(ModelError, match="submodule 'norm' is in training mode"):
        Replica(with_mode("norm"))


def test_one_image_at_a_time_is_no_mixing() -> None:
    torch.manual_seed(0)
    found = check_independence(OneImage().eval(), IMAGE)
    assert found.one_at_a_time
    assert found.logits.shape == (1, 5)
    assert not check_independence(tiny(), IMAGE).one_at_a_time


@pytest.mark.parametrize("scale", [0.1, 1.0, 255.0])
def test_the_range_of_the_images_does_not_matter(scale: float) -> None:
    check_independence(tiny(), scale * IMAGE)
    with pytest.raises(ModelError, match="mixes"):
        check_independence(tiny(norm=Extremes()), scale * IMAGE)


@pytest.mark.parametrize("image", [torch.zeros(1, 3, 16, 16), torch.full((1, 3, 16, 16), 0.7)])
def test_a_flat_image_serves_too(image: Tensor) -> None:
    check_independence(tiny(), image)
    with pytest.raises(ModelError, match="mixes"):
        check_independence(tiny(norm=Extremes()), image)


@pytest.mark.parametrize(
    "name", ["vit_tiny_patch16_224", "swin_tiny_patch4_window7_224", "resnet10t", "mobilenetv2_050"]
)
def test_architectures_pass(name: str) -> None:
    torch.manual_seed(0)
    size = 224 if "swin" in name or "vit" in name else 96
    found = check_independence(timm.create_model(name).eval(), torch.rand(1, 3, size, size))
    assert not found.one_at_a_time


def test_a_chaotic_network_is_not_taken_for_one_that_mixes() -> None:
    class Chaos(nn.Module):
        """Rounding depends on the size of the batch, as that of kernels does; a logistic map doubles it each time."""

        def forward(self, x: Tensor) -> Tensor:
            values = x.flatten(1)[:, :5] * (1 + len(x) * 1.2e-7)
            for _ in range(20):
                values = 3.99 * values * (1 - values)
            return values

    one, many = Chaos()(IMAGE), Chaos()(IMAGE.expand(4, -1, -1, -1))
    assert (one - many[:1]).abs().max() > 1e-3
    check_independence(Chaos(), IMAGE)


def test_float64_differences_are_seen_that_float32_would_hide() -> None:
    class Slightly(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.flatten(1)[:, :5] + 1e-6 * x.mean()

    check_independence(Slightly(), IMAGE)
    with pytest.raises(ModelError, match="mixes"):
        check_independence(Slightly(), IMAGE.double())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_is_not_taken_for_mixing(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    network = timm.create_model("resnet10t").eval()
    with torch.autocast("cpu", dtype=dtype):
        check_independence(network, torch.rand(1, 3, 64, 64))
    check_independence(copy.deepcopy(network).to(dtype), torch.rand(1, 3, 64, 64).to(dtype))


def test_logits_that_are_not_finite_are_no_difference() -> None:
    network = tiny()
    with torch.no_grad():
        network.head.weight[0, 0] = math.nan
    assert bool(check_independence(network, IMAGE).logits.isnan().any())


def test_an_answer_is_kept_until_the_weights_or_the_shape_change() -> None:
    calls = []

    class Counted(Tiny):
        def forward(self, x: Tensor) -> Tensor:
            calls.append(len(x))
            return super().forward(x)

    network = Counted().eval()
    independent(network, IMAGE)
    first = len(calls)
    independent(network, IMAGE)
    assert len(calls) == first
    with torch.no_grad():
        network.head.bias.add_(1)
    independent(network, IMAGE)
    assert len(calls) == 2 * first
    independent(network, torch.rand(1, 3, 20, 20))
    assert len(calls) == 3 * first
    network.norm.train()
    with pytest.raises(ModelError, match="training mode"):
        independent(network, IMAGE)


def test_an_exported_program_has_no_mode_to_look_at() -> None:
    batch = {"x": {0: torch.export.Dim("n", min=1, max=64)}}
    program = torch.export.export(tiny(), (torch.rand(2, 3, 16, 16),), dynamic_shapes=batch).module()
    check_modes(program)
    check_independence(program, IMAGE)
    torch.manual_seed(0)
    training = torch.export.export(Tiny().train(), (torch.rand(2, 3, 16, 16),), dynamic_shapes=batch).module()
    before = copy.deepcopy(training.state_dict())
    with pytest.raises(ModelError, match=r"random|mixes"):
        check_independence(training, IMAGE)
    assert all(torch.equal(value, before[name]) for name, value in training.state_dict().items())


def test_buffers_are_put_back_even_if_they_are_replaced() -> None:
    class Replacing(Tiny):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("last", torch.zeros(1))

        def forward(self, x: Tensor) -> Tensor:
            self.last = x.mean().view(1)
            return super().forward(x)

    network = Replacing().eval()
    buffer = network.last
    with preserved(network):
        network(IMAGE)
    assert network.last is buffer
    assert buffer.item() == 0


def test_probes_differ_in_range_and_mean_and_begin_and_end_alike() -> None:
    batch = probes(IMAGE)
    assert torch.equal(batch[0], batch[3])
    spans = [float(points.max() - points.min()) for points in batch[:3]]
    assert spans[0] < 0.6 * spans[1] < 0.6 * 1.1 * spans[2]
    means = [float(points.mean()) for points in batch[:3]]
    assert abs(means[0] - means[2]) > 0.1
