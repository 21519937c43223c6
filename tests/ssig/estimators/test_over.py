"""The mean of any method over noisy or suppressed inputs."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import ssig
from ssig import attribute
from ssig.extend import method
from ssig.options import as_dict
from ssig.randomness import Stream, stream
from ssig.registry import METHODS
from ssig.testing import example_images, small_network

KEYS = [("s.tar", str(number)) for number in range(5)]
SAMPLES = 3


def derived(key: str, registry_name: str, name: str) -> np.random.Philox:
    """The stream of an image under a name, by the definition."""
    digest = hashlib.sha256(stream(0, "s.tar", key, registry_name).key.to_bytes(16, "little") + name.encode()).digest()
    return np.random.Philox(key=int.from_bytes(digest[:16], "little"))


def noisy(image: Tensor, key: str, registry_name: str, sample: int, sigma: float) -> Tensor:
    """Noise of `sigma` times the range of an image, by the definition."""
    key_of = derived(key, registry_name, "over").state["state"]["key"]
    bits = np.random.Philox(key=int(key_of[0]) + (int(key_of[1]) << 64), counter=sample << 192)
    eps = np.random.Generator(bits).standard_normal(tuple(image.shape), dtype=np.float32)
    return image + sigma * (image.max() - image.min()) * torch.from_numpy(eps).to(image)


def test_the_mean_over_noise_is_that_of_maps_of_noisy_images(cnn: nn.Module, images: Tensor, targets: Tensor) -> None:
    result = attribute(
        cnn, images, targets, "ig", steps=4, baseline="black", over="noise", over_samples=SAMPLES, keys=KEYS
    )
    for row, image in enumerate(images):
        inputs = torch.stack([noisy(image, str(row), "ig", k, 0.15) for k in range(SAMPLES)])
        alone = attribute(cnn, inputs, targets[row].repeat(SAMPLES), "ig", steps=4, baseline="black")
        assert torch.allclose(result.values[row], alone.values.mean(dim=0), rtol=1e-9)
        error = alone.map.std(dim=0) / SAMPLES**0.5
        assert result.standard_error is not None
        assert torch.allclose(result.standard_error[row], error, rtol=1e-6)
    plain = attribute(cnn, images, targets, "ig", steps=4, baseline="black")
    assert torch.allclose(result.score, plain.score)
    assert torch.allclose(result.baseline_score, plain.baseline_score)
    assert result.completeness_residual is None
    assert result.gradient_evaluations.tolist() == [4 * SAMPLES] * 5


def test_smoothgrad_is_the_gradient_over_noise(cubic: nn.Module, images: Tensor) -> None:
    targets = torch.tensor([0, 1, 2, 0, 1])
    count, sigma = 400, 0.2
    result = attribute(
        cubic, images, targets, "gradient", readout="sum", over="noise", over_samples=count, over_sigma=sigma
    )
    spread = images.amax(dim=(1, 2, 3), keepdim=True) - images.amin(dim=(1, 2, 3), keepdim=True)
    weight = next(cubic.parameters()).detach()[targets]
    # E 3 w (x + s eps)^2 = 3 w (x^2 + s^2)
    expected = (3 * weight * (images.square() + (sigma * spread).square())).sum(dim=1)
    assert result.standard_error is not None
    assert ((result.map - expected).abs() / result.standard_error).mean() == pytest.approx(0.8, abs=0.1)


def test_the_mean_over_suppression_has_its_closed_form(cubic: nn.Module, images: Tensor) -> None:
    targets = torch.tensor([0, 1, 2, 0, 1])
    result = attribute(cubic, images, targets, "gradient-x-input", baseline="black", over="uniform", over_samples=400)
    weight = next(cubic.parameters()).detach()[targets]
    # E 3 w (m x)^2 m x = 3 w x^3 / 4
    expected = (3 / 4 * weight * images.pow(3)).sum(dim=1)
    assert result.standard_error is not None
    assert ((result.map - expected).abs() / result.standard_error).mean() == pytest.approx(0.8, abs=0.1)


@pytest.mark.parametrize("over", ["noise", "uniform"])
@pytest.mark.parametrize("name", ["ssig", "ig", "guided-ig", "idgi-ig", "grad-cam", "xrai", "lpi", "agi"])
def test_an_image_has_the_same_mean_alone_and_in_a_batch(
    cnn: nn.Module, images: Tensor, targets: Tensor, name: str, over: str
) -> None:
    given = {"over": over, "over_samples": SAMPLES, "references": images.flip(0)}
    whole = attribute(cnn, images, targets, name, keys=KEYS, **given)
    alone = attribute(cnn, images[2:3], targets[2:3], name, keys=KEYS[2:3], micro_batch=2, **given)
    assert torch.allclose(alone.map[0], whole.map[2], rtol=1e-9, atol=1e-13)
    assert alone.gradient_evaluations.tolist() == whole.gradient_evaluations[2:3].tolist()
    other = attribute(cnn, images, targets, name, keys=KEYS, seed=1, **given)
    assert not torch.equal(whole.map, other.map)


def test_a_method_draws_anew_for_each_input(cnn: nn.Module, images: Tensor, targets: Tensor) -> None:
    dark = torch.zeros_like(images)
    # The noise of an image of one colour is 0, so only the draws of the method differ.
    many = attribute(cnn, dark, targets, "ssig", samples=1, over="noise", over_samples=8, baseline="white")
    assert many.standard_error is not None
    assert bool((many.standard_error > 0).any())


def test_a_function_and_a_derived_spec_can_be_averaged(cnn: nn.Module, images: Tensor, targets: Tensor) -> None:
    @method(evaluations=0)
    def brightness(model: nn.Module, images: Tensor, targets: Tensor, baselines: Tensor) -> Tensor:
        return images

    result = attribute(cnn, images, targets, brightness, over="uniform", over_samples=4, baseline="black")
    assert result.values.shape == images.shape
    assert (result.values.mean() / images.mean()).item() == pytest.approx(0.5, abs=0.05)
    spec = replace(METHODS["ig"], name="renamed")
    assert spec.evaluations(spec.parse({"steps": 8, "over": "noise", "over_samples": 5})) == 40


def test_what_a_spec_says_follows_the_option() -> None:
    spec = METHODS["gradient"]
    plain, noise, uniform = (spec.parse({"over": over}) for over in ("none", "noise", "uniform"))
    assert [spec.evaluations(options) for options in (plain, noise, uniform)] == [1, 25, 25]
    assert [spec.baseline(options) for options in (plain, noise, uniform)] == [False, False, True]
    assert METHODS["ig"].path(METHODS["ig"].parse({"over": "noise"})) is None
    assert not {"over", "over_samples", "over_sigma"} & as_dict(plain).keys()
    assert {"over", "over_samples", "over_sigma"} <= as_dict(noise).keys()


@pytest.mark.parametrize("over", ["none", "noise", "uniform"])
@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("gradient", {}),
        ("ig", {}),
        ("ssig", {}),
        ("rise", {"samples": 9}),
        ("xrai", {"base": "gradient"}),
        ("xrai", {"base": "guided-ig", "baselines": "one"}),
        ("xrai", {"base": "rise", "base_options": "over=noise; over_samples=2; samples=5", "baselines": "one"}),
        ("xrai", {"base": "captum:Lime", "base_options": "features=grid-2; n_samples=6", "baselines": "one"}),
        ("captum:FeatureAblation", {"features": "grid-2"}),
    ],
)
def test_the_cost_is_that_of_all_runs(name: str, given: dict[str, Any], over: str) -> None:
    network, images, spent = small_network(), example_images(), [0, 0]
    given = {**given, "over": over, "over_samples": SAMPLES}
    attribute(network, images, torch.arange(5), name, **given)  # checks the network

    def count(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        spent[0 if torch.is_grad_enabled() and inputs[0].requires_grad else 1] += len(output)

    network.register_forward_hook(count)
    attribute(network, images, torch.arange(5), name, **given)
    spec = METHODS[name]
    options = spec.parse(given)
    cost = spec.cost(options)
    assert cost.forwards is not None
    # Besides the scores of the image and its baseline.
    assert spent == [5 * (cost.gradients or 0), 5 * (cost.forwards + 2)]


def test_wrong_values_are_named() -> None:
    for given, field in (({"over": "blur"}, "methods.ig.over"), ({"over_samples": 0}, "methods.ig.over_samples")):
        with pytest.raises(ssig.UsageError) as caught:
            METHODS["ig"].parse(given)
        assert caught.value.field == field


def test_streams_of_names_differ() -> None:
    own = Stream(5)
    keys = {own.key, own.derived("over").key, own.derived("over 0").key, own.derived("over 1").key}
    assert len(keys) == 4
    assert own.derived("over") == Stream(5).derived("over")
