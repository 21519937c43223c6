"""What holds for every method of the registry: batches, counts, shapes, and images that are hard to explain."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import ssig
from ssig import Attribution, attribute
from ssig.methods.blur_ig import blurred
from ssig.registry import METHODS

# Needs a network with attention, and has tests of its own.
ATTENTION = {"ssig-attention"}
CONTROLS = {"random", "sobel", "centre"}
CAM = {"grad-cam", "integrated-grad-cam", "ssig-cam"}
ALL = [spec.name for spec in ssig.list_methods() if spec.name not in ATTENTION]
SAMPLED = {
    *("ssig", "ssig-signed", "ssig-frequency", "ssig-shapley", "ssig-path", "ssig-cam", "idgi-ssig-path"),
    *("smoothgrad", "smoothgrad-squared", "vargrad", "expected-gradients", "ig2"),
}
# Spend fewer evaluations where an image is done with.
AT_MOST = {"agi"}

# Weigh the activations of a layer, which is a part of the implementation and not of the function; integrated Grad-CAM
# does too, but from their differences a constant falls out.
NOT_INVARIANT = {"grad-cam", "ssig-cam"}

Attribute = Callable[..., Attribution]


def total(values: Tensor) -> Tensor:
    return values.sum(dim=(1, 2, 3), keepdim=True)


# The closed form of each method on a linear network, from its weights and the image; others have their own tests.
LINEAR: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    **dict.fromkeys(("ssig", "ssig-frequency"), lambda weight, images: weight.abs()),
    **dict.fromkeys(("gradient", "smoothgrad"), lambda weight, images: weight),
    **dict.fromkeys(
        (
            *("ssig-signed", "ssig-shapley", "ssig-path", "ig", "guided-ig", "left-ig", "spectral-ig"),
            *("gradient-x-input", "expected-gradients", "lpi"),
        ),
        lambda weight, images: weight * images,
    ),
    **dict.fromkeys(
        ("idgi-ig", "idgi-guided", "idgi-ssig-path"),
        lambda weight, images: weight.square() / total(weight.square()) * total(weight * images),
    ),
    "blur-ig": lambda weight, images: weight * (images - blurred(images, 50.0)),
    "smoothgrad-squared": lambda weight, images: weight.square(),
    "vargrad": lambda weight, images: torch.zeros_like(weight),
}


@pytest.fixture
def explain() -> Attribute:
    """`ssig.attribute`, with images to compare with for the methods that want some."""

    def run(network: Any, images: Tensor, targets: Tensor, method: str, **options: Any) -> Attribution:
        generator = torch.Generator().manual_seed(11)
        others = torch.rand(12, *images.shape[1:], generator=generator, dtype=torch.float64).to(images)
        return attribute(network, images, targets, method, **{"references": others, **options})

    return run


@pytest.mark.parametrize("method", ALL)
def test_batch_equals_loop(cnn: nn.Module, images: Tensor, targets: Tensor, explain: Attribute, method: str) -> None:
    keys = [("s.tar", str(index)) for index in range(5)]
    whole = explain(cnn, images, targets, method, keys=keys)
    for index in range(5):
        span = slice(index, index + 1)
        alone = explain(cnn, images[span], targets[span], method, keys=keys[span], micro_batch=3)
        assert torch.allclose(alone.map[0], whole.map[index], rtol=1e-9, atol=1e-14)
        assert alone.gradient_evaluations.tolist() == whole.gradient_evaluations[span].tolist()
        if whole.standard_error is not None:
            assert alone.standard_error is not None
            assert torch.allclose(alone.standard_error[0], whole.standard_error[index], rtol=1e-8, atol=1e-14)


@pytest.mark.parametrize("method", sorted(LINEAR))
def test_a_linear_network_is_attributed_exactly(
    linear: nn.Module, images: Tensor, targets: Tensor, explain: Attribute, method: str
) -> None:
    targets = targets % 3
    result = explain(linear, images, targets, method, baseline="black", references=torch.zeros_like(images[:1]))
    weight = linear.weight.detach()[targets]
    assert torch.allclose(result.values, LINEAR[method](weight, images), rtol=1e-9, atol=1e-12)
    assert torch.allclose(result.score, linear(images).gather(1, targets[:, None])[:, 0])
    if result.completeness_residual is not None:
        assert result.completeness_residual.abs().max() < 1e-9


@pytest.mark.parametrize("method", ALL)
def test_evaluations_are_what_the_listing_says(
    cnn: nn.Sequential, images: Tensor, targets: Tensor, explain: Attribute, method: str
) -> None:
    spec = next(spec for spec in ssig.list_methods() if spec.name == method)
    gradients = 0

    def count(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        nonlocal gradients
        gradients += len(output) if torch.is_grad_enabled() else 0

    cnn.register_forward_hook(count)
    result = explain(cnn, images, targets, method)
    listed = spec.evaluations(spec.parse({}))
    assert all(spent <= listed if method in AT_MOST else spent == listed for spent in result.gradient_evaluations)
    assert gradients == int(result.gradient_evaluations.sum())


@pytest.mark.parametrize("method", ALL)
def test_every_method_gives_a_whole_result(
    cnn: nn.Module, images: Tensor, targets: Tensor, explain: Attribute, method: str
) -> None:
    result = explain(cnn.float(), images.float(), targets, method)
    assert result.values.shape == images.shape
    assert result.values.dtype == torch.float32
    assert result.map.shape == (5, 10, 12)
    assert torch.isfinite(result.map).all()
    assert (result.standard_error is not None) == (method in SAMPLED)
    if result.standard_error_mean is not None:
        assert (result.standard_error_mean >= 0).all()
        assert result.standard_error_mean.shape == (5,)


@pytest.mark.parametrize("method", ALL)
@pytest.mark.parametrize("value", [0.0, 0.5])
def test_constant_images_and_images_equal_to_their_baseline_are_finite(
    cnn: nn.Module, targets: Tensor, explain: Attribute, method: str, value: float
) -> None:
    constant = torch.full((5, 3, 10, 12), value, dtype=torch.float64)
    result = explain(cnn, constant, targets, method, baseline=constant, references=constant[:1])
    assert torch.isfinite(result.values).all()
    if result.completeness_residual is not None and method != "ig2":  # whose path ends elsewhere
        assert result.completeness_residual.abs().max() < 1e-12


@pytest.mark.parametrize("method", ALL)
def test_a_constant_image_far_from_its_baseline_is_finite(
    cnn: nn.Module, targets: Tensor, explain: Attribute, method: str
) -> None:
    constant = torch.full((5, 3, 10, 12), 0.75, dtype=torch.float64)
    assert torch.isfinite(explain(cnn, constant, targets, method, baseline="black").values).all()


@pytest.mark.parametrize("method", ALL)
def test_a_network_without_gradients_has_no_attributions(
    cnn: nn.Sequential, images: Tensor, targets: Tensor, explain: Attribute, method: str
) -> None:
    cnn[-1].weight.zero_()
    result = explain(cnn, images, targets, method)
    assert torch.isfinite(result.map).all()
    assert bool(result.values.any()) == (method in CONTROLS)
    if result.standard_error_mean is not None:
        assert (result.standard_error_mean == 0).all()
    if result.completeness_residual is not None:
        # Of equal scores, which a network may round otherwise in another batch.
        assert (result.completeness_residual.abs() <= 1e-14 * result.score.abs()).all()


def implemented_otherwise(cnn: nn.Sequential) -> nn.Sequential:
    """The same function: units of the first layer twice, at half the weight, and the last feature map raised by 1."""

    class Raised(nn.Module):
        def forward(self, features: Tensor) -> Tensor:
            return features + 1

    first, softplus, second, tanh, pool, flatten, head = copy.deepcopy(cnn)
    first.weight, first.bias = (_frozen(torch.cat([part, part])) for part in (first.weight, first.bias))
    second.weight = _frozen(torch.cat([second.weight, second.weight], dim=1) / 2)
    head.bias = _frozen(head.bias - head.weight.sum(dim=1))
    return nn.Sequential(first, softplus, second, tanh, Raised(), pool, flatten, head).eval()


def _frozen(values: Tensor) -> nn.Parameter:
    return nn.Parameter(values, requires_grad=False)


@pytest.mark.parametrize("method", ALL)
def test_networks_of_the_same_function_have_the_same_attributions(
    cnn: nn.Sequential, images: Tensor, targets: Tensor, explain: Attribute, method: str
) -> None:
    other = implemented_otherwise(cnn)
    assert torch.allclose(other(images), cnn(images), rtol=1e-12)
    found, again = (explain(network, images, targets, method).values for network in (cnn, other))
    assert torch.allclose(found, again, rtol=1e-8, atol=1e-12) == (method not in NOT_INVARIANT)


@pytest.mark.parametrize("method", ALL)
def test_the_baseline_matters_where_the_registry_says_so(
    cnn: nn.Module, images: Tensor, targets: Tensor, explain: Attribute, method: str
) -> None:
    keys = list("abcde")
    black, white = (explain(cnn, images, targets, method, baseline=name, keys=keys) for name in ("black", "white"))
    spec = METHODS[method]
    # Up to the last feature map this network's logits are linear, so that SSIG-CAM has the same gradients anywhere.
    depends = spec.baseline(spec.parse({})) and method != "ssig-cam"
    assert torch.equal(black.values, white.values) != depends


@pytest.mark.parametrize("method", [name for name in ALL if name not in CONTROLS | CAM])
def test_nan_gradients_reach_the_result(
    linear: nn.Module, images: Tensor, targets: Tensor, explain: Attribute, method: str
) -> None:
    def poisoned(points: Tensor) -> Tensor:
        # The images themselves are seen clearly, so that references and predictions are numbers.
        nan = torch.where(points.requires_grad * torch.ones(()) > 0, torch.nan, 1.0)
        return linear(points) * nan

    assert torch.isnan(explain(poisoned, images, targets % 3, method).map).any()
