"""Copies of networks for hooks: each step is a module of its own, and nothing else changes."""

from __future__ import annotations

import copy
import sys
from pathlib import Path

import captum.attr
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import max_pool2d, relu

sys.path.insert(0, str(Path(__file__).parent))

from test_captum_classes import Flattened, FunctionalReLU, Shortcut, Unlike, ruled

import ssig
from ssig.api import attribute
from ssig.extend.hookable import PLAIN, Manner, hookable
from ssig.extend.windows import SideBySide, overlaps

POINTS = torch.rand((5, 3, 10, 12), dtype=torch.float64, generator=torch.Generator().manual_seed(2))
TARGETS = torch.tensor([0, 1, 2, 3, 4])


def convolution() -> nn.Module:
    return nn.Conv2d(4, 4, 3, padding=1)


def first() -> nn.Module:
    return nn.Conv2d(3, 4, 3, padding=1)


class InPlace(nn.Module):
    """A skip connection as many networks write it."""

    def __init__(self) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList([convolution(), convolution()])
        self.relu = nn.ReLU(inplace=True)

    def forward(self, points: Tensor) -> Tensor:
        first, second = self.convolutions
        out: Tensor = second(self.relu(first(points)))
        out += points
        return self.relu(out)


class Inside(nn.Module):
    """A ReLU as a function of a module with parts."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = first()

    def forward(self, points: Tensor) -> Tensor:
        return relu(self.convolution(points))


class Restless(nn.Module):
    """Takes one more step at points that are bright."""

    def forward(self, points: Tensor) -> Tensor:
        points = relu(points)
        return relu(points - 1) if points.max() > 1e3 else points


def shared() -> nn.Module:
    part = nn.ReLU()
    return Flattened(first(), part, convolution(), part, features=480)


NETWORKS = [
    ruled(nn.ReLU()),
    ruled(nn.ReLU6()),
    ruled(FunctionalReLU()),
    ruled(Unlike()),
    shared(),
    Flattened(first(), Shortcut(), nn.ReLU(), features=480),
    Flattened(first(), InPlace(), InPlace(), features=480),
    Flattened(first(), Restless(), features=480),
    Flattened(first(), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1), features=120),
]


class Sum(nn.Module):
    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        return first + second


@pytest.mark.parametrize("manner", [PLAIN, Manner(Sum), Manner(apart=True)])
@pytest.mark.parametrize("network", NETWORKS)
def test_a_copy_has_the_networks_outputs_gradients_and_weights(network: nn.Module, manner: Manner) -> None:
    before = {name: list(vars(part)) for name, part in network.named_modules()}
    for _ in range(2):
        copied = hookable(network, POINTS[:1], manner)
        found, expected = POINTS.clone().requires_grad_(), POINTS.clone().requires_grad_()
        outputs, wanted = copied(found), network(expected)
        torch.testing.assert_close(outputs, wanted)
        outputs.sum().backward()
        wanted.sum().backward()
        torch.testing.assert_close(found.grad, expected.grad)
        assert {id(each) for each in copied.parameters()} == {id(each) for each in network.parameters()}
    assert {name: list(vars(part)) for name, part in network.named_modules()} == before


@pytest.mark.parametrize(
    ("network", "count"),
    [
        (ruled(nn.ReLU()), 2),
        (ruled(FunctionalReLU()), 2),
        (Flattened(Inside(), features=480), 1),
        (shared(), 2),
        (Flattened(first(), InPlace(), InPlace(), features=480), 4),
        (ruled(Unlike()), 1),  # copied as it is
    ],
)
def test_each_relu_of_a_pass_is_a_module_that_is_called_once(network: nn.Module, count: int) -> None:
    copied, called = hookable(network, POINTS[:1]), []
    for part in copied.modules():
        if isinstance(part, nn.ReLU):
            part.register_forward_hook(lambda part, inputs, output: called.append(part))
    copied(POINTS)
    assert len(called) == len(set(called)) == count


@pytest.mark.parametrize(("summing", "count"), [(None, 0), (Sum, 2)])
def test_each_sum_of_two_branches_is_a_module(summing: type[nn.Module] | None, count: int) -> None:
    copied = hookable(Flattened(first(), InPlace(), Shortcut(), features=480), POINTS[:1], Manner(summing))
    assert sum(isinstance(part, Sum) for part in copied.modules()) == count


def test_another_number_of_steps_is_no_silent_error() -> None:
    network = Flattened(first(), Restless(), features=480)
    copied = hookable(network, POINTS[:1])
    copied(POINTS)
    with pytest.raises(RuntimeError, match="another number of steps"):
        copied(1e6 * POINTS)
    copied(POINTS)


@pytest.mark.parametrize(
    "pool",
    [
        nn.MaxPool2d(3, 2),
        nn.MaxPool2d(3, 2, 1),
        nn.MaxPool2d(3, 2, ceil_mode=True),
        nn.MaxPool2d((3, 2), (2, 1), (1, 0)),
        nn.MaxPool2d(5, 3, 2, ceil_mode=True),
        nn.MaxPool2d(3, 1, 1),
    ],
    ids=repr,
)
def test_windows_side_by_side_have_the_maxima_and_gradients_of_the_pool(pool: nn.MaxPool2d) -> None:
    assert overlaps(pool)
    for points in (POINTS - 0.5, relu(POINTS - 0.5), torch.zeros(1, 2, 7, 9)):
        found, expected = points.clone().requires_grad_(), points.clone().requires_grad_()
        maxima, wanted = SideBySide(pool)(found), pool(expected)
        assert torch.equal(maxima, wanted)  # elements are chosen, nothing is computed
        if points.unique().numel() == points.numel():  # else a maximum has several places
            maxima.square().sum().backward()
            wanted.square().sum().backward()
            torch.testing.assert_close(found.grad, expected.grad)


def test_windows_that_do_not_overlap_stay() -> None:
    assert not overlaps(nn.MaxPool2d(2))
    assert not overlaps(nn.MaxPool2d(2, 3))
    assert not overlaps(nn.MaxPool2d(3, 2, dilation=2))
    assert not overlaps(nn.MaxPool2d(3, 2, return_indices=True))


@pytest.mark.parametrize(
    "layers",
    [
        (nn.ReLU(), nn.MaxPool2d(2)),
        (nn.MaxPool2d(2), nn.ReLU()),
        (nn.ReLU(), nn.MaxPool2d(3, 2, 1)),
        (nn.ReLU(), nn.MaxPool2d(3, 2, 1), nn.ReLU()),
        (InPlace(), nn.MaxPool2d(3, 2, 1), InPlace()),
    ],
    ids=repr,
)
def test_deep_lift_sums_to_the_difference_where_captum_alone_does_not(layers: tuple[nn.Module, ...]) -> None:
    network, others = Flattened(first(), *layers, features=120), POINTS.flip(0)[:4]
    copied, points = hookable(network, POINTS[:1], Manner(apart=True)), POINTS[:4].clone()
    expected = (network(points) - network(others)).gather(1, TARGETS[:4, None])[:, 0]
    values = captum.attr.DeepLift(copied).attribute(points, others, target=TARGETS[:4])
    torch.testing.assert_close(values.sum(dim=(1, 2, 3)), expected)
    if not isinstance(layers[0], InPlace):  # which Captum refuses
        alone = captum.attr.DeepLift(copy.deepcopy(network)).attribute(points, others, target=TARGETS[:4])
        assert (alone.sum(dim=(1, 2, 3)) - expected).abs().max() > 1e-3


def test_deep_lift_of_overlapping_windows_is_that_of_its_definition() -> None:
    """A window of one maximum gives it the difference of the outputs, as each part of a sum of windows."""
    network = Flattened(first(), nn.MaxPool2d(3, 2, 1), features=120)
    dark = torch.zeros_like(POINTS)
    found = attribute(network, POINTS, TARGETS, "captum:DeepLift", baseline="black").values
    begin, head = network.layers[0], network.head
    values, reference = begin(POINTS).detach(), begin(dark).detach()
    expected = torch.zeros_like(values)
    weights = head.weight[TARGETS].view(5, 4, 5, 6)
    most, most_at = max_pool2d(values, 3, 2, 1, return_indices=True)
    other, other_at = max_pool2d(reference, 3, 2, 1, return_indices=True)
    cross = torch.maximum(most, other)
    flat = expected.flatten(2)
    flat.scatter_add_(2, most_at.flatten(2), (weights * (cross - other)).flatten(2))
    flat.scatter_add_(2, other_at.flatten(2), (weights * (most - cross)).flatten(2))
    multipliers = flat.view_as(values) / (values - reference)
    points = POINTS.clone().requires_grad_()
    (begin(points) * multipliers).sum().backward()
    torch.testing.assert_close(found, (points.grad * (POINTS - dark)).detach(), rtol=1e-6, atol=1e-9)


class Scaling(nn.Module):
    """Normalises its input in place, as wrappers of networks do."""

    def __init__(self) -> None:
        super().__init__()
        self.network = ruled(nn.ReLU())

    def forward(self, points: Tensor) -> Tensor:
        logits: Tensor = self.network(points.sub_(0.5).div_(0.25))
        return logits


@pytest.mark.parametrize("manner", [PLAIN, Manner(Sum), Manner(apart=True)])
def test_the_point_of_a_network_that_changes_it_stays(manner: Manner) -> None:
    network, point = Scaling().eval(), POINTS[:1].clone()
    copied = hookable(network, point, manner)
    assert torch.equal(point, POINTS[:1])  # not touched
    assert sum(isinstance(part, nn.ReLU) for part in copied.modules()) == 2
    torch.testing.assert_close(copied(POINTS.clone()), network(POINTS.clone()))


def test_weights_that_are_replaced_are_those_of_the_next_copy() -> None:
    network = shared()
    hookable(network, POINTS[:1])
    network.head = copy.deepcopy(network.head)
    network.head.weight.data *= 2
    torch.testing.assert_close(hookable(network, POINTS[:1])(POINTS), network(POINTS))


@pytest.mark.parametrize("title", ["DeepLift", "GuidedBackprop", "LRP"])
def test_a_module_used_twice_is_as_good_as_two(title: str) -> None:
    twice, two = shared(), Flattened(first(), nn.ReLU(), convolution(), nn.ReLU(), features=480)
    result = attribute(twice, POINTS, TARGETS, f"captum:{title}", baseline="black")
    expected = attribute(two, POINTS, TARGETS, f"captum:{title}", baseline="black")
    torch.testing.assert_close(result.values, expected.values)


@pytest.mark.parametrize("title", ["DeepLift", "GuidedBackprop", "Deconvolution", "LRP"])
def test_a_function_is_as_good_as_a_module(title: str) -> None:
    function, module = Flattened(Inside(), features=480), Flattened(first(), nn.ReLU(), features=480)
    result = attribute(function, POINTS, TARGETS, f"captum:{title}", baseline="black")
    expected = attribute(module, POINTS, TARGETS, f"captum:{title}", baseline="black")
    torch.testing.assert_close(result.values, expected.values)


def without_offsets(*layers: nn.Module) -> nn.Module:
    network = Flattened(*layers, features=480)
    for name, parameter in network.named_parameters():
        if name.endswith("bias"):
            parameter.data.zero_()
    return network


def stable(values: Tensor) -> Tensor:
    """Away from 0 by the epsilon of Captum's rule."""
    return values + 1e-9 * torch.where(values < 0, -1.0, 1.0)


def test_relevance_of_a_skip_connection_is_that_of_its_definition() -> None:
    """Of `head(W p + p)`: each summand has the share of the relevance that it has of the sum (Bach et al., 2015)."""
    network = without_offsets(first(), Shortcut())
    found = attribute(network, POINTS, TARGETS, "captum:LRP").values
    begin, branch = network.layers[0], network.layers[1].convolution
    points, inner = POINTS.clone().requires_grad_(), begin(POINTS).requires_grad_()
    out = branch(inner)
    total = (out + inner).detach()
    logits = network(POINTS).gather(1, TARGETS[:, None])
    scale = (logits / stable(logits)).view(-1, 1, 1, 1)  # of the head, which has one number
    relevance = scale * network.head.weight[TARGETS].view_as(total) * total
    share = relevance / stable(total)
    (out * (share * out / stable(out)).detach()).sum().backward()  # passed back in the shares of its inputs
    of_inner = inner.detach() * (inner.grad + share)
    (begin(points) * (of_inner / stable(inner.detach()))).sum().backward()
    torch.testing.assert_close(found, (points * points.grad).detach(), rtol=1e-5, atol=1e-7)


def test_lrp_of_a_residual_network_conserves_relevance() -> None:
    network = without_offsets(first(), InPlace(), InPlace())
    result = attribute(network, POINTS, TARGETS, "captum:LRP")
    torch.testing.assert_close(result.values.sum(dim=(1, 2, 3)), result.score, rtol=1e-5, atol=1e-7)


def test_a_network_of_transformers_keeps_its_outputs() -> None:
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(12, 2, 16, batch_first=True, dtype=torch.float64).eval()

    class Tokens(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = layer
            self.position = nn.Parameter(torch.randn(1, 30, 12, dtype=torch.float64))

        def forward(self, points: Tensor) -> Tensor:
            tokens: Tensor = self.layer(points.flatten(1).unflatten(1, (30, 12)) + self.position)
            return tokens.mean(dim=1)

    network = Tokens().eval().requires_grad_(False)
    torch.testing.assert_close(hookable(network, POINTS[:1], Manner(Sum))(POINTS), network(POINTS))
    with pytest.raises(ssig.ModelError, match="Captum's LRP"):
        attribute(network, POINTS, TARGETS, "captum:LRP")
