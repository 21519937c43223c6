"""What holds for every method of the registry: batches, counts, shapes, and images that are hard to explain."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import ssig
from ssig import Attribution, attribute, testing
from ssig.methods.blur_ig import blurred
from ssig.methods.samp import blurred as softened

CONTROLS = {"random", "sobel", "centre"}
CAM = {"grad-cam", "integrated-grad-cam", "ssig-cam", "grad-cam++", "layer-cam", "hires-cam", "score-cam"}
# Take no gradients.
FORWARD = {"rise", "occlusion", "score-cam"}
# Those that explain only networks with attention have tests of their own.
ALL = [spec.name for spec in ssig.list_methods() if not spec.attention]
SAMPLED = {
    *("ssig", "ssig-signed", "ssig-frequency", "ssig-shapley", "ssig-path", "ssig-cam", "idgi-ssig-path", "rise"),
    *("smoothgrad", "smoothgrad-squared", "vargrad", "expected-gradients", "ig2", "spi"),
}
# Spend fewer evaluations where an image is done with.
AT_MOST = {"agi", "samp++", "mfaba"}
# Their path ends elsewhere than at the baseline.
ELSEWHERE = {"ig2", "mfaba"}

# Weigh the activations of a layer, which is a part of the implementation and not of the function; integrated Grad-CAM
# does too, but from their differences a constant falls out.
NOT_INVARIANT = CAM - {"integrated-grad-cam"}
# Explains a network that is constant by the mean of few masks.
CONSTANT = {"rise"}

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
            *("gradient-x-input", "expected-gradients", "lpi", "spi"),
        ),
        lambda weight, images: weight * images,
    ),
    **dict.fromkeys(
        ("idgi-ig", "idgi-guided", "idgi-ssig-path"),
        lambda weight, images: weight.square() / total(weight.square()) * total(weight * images),
    ),
    "pwig": lambda weight, images: weight * images / 2,
    **dict.fromkeys(("samp", "samp++"), lambda weight, images: weight * (images - softened(images, 5.0, 15) / 2)),
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
def test_batch_equals_loop(method: str) -> None:
    testing.batch_equals_loop(method)


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
def test_evaluations_are_what_the_listing_says(method: str) -> None:
    testing.cost_is_declared(method, at_most=method in AT_MOST)


@pytest.mark.parametrize("method", ALL)
def test_every_method_gives_a_whole_result(explain: Attribute, cnn: nn.Module, images: Tensor, method: str) -> None:
    testing.result_is_whole(method)
    result = explain(cnn, images, torch.arange(5), method)
    assert (result.standard_error is not None) == (method in SAMPLED)


@pytest.mark.parametrize("method", ALL)
def test_hard_images_are_finite(method: str) -> None:
    testing.hard_images_are_finite(method, has_residual=method not in ELSEWHERE)


@pytest.mark.parametrize("method", ALL)
def test_a_network_without_gradients_has_no_attributions(method: str) -> None:
    if method not in CONTROLS | CONSTANT:
        testing.dead_network_has_no_attributions(method)
        return
    with pytest.raises(AssertionError, match="a constant network has attributions"):
        testing.dead_network_has_no_attributions(method)


@pytest.mark.parametrize("method", ALL)
def test_networks_of_the_same_function_have_the_same_attributions(method: str) -> None:
    if method not in NOT_INVARIANT:
        testing.networks_of_one_function_agree(method)
        return
    with pytest.raises(AssertionError, match="two networks of one function"):
        testing.networks_of_one_function_agree(method)


def test_the_two_networks_are_one_function(cnn: nn.Sequential, images: Tensor) -> None:
    assert torch.allclose(testing.implemented_otherwise(cnn)(images), cnn(images), rtol=1e-12)


# Up to the last feature map the network's logits are linear, so that SSIG-CAM has the same gradients anywhere. The
# features are negative, so that Score-CAM, whose weights are positive, has nothing that its ReLU keeps.
@pytest.mark.parametrize("method", [name for name in ALL if name not in {"ssig-cam", "score-cam"}])
def test_the_baseline_matters_where_the_registry_says_so(method: str) -> None:
    testing.baseline_counts_as_declared(method)


@pytest.mark.parametrize("method", [name for name in ALL if name not in CONTROLS | CAM | FORWARD])
def test_nan_gradients_reach_the_result(method: str) -> None:
    testing.nan_gradients_reach_the_result(method)
