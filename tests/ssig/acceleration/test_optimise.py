"""Folding, layout and stored precision change no logits, input gradients or names; the original is untouched."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from types import MethodType

import pytest
import timm
import torch
import torchvision
from scipy.stats import spearmanr
from timm.layers.conv2d_same import Conv2dSame
from timm.layers.norm_act import BatchNormAct2d
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm, weight_norm
from torchvision.ops import FrozenBatchNorm2d

from ssig.acceleration.operators import AlignedConv, InPlaceClamp
from ssig.acceleration.optimise import Optimised, optimised
from ssig.errors import ModelError, UsageError
from ssig.models import load_model


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def randomised(network: nn.Module) -> nn.Module:
    """The network with statistics that matter, as training would leave them."""
    generator = torch.Generator().manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm | FrozenBatchNorm2d) and module.running_mean is not None:
            module.running_mean.uniform_(-0.3, 0.3, generator=generator)
            module.running_var.uniform_(0.5, 1.5, generator=generator)
            if module.weight is not None:
                module.weight.data.uniform_(0.5, 1.5, generator=generator)
                module.bias.data.uniform_(-0.3, 0.3, generator=generator)
    return network.eval()


def built(build: Callable[[], nn.Module]) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return randomised(build())


def logits_and_gradient(network: nn.Module, points: Tensor) -> tuple[Tensor, Tensor]:
    points = points.clone().requires_grad_()
    logits = network(points)
    (gradient,) = torch.autograd.grad((logits * torch.arange(1, logits.shape[1] + 1)).sum(), points)
    return logits.detach(), gradient


def distance(found: Tensor, expected: Tensor) -> float:
    """Largest relative L2 distance of a map."""
    return float(((found - expected).flatten(1).norm(dim=1) / expected.flatten(1).norm(dim=1)).max())


def check_equal(network: nn.Module, result: Optimised, points: Tensor, tolerance: float = 1e-8) -> None:
    """The optimised network agrees with the original at points that it was not optimised with."""
    found, expected = logits_and_gradient(result.network, points), logits_and_gradient(network, points)
    assert distance(found[0], expected[0]) <= tolerance
    assert distance(found[1], expected[1]) <= tolerance


NETWORKS: dict[str, tuple[Callable[[], nn.Module], int, int, int]] = {
    # name: how to build it, pixels, batch norms folded, batch norms left
    "efficientnet-lite0": (lambda: load_model("efficientnet-lite0").network, 64, 49, 0),
    "timm resnet18": (lambda: timm.create_model("resnet18"), 64, 20, 0),
    "timm resnet50": (lambda: timm.create_model("resnet50"), 64, 53, 0),
    # Its first convolution also feeds a shortcut.
    "timm resnetv2_50": (lambda: timm.create_model("resnetv2_50"), 64, 32, 17),
    "torchvision mobilenet_v2": (lambda: torchvision.models.mobilenet_v2(), 64, 52, 0),
    "torchvision densenet121": (lambda: torchvision.models.densenet121(), 64, 59, 62),
    # The two that are left belong to heads that are not evaluated.
    "torchvision googlenet": (lambda: torchvision.models.googlenet(init_weights=False), 64, 57, 2),
    "timm vit": (lambda: timm.create_model("vit_tiny_patch16_224", img_size=64), 64, 0, 0),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_known_networks_stay_equal(name: str) -> None:
    build, pixels, folded, left = NETWORKS[name]
    network = load_model(name).network if name == "efficientnet-lite0" else built(build)
    network = network.double()
    result = optimised(network, noise(1, 3, pixels, pixels).double())
    assert (result.folded, result.left, result.lowered) == (folded, left, 0)
    check_equal(network, result, noise(2, 3, pixels, pixels, seed=1).double())
    assert set(dict(network.named_modules())) <= set(dict(result.network.named_modules()))


def test_float32_gradients_differ_by_rounding_alone() -> None:
    network = load_model("efficientnet-lite0").network
    points = F.interpolate(noise(8, 3, 28, 28, seed=1), scale_factor=4, mode="bicubic")
    result = optimised(network, points)
    _, found = logits_and_gradient(result.network, points)
    _, expected = logits_and_gradient(network, points)
    distances = (found - expected).flatten(1).norm(dim=1) / expected.flatten(1).norm(dim=1)
    assert float(distances.median()) <= 5e-3
    correlations = [
        spearmanr(one.sum(0).flatten(), other.sum(0).flatten()).statistic
        for one, other in zip(found, expected, strict=True)
    ]
    assert min(correlations) >= 0.999


def test_the_original_is_untouched() -> None:
    network = built(lambda: torchvision.models.resnet18(num_classes=5)).train()
    before = copy.deepcopy(network.state_dict())
    result = optimised(network, noise(1, 3, 32, 32), precision="bf16")
    assert result.folded == 20
    assert network.training
    assert not result.network.training
    assert all(parameter.requires_grad for parameter in network.parameters())
    assert not any(parameter.requires_grad for parameter in result.network.parameters())
    assert before.keys() == network.state_dict().keys()
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, before[name])
        assert tensor.dtype == before[name].dtype
        assert tensor.stride() == before[name].stride()
    for one in (network, result.network):
        assert not any(module._forward_hooks or module._forward_pre_hooks for module in one.modules())


class Small(nn.Module):
    """Convolution, batch norm, activation, mean, linear: what subclasses change is `features`."""

    def __init__(self, conv: nn.Module | None = None, norm: nn.Module | None = None) -> None:
        super().__init__()
        self.conv = conv or nn.Conv2d(3, 6, 3, padding=1)
        self.norm = norm or nn.BatchNorm2d(6)
        self.activation = nn.SiLU()
        self.head = nn.Linear(6, 4)

    def features(self, points: Tensor) -> Tensor:
        return self.norm(self.conv(points))

    def forward(self, points: Tensor) -> Tensor:
        return self.head(self.activation(self.features(points)).flatten(2).mean(2))


class ShapedLike(Small):
    """Features of any number of dimensions."""

    def __init__(self, conv: nn.Module, norm: nn.Module, shape: tuple[int, ...]) -> None:
        super().__init__(conv, norm)
        self.shape = shape

    def features(self, points: Tensor) -> Tensor:
        features = super().features(points[:, :, :4, :4].reshape(-1, *self.shape))
        return features.reshape(len(points), 6, -1)


class Residual(Small):
    def features(self, points: Tensor) -> Tensor:
        convolved = self.conv(points)
        return self.norm(convolved) + convolved


class Gated(Small):
    """Uses the convolution's output a second time where autograd does not see it."""

    def features(self, points: Tensor) -> Tensor:
        convolved = self.conv(points)
        return self.norm(convolved) * convolved.detach().mean(dim=1, keepdim=True)


class ConvolvesTwice(Small):
    def features(self, points: Tensor) -> Tensor:
        return self.norm(self.conv(points)) + self.conv(points.flip(-1))


class NormalisesTwice(Small):
    def features(self, points: Tensor) -> Tensor:
        return self.norm(self.norm(self.conv(points)))


class Shared(Small):
    """One batch norm under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.other = nn.Conv2d(3, 6, 1)
        self.again = self.norm

    def features(self, points: Tensor) -> Tensor:
        return self.norm(self.conv(points)) + self.again(self.other(points))


class SharesWeights(Small):
    def features(self, points: Tensor) -> Tensor:
        return super().features(points) + F.conv2d(points, self.conv.weight, padding=1)


class ReadsNorm(Small):
    def features(self, points: Tensor) -> Tensor:
        return super().features(points) * self.norm.running_var.mean()


class AddsInPlace(Small):
    def features(self, points: Tensor) -> Tensor:
        return self.norm(self.conv(points).add_(1))


class Views(Small):
    def features(self, points: Tensor) -> Tensor:
        convolved = self.conv(points)
        return self.norm(convolved.transpose(2, 3))


class NeedsFloat32(Small):
    def features(self, points: Tensor) -> Tensor:
        return super().features(points.float()).to(points.dtype)


class Limited(nn.Conv2d):
    """Differs from a convolution only far from the example."""

    def forward(self, points: Tensor) -> Tensor:
        return super().forward(points).clamp(-50, 50)


class Standardised(nn.Conv2d):
    def forward(self, points: Tensor) -> Tensor:
        weight = self.weight / self.weight.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
        return F.conv2d(points, weight, self.bias, padding=1)


class TwoPairs(Small):
    """A pair that folds and, after it, one that must not."""

    def __init__(self) -> None:
        super().__init__()
        self.pair = nn.Sequential(nn.Conv2d(6, 6, 1), nn.BatchNorm2d(6))
        self.bad = Gated(nn.Conv2d(6, 6, 1))

    def features(self, points: Tensor) -> Tensor:
        return self.bad.features(self.pair(super().features(points)))


def watched(where: str) -> nn.Module:
    """What a hook sees must not change, though it changes nothing."""
    network = Small()
    network.get_submodule(where).register_forward_hook(lambda module, inputs, output: None)
    return network


def reparametrised(change: Callable[[nn.Module], nn.Module]) -> nn.Module:
    network = Small()
    change(network.conv)
    return network


def patched() -> nn.Module:
    """A convolution whose forward pass is replaced on the object."""
    network = Small()
    network.conv.forward = MethodType(
        lambda self, points: nn.Conv2d.forward(self, points).clamp(-50, 50), network.conv
    )
    return network


FOLDED: dict[str, Callable[[], nn.Module]] = {
    "plain": Small,
    "no bias": lambda: Small(nn.Conv2d(3, 6, 3, padding=1, bias=False)),
    "grouped": lambda: Small(nn.Conv2d(3, 6, 3, padding=1, groups=3)),
    "not affine": lambda: Small(norm=nn.BatchNorm2d(6, affine=False)),
    "frozen": lambda: Small(norm=FrozenBatchNorm2d(6)),
    "with activation": lambda: Small(norm=BatchNormAct2d(6, inplace=True)),
    "transposed": lambda: Small(nn.ConvTranspose2d(3, 6, 3, stride=2)),
    "linear": lambda: ShapedLike(nn.Linear(48, 6), nn.BatchNorm1d(6), (48,)),
    "1-D": lambda: ShapedLike(nn.Conv1d(3, 6, 3), nn.BatchNorm1d(6), (3, 16)),
    "3-D": lambda: ShapedLike(nn.Conv3d(3, 6, 2), nn.BatchNorm3d(6), (3, 4, 2, 2)),
}
NOT_FOLDED: dict[str, Callable[[], nn.Module]] = {
    "residual": Residual,
    "used without gradient": Gated,
    "layer called twice": ConvolvesTwice,
    "norm called twice": NormalisesTwice,
    "shared norm": Shared,
    "weights used elsewhere": SharesWeights,
    "norm read elsewhere": ReadsNorm,
    "changed in place between": AddsInPlace,
    "viewed between": Views,
    "statistics of the batch": lambda: Small(norm=nn.BatchNorm2d(6, track_running_stats=False)),
    "grouped transposed": lambda: Small(nn.ConvTranspose2d(3, 6, 3, groups=3)),
    "channels of tokens": lambda: ShapedLike(nn.Linear(4, 6), nn.BatchNorm1d(12), (12, 4)),
    "layer with a hook": lambda: watched("conv"),
    "norm with a hook": lambda: watched("norm"),
    "weight norm": lambda: reparametrised(weight_norm),
    "spectral norm": lambda: reparametrised(spectral_norm),
    "layer of another kind": lambda: Small(Limited(3, 6, 3, padding=1)),
    "layer that standardises": lambda: Small(Standardised(3, 6, 3, padding=1)),
    "layer replaced": patched,
    "other norm": lambda: Small(norm=nn.InstanceNorm2d(6)),
}


@pytest.mark.parametrize(
    ("build", "folded"),
    [pytest.param(build, 1, id=name) for name, build in FOLDED.items()]
    + [pytest.param(build, 0, id=name) for name, build in NOT_FOLDED.items()]
    + [pytest.param(TwoPairs, 2, id="two of three")],
)
def test_only_sound_folds_are_made(build: Callable[[], nn.Module], folded: int) -> None:
    network = built(build).double()
    result = optimised(network, noise(1, 3, 6, 8).double())
    assert result.folded == folded
    check_equal(network, result, noise(3, 3, 6, 8, seed=1).double())


def test_a_network_that_cannot_run_in_float64_keeps_its_norms() -> None:
    network = built(NeedsFloat32)
    result = optimised(network, noise(1, 3, 6, 8))
    assert (result.folded, result.left) == (0, 1)
    check_equal(network, result, noise(3, 3, 6, 8, seed=1), tolerance=1e-5)


def test_what_stood_in_a_folded_norm_keeps_its_name() -> None:
    network = built(lambda: Small(norm=BatchNormAct2d(6, drop_layer=nn.Dropout)))
    result = optimised(network, noise(1, 3, 6, 8))
    assert result.folded == 1
    assert isinstance(result.network.get_submodule("norm.act"), nn.ReLU)
    assert isinstance(result.network.get_submodule("norm.drop"), nn.Dropout)


@pytest.mark.parametrize(("keep", "folded"), [("conv", 0), ("norm", 1), ("", 1), ("con", 1), ("head", 1)])
def test_outputs_of_kept_layers_stay(keep: str, folded: int) -> None:
    network = built(Small).double()
    points = noise(2, 3, 6, 8).double()
    result = optimised(network, points, keep=(keep,))
    assert result.folded == folded
    if keep in ("conv", "norm", "head"):
        outputs = []
        for one in (network, result.network):
            handle = one.get_submodule(keep).register_forward_hook(lambda m, i, output: outputs.append(output.clone()))
            one(points)
            handle.remove()
        assert torch.allclose(*outputs, rtol=1e-10)


def test_convolutions_get_channels_last() -> None:
    result = optimised(built(lambda: Small(nn.Conv2d(3, 6, 3))), noise(1, 3, 6, 8))
    assert result.network.get_submodule("conv").weight.is_contiguous(memory_format=torch.channels_last)


def transformer() -> nn.Module:
    """Its attention is `nn.MultiheadAttention`, which takes another way without gradients and keeps its weights."""
    return torchvision.models.VisionTransformer(
        image_size=64, patch_size=16, num_layers=2, num_heads=2, hidden_dim=32, mlp_dim=48, num_classes=10
    )


class ReadsWeights(Small):
    """The head's weights are also used in full precision."""

    def forward(self, points: Tensor) -> Tensor:
        return super().forward(points) * self.head.weight.float().norm(dim=1)


@pytest.mark.parametrize(
    ("build", "lowered"),
    [
        (lambda: load_model("efficientnet-lite0").network, 2 * 50),
        (lambda: timm.create_model("vit_tiny_patch16_224", img_size=64, depth=2), 2 * (1 + 2 * 4 + 1)),
        (transformer, 2 * (1 + 2 * 3 + 1)),
        (ReadsWeights, 2),
    ],
    ids=["efficientnet-lite0", "timm vit", "torchvision vit", "weights read elsewhere"],
)
@pytest.mark.parametrize(("precision", "dtype"), [("bf16", torch.bfloat16), ("fp16", torch.float16)])
def test_stored_weights_give_the_same_bits(
    build: Callable[[], nn.Module],
    lowered: int,
    precision: str,
    dtype: torch.dtype,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        "ssig.acceleration.exact._padded_unequally", lambda network: []
    )  # which rounds in another order as a kernel
    network = built(build)
    for module in network.modules():
        if isinstance(module, nn.Linear):
            for parameter in module.parameters():
                if not parameter.any():  # so that what stands in it can be seen
                    parameter.data.uniform_(-0.1, 0.1, generator=torch.Generator().manual_seed(1))
    example, points = noise(1, 3, 64, 64), noise(3, 3, 64, 64, seed=1)
    full, low = optimised(network, example), optimised(network, example, precision=precision)
    assert full.lowered == 0
    assert low.lowered == lowered
    assert low.folded == full.folded
    assert {parameter.dtype for parameter in low.network.parameters()} <= {torch.float32, dtype}
    with torch.autocast("cpu", dtype=dtype):
        assert all(
            torch.equal(one, other)
            for one, other in zip(
                logits_and_gradient(low.network, points), logits_and_gradient(full.network, points), strict=True
            )
        )
        with torch.no_grad():
            assert torch.equal(low.network(points), full.network(points))


def test_unknown_choices_are_refused() -> None:
    with pytest.raises(UsageError, match="precision"):
        optimised(Small(), noise(1, 3, 6, 8), precision="fp8")
    with pytest.raises(UsageError, match="cuda-graphs"):
        optimised(Small(), noise(1, 3, 6, 8), compile="fast")


@pytest.mark.slow
def test_compiled_networks_give_the_same() -> None:
    network = built(Small)
    points = noise(2, 3, 6, 8, seed=1)
    result = optimised(network, points, compile="default")
    assert result.folded == 1
    for found, expected in zip(
        logits_and_gradient(result.network, points), logits_and_gradient(network, points), strict=True
    ):
        assert torch.allclose(found, expected, rtol=1e-4, atol=1e-6)
    outputs = []
    result.network.get_submodule("norm").register_forward_hook(lambda m, i, output: outputs.append(output))
    with torch.compiler.set_stance("force_eager"):
        logits = result.network(points.requires_grad_())
        (gradient,) = torch.autograd.grad(logits.sum(), outputs)
    assert gradient.shape == (2, 6, 6, 8)


@pytest.mark.slow
def test_compiled_code_serves_all_threads_and_sizes() -> None:
    from torch._dynamo.utils import counters

    torch.compiler.reset()
    counters.clear()
    network = optimised(built(Small), noise(1, 3, 6, 8), compile="default").network
    compiled = counters["stats"]["unique_graphs"]
    found: list[tuple[Tensor, Tensor]] = []
    points = noise(5, 3, 6, 8, seed=1)
    thread = threading.Thread(target=lambda: found.extend(logits_and_gradient(network, points[:n]) for n in (1, 4, 5)))
    thread.start()
    thread.join()
    assert counters["stats"]["unique_graphs"] == compiled == 2
    expected = logits_and_gradient(built(Small), points)
    for one, other in zip(found[-1], expected, strict=True):
        assert torch.allclose(one, other, rtol=1e-4, atol=1e-6)


def test_compiled_code_with_other_answers_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Small, "compile", lambda network: network.head.weight.data.neg_())
    result = optimised(built(Small), noise(1, 3, 6, 8), compile="default")
    assert result.left_out == ("compilation: the network gives other values",)


@pytest.mark.slow
def test_a_failed_compilation_names_the_network() -> None:
    from torch._inductor import config

    torch.compiler.reset()
    no_compiler = config.patch({"cpp.cxx": ("no-such-compiler",)})
    with no_compiler, pytest.raises(ModelError, match=r"Small.*no-such-compiler"):
        optimised(built(Small), noise(1, 3, 5, 7), compile="default")


@pytest.mark.parametrize("size", [(16, 16), (17, 12), (15, 31)])
@pytest.mark.parametrize(("kernel", "stride"), [(3, 2), (5, 2), (3, 1), (2, 2), (4, 3)])
def test_padding_moves_into_the_kernel(size: tuple[int, int], kernel: int, stride: int) -> None:
    layer = Conv2dSame(4, 8, kernel, stride=stride, groups=2).double()
    aligned = AlignedConv(layer, size)
    points = torch.rand(2, 4, *size, dtype=torch.float64, requires_grad=True)
    found, expected = aligned(points), layer(points)
    assert torch.allclose(found, expected, rtol=1e-12, atol=1e-14)
    weights = torch.rand_like(found)
    first, second = (torch.autograd.grad((y * weights).sum(), points, retain_graph=True)[0] for y in (found, expected))
    assert torch.allclose(first, second, rtol=1e-12, atol=1e-14)
    other = torch.rand(1, 4, 20, 23, dtype=torch.float64)
    assert torch.equal(aligned(other), layer(other))


def test_a_clamp_gives_the_derivative_of_relu6() -> None:
    usual, ours = nn.ReLU6(), InPlaceClamp(nn.ReLU6())
    values = torch.linspace(-3, 9, 25, dtype=torch.float64).requires_grad_()  # with 0 and 6 themselves
    weights = torch.rand(25, dtype=torch.float64)
    (expected,) = torch.autograd.grad((usual(values) * weights).sum(), values)
    (found,) = torch.autograd.grad((ours(values * 1.0) * weights).sum(), values)
    assert torch.equal(found, expected)
    with torch.no_grad():
        assert torch.equal(ours(values.clone()), usual(values))


def test_a_clamp_whose_gradient_another_layer_shares_is_left_alone() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(3, 4, 3, padding=1)
            self.act = nn.ReLU6(inplace=True)

        def forward(self, points: Tensor) -> Tensor:
            return (self.act(self.first(points) * 8) + self.second(points).tanh()).mean(dim=(2, 3))

    network = Shared().double().eval()
    points = torch.rand(2, 3, 12, 12, dtype=torch.float64)
    fast = optimised(network, points).network
    gradients = []
    for one in (network, fast):
        variable = points.clone().requires_grad_()
        gradients.append(torch.autograd.grad(one(variable).square().sum(), variable)[0])
    assert torch.allclose(*gradients, rtol=1e-9)


class Branches(nn.Module):
    """A sum of a branch and a clamped one: both are handed the same gradient."""

    def __init__(self, clamp: nn.Module) -> None:
        super().__init__()
        self.plain, self.clamped = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(3, 8, 3, padding=1)
        self.clamp = clamp
        self.head = nn.Linear(8, 4)

    def forward(self, points: Tensor) -> Tensor:
        hidden = self.plain(points) + self.clamp(self.clamped(points))
        logits: Tensor = self.head(hidden.tanh().mean(dim=(2, 3)))
        return logits


def saturating() -> Tensor:
    """Black, white, halves of both, and a ramp, (4, 3, 16, 16)."""
    ramp = torch.linspace(0, 1, 16).expand(3, 16, 16)
    return torch.stack([torch.zeros(3, 16, 16), torch.ones(3, 16, 16), (ramp > 0.5).float(), ramp])


@pytest.mark.parametrize("limit", [0.4, 0.8, 1.2])
def test_a_gradient_that_another_branch_receives_is_not_written_to(limit: float) -> None:
    network = built(lambda: Branches(nn.Hardtanh(-limit, limit, inplace=True)))
    with torch.no_grad():
        network.clamped.weight.mul_(2)  # so that flat images saturate where noise mostly does not
    result = optimised(network, torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0)))
    assert isinstance(result.network.get_submodule("clamp"), InPlaceClamp)
    for points in (saturating(), saturating() * 4 - 2):
        check_equal(network, result, points, tolerance=1e-4)


def test_a_change_that_shows_on_saturated_points_alone_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    class Overwriting(InPlaceClamp):
        """Forgets that the derivative is zero beyond the bounds."""

        def forward(self, values: Tensor) -> Tensor:
            return values + (values.clamp(self.low, self.high) - values).detach()

    monkeypatch.setattr("ssig.acceleration.exact.InPlaceClamp", Overwriting)
    network = built(lambda: Branches(nn.Hardtanh(-3, 3, inplace=True)))
    with torch.no_grad():
        network.clamped.weight.fill_(0.2)
        network.clamped.bias.zero_()
    example = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 0.9
    result = optimised(network, example)
    assert float(network.clamped(example).amax()) < 5.4
    assert not isinstance(result.network.get_submodule("clamp"), Overwriting)
