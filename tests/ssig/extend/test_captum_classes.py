"""Captum's classes as methods: the same maps as Captum's own, in any batch, and refused where they would be wrong."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable
from typing import Any

import captum.attr
import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import relu

import ssig
from ssig import attribute, testing
from ssig.engine.replica import Replica
from ssig.engine.trial import try_method
from ssig.extend.captum_classes import PAPERS, feature_mask
from ssig.extend.captum_identities import conserves_relevance, sums_to_the_difference
from ssig.models.model import Model
from ssig.randomness import stream
from ssig.registry import METHODS
from ssig.registry.catalogue import METHOD, check
from ssig.registry.choices import with_options
from ssig.registry.entries import Cost

KEYS = [("s.tar", str(number)) for number in range(5)]
BLACK_BOX = ("Lime", "KernelShap", "FeatureAblation", "ShapleyValueSampling")
GRID = {"features": "grid-2"}


class Flattened(nn.Module):
    """Some layers, whose output is flattened, and a head: Captum has rules for its modules."""

    def __init__(self, *layers: nn.Module, features: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.head = nn.Linear(features, 5)
        generator = torch.Generator().manual_seed(4)
        for parameter in self.parameters():
            parameter.data = torch.randn(parameter.shape, generator=generator, dtype=torch.float64) / 3
        self.double().eval().requires_grad_(False)

    def forward(self, points: Tensor) -> Tensor:
        for layer in self.layers:
            points = layer(points)
        logits: Tensor = self.head(points.flatten(1))
        return logits


def ruled(activation: nn.Module, pool: nn.Module | None = None) -> nn.Module:
    pool = nn.AvgPool2d(2) if pool is None else pool
    return Flattened(nn.Conv2d(3, 4, 3, padding=1), activation, pool, nn.Conv2d(4, 6, 3), nn.ReLU(), features=72)


class Shortcut(nn.Module):
    """A convolution whose input is added to its output."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, points: Tensor) -> Tensor:
        return self.convolution(points) + points


class FunctionalReLU(nn.Module):
    def forward(self, points: Tensor) -> Tensor:
        return relu(points)


class Unlike(nn.Module):
    """A ReLU whose result is not what its caller goes on with, so that a module cannot stand for it."""

    def forward(self, points: Tensor) -> Tensor:
        points = points.clone()
        torch.relu_(points)
        return points


class Doubled(nn.Module):
    """A sum that no module can stand for."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, points: Tensor) -> Tensor:
        return torch.add(self.convolution(points), points, alpha=1)


@pytest.fixture
def network() -> nn.Module:
    return ruled(nn.ReLU(inplace=True))


def seeded(key: str, name: str) -> None:
    """Torch's random numbers as an image has them, by the definition."""
    torch.manual_seed(int(stream(0, "s.tar", key, name).generator(0).integers(2**63)))


@pytest.mark.parametrize(
    ("title", "given"),
    [
        ("DeepLift", {}),
        ("DeepLift", {"multiply_by_inputs": False}),
        ("GuidedBackprop", {}),
        ("LRP", {}),
        ("InputXGradient", {}),
        ("IntegratedGradients", {"n_steps": 7}),
        ("FeatureAblation", GRID),
        ("Lime", {**GRID, "n_samples": 40}),
        ("KernelShap", {**GRID, "n_samples": 40}),
        ("ShapleyValueSampling", {**GRID, "n_samples": 3}),
    ],
)
def test_maps_are_those_of_captum(images: Tensor, targets: Tensor, title: str, given: dict[str, Any]) -> None:
    network, name = ruled(nn.ReLU()), f"captum:{title}"
    result = attribute(network, images, targets, name, baseline="black", keys=KEYS, **given)
    kind = getattr(captum.attr, title)
    of_constructor = {key: given[key] for key in given if key == "multiply_by_inputs"}
    of_call = {key: given[key] for key in given if key.startswith("n_")}
    for row, image in enumerate(images.split(1)):
        if "features" in given:
            of_call["feature_mask"] = feature_mask(given["features"], image)
        with torch.random.fork_rng(devices=[]):
            seeded(str(row), name)
            expected = kind(network, **of_constructor).attribute(image.clone(), target=row, **of_call)
        exact = expected.dtype == torch.float64  # else Captum counts in float32
        assert torch.allclose(result.values[row], expected[0].detach().double(), rtol=1e-9 if exact else 1e-5)


def test_deep_lift_shap_is_the_mean_over_images_of_the_data_set(images: Tensor, targets: Tensor) -> None:
    network, others = ruled(nn.ReLU()), images.flip(0)[:3]
    result = attribute(network, images, targets, "captum:DeepLiftShap", references=others, micro_batch=4)
    expected = captum.attr.DeepLiftShap(network).attribute(images, others, target=targets)
    assert torch.allclose(result.values, expected.detach(), rtol=1e-9)
    assert torch.allclose(result.baseline_score, network(others).mean(dim=0)[targets])
    assert result.completeness_residual is not None
    assert result.completeness_residual.abs().max() < 1e-12
    assert METHODS["captum:DeepLiftShap"].references(METHODS["captum:DeepLiftShap"].parse({"pool": 3})) == 3
    with pytest.raises(ssig.ModelError, match="two images"):
        attribute(network, images, targets, "captum:DeepLiftShap", references=others[:1])


@pytest.mark.parametrize("micro_batch", [1, 16])
@pytest.mark.parametrize(
    ("title", "given", "gradients", "forwards"),
    [
        ("DeepLift", {}, 2, 0),
        ("DeepLiftShap", {"pool": 4}, 8, 0),
        ("GuidedBackprop", {}, 1, 0),
        ("LRP", {}, 2, 0),
        ("IntegratedGradients", {"n_steps": 7}, 7, 0),
        ("FeatureAblation", {"features": "grid-3"}, 0, 10),
        ("Lime", {**GRID, "n_samples": 6}, 0, 6),
        ("KernelShap", {**GRID, "n_samples": 6}, 0, 6),
        ("ShapleyValueSampling", {"features": "grid-3", "n_samples": 5}, 0, 46),
    ],
)
def test_the_cost_is_what_the_network_was_asked(
    images: Tensor,
    targets: Tensor,
    title: str,
    given: dict[str, Any],
    gradients: int,
    forwards: int,
    micro_batch: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The check of the network is made again when its weights change, which LRP does for a while.
    monkeypatch.setattr("ssig.api.attribution.independent", lambda *arguments: None)
    network, spec, spent = ruled(nn.ReLU()), METHODS[f"captum:{title}"], [0, 0]
    assert spec.cost(spec.parse(given)) == Cost(gradients, forwards)

    def explained() -> ssig.Attribution:
        return attribute(network, images, targets, spec.name, references=images[:4], micro_batch=micro_batch, **given)

    explained()  # checks the network

    def count(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        spent[0 if torch.is_grad_enabled() and inputs[0].requires_grad else 1] += len(inputs[0])

    network.register_forward_hook(count)
    assert explained().gradient_evaluations.tolist() == [gradients] * 5
    scored = 5 * 2 + (4 if title == "DeepLiftShap" else 0)  # images and baselines, and those of the data set
    assert spent == [5 * gradients, 5 * forwards + scored]


@pytest.mark.parametrize("title", ["FeatureAblation", "ShapleyValueSampling"])
def test_the_forwards_of_segments_are_not_known_before(title: str) -> None:
    spec = METHODS[f"captum:{title}"]
    assert spec.cost(spec.parse({"features": "slic"})) == Cost(0, None)
    assert spec.cost(spec.parse({"features": "slic", "over": "noise"})) == Cost(0, None)


@pytest.mark.parametrize("title", [*BLACK_BOX, "DeepLift", "DeepLiftShap"])
def test_an_image_has_the_same_map_in_any_batch(title: str) -> None:
    testing.batch_equals_loop(f"captum:{title}")


@pytest.mark.parametrize("title", BLACK_BOX)
def test_random_numbers_come_from_the_image_alone(images: Tensor, targets: Tensor, title: str) -> None:
    network, given = testing.small_network(), {**GRID, **({} if title == "FeatureAblation" else {"n_samples": 3})}
    if title == "Lime":
        given |= {"n_samples": 20, "alpha": 1e-6}
    before = torch.get_rng_state()
    first = attribute(network, images, targets, f"captum:{title}", keys=KEYS, **given)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(3)
    again = attribute(network, images, targets, f"captum:{title}", keys=KEYS, **given)
    torch.testing.assert_close(again.map, first.map)
    other = attribute(network, images, targets, f"captum:{title}", keys=KEYS, seed=1, **given)
    assert torch.allclose(other.map, first.map) == (title == "FeatureAblation")


def by_feature(result: ssig.Attribution, images: Tensor) -> Tensor:
    """(B, features), the value of each feature, which stands at each of its pixels."""
    labels = feature_mask("grid-2", images[:1])[0, 0]
    values = result.values[:, 0]
    return torch.stack([values[:, labels == label][:, 0] for label in range(4)], dim=1)


@pytest.mark.parametrize("title", ["KernelShap", "ShapleyValueSampling"])
def test_shapley_values_sum_to_the_difference(images: Tensor, targets: Tensor, title: str) -> None:
    result = attribute(testing.small_network(), images, targets, f"captum:{title}", baseline="black", **GRID)
    sums = by_feature(result, images).sum(dim=1)
    assert torch.allclose(sums, result.score - result.baseline_score, rtol=1e-4, atol=1e-6)
    assert result.gradient_evaluations.tolist() == [0] * 5


@pytest.mark.parametrize("title", ["FeatureAblation", "ShapleyValueSampling", "KernelShap"])
def test_features_of_a_linear_network_have_their_own_terms(linear: nn.Module, images: Tensor, title: str) -> None:
    targets = torch.tensor([0, 1, 2, 0, 1])
    result = attribute(linear, images, targets, f"captum:{title}", baseline="black", **GRID)
    terms = (next(linear.parameters()).detach()[targets] * images).sum(dim=1)
    labels = feature_mask("grid-2", images[:1])[0, 0]
    expected = torch.stack([terms[:, labels == label].sum(dim=1) for label in range(4)], dim=1)
    assert torch.allclose(by_feature(result, images), expected, rtol=1e-4, atol=1e-4)


def test_features_are_segments_or_cells(images: Tensor) -> None:
    mask = feature_mask("grid-3", images[:1])
    assert mask.shape == (1, 1, 10, 12)
    assert mask.unique().tolist() == list(range(9))
    for name in ("felzenszwalb", "slic", "grid-1", "grid-100"):
        labels = feature_mask(name, images[:1]).unique()
        assert labels.tolist() == list(range(len(labels)))
    with pytest.raises(ssig.UsageError) as caught:
        METHODS["captum:Lime"].parse({"features": "grid-0"})
    assert caught.value.field == "methods.captum:Lime.features"


@pytest.mark.parametrize(
    ("title", "other", "reason"),
    [
        ("DeepLift", ruled(nn.ReLU6()), "no rule for a part"),
        ("DeepLift", ruled(nn.GELU()), "in place of f"),
        (
            "DeepLift",
            Flattened(nn.Conv2d(3, 4, 3), nn.MaxPool2d(3, 1, 1, dilation=2), features=192),
            "cannot explain this network: ValueError",
        ),
        ("DeepLiftShap", ruled(nn.GELU()), "in place of f"),
        ("GuidedBackprop", testing.small_network(), "would be the plain gradient"),
        ("GuidedBackprop", ruled(Unlike()), "1 of the network's 2 ReLUs are no modules"),
        ("Deconvolution", ruled(Unlike()), "are no modules"),
        ("LRP", ruled(nn.Softplus()), "Softplus.*has no rule defined"),
        ("LRP", Flattened(nn.Conv2d(3, 4, 3, padding=1), Doubled(), nn.ReLU(), features=480), "do not conserve it"),
    ],
)
def test_a_network_for_which_a_class_is_wrong_is_refused(
    images: Tensor, targets: Tensor, title: str, other: nn.Module, reason: str
) -> None:
    with pytest.raises(ssig.ModelError, match=f"Captum's {title}.*{reason}"):
        attribute(other, images, targets, f"captum:{title}", references=images.flip(0))


@pytest.mark.parametrize("identity", [sums_to_the_difference, conserves_relevance])
def test_numbers_that_explode_have_no_sum(images: Tensor, identity: Callable[..., str | None]) -> None:
    """Their rounding is as large as the sum, so it excuses none."""
    huge = 1e20 * torch.tensor([1.0, -1.0], dtype=torch.float64)
    reason = identity(ruled(nn.ReLU()), images[:2], lambda part, point, baseline, target: huge)
    assert reason is not None
    assert "in place of" in reason


def test_a_network_is_refused_before_any_work() -> None:
    spec = METHODS["captum:DeepLift"]
    wrong, right = ruled(nn.GELU()), ruled(nn.ReLU())
    for network in (wrong, right):
        network.mean = torch.full((3,), 0.5, dtype=torch.float64)
    with pytest.raises(ssig.UsageError, match="a method that the network can run: Captum's DeepLift"):
        try_method(spec, spec.parse({}), Replica(wrong), (10, 12))
    try_method(spec, spec.parse({}), Replica(right), (10, 12))


@pytest.mark.parametrize("title", [*PAPERS, "IntegratedGradients", "Deconvolution", "InputXGradient", "Saliency"])
def test_each_class_passes_its_trial_on_a_network_with_rules(title: str) -> None:
    network, spec = ruled(nn.ReLU()), METHODS[f"captum:{title}"]
    network.mean = torch.full((3,), 0.5, dtype=torch.float64)
    try_method(spec, spec.parse({}), Replica(network), (10, 12))


def test_a_score_and_a_function_without_rules_are_refused(network: nn.Module, images: Tensor, targets: Tensor) -> None:
    with pytest.raises(ssig.ModelError, match="type score=logit"):
        attribute(network, images, targets, "captum:DeepLift", score="probability")
    with pytest.raises(ssig.ModelError, match="this network is a function"):
        attribute(lambda points: network(points), images, targets, "captum:DeepLift")
    result = attribute(lambda points: network(points), images, targets, "captum:Lime", score="probability", **GRID)
    assert torch.allclose(result.score, network(images).softmax(dim=1).diagonal())


def test_the_network_is_left_as_it_was(network: nn.Module, images: Tensor, targets: Tensor) -> None:
    modules = [part for part in network.modules() if isinstance(part, nn.ReLU)]
    for title in ("DeepLift", "GuidedBackprop", "LRP"):
        attribute(network, images, targets, f"captum:{title}")
    assert [part.inplace for part in modules] == [True, False]
    assert all(not part._forward_hooks and not part._backward_hooks for part in network.modules())
    assert all(set(vars(part)) == set(vars(nn.ReLU())) for part in modules)


def test_relevance_starts_behind_the_normalisation(images: Tensor, targets: Tensor) -> None:
    network = ruled(nn.ReLU())
    mean, std = torch.tensor([0.4, 0.5, 0.6]), torch.tensor([0.2, 0.3, 0.25])
    model = Model(
        network, name="n", mean=mean.double(), std=std.double(), geometry=geometry(), categories=tuple("abcde")
    )
    result = attribute(model, images, targets, "captum:LRP", ready=False)
    normalised = (images - mean.view(-1, 1, 1)) / std.view(-1, 1, 1)
    expected = captum.attr.LRP(network).attribute(normalised, target=targets)
    assert torch.allclose(result.values, expected.detach(), rtol=1e-5)


def geometry() -> ssig.models.geometry.Geometry:
    return ssig.models.geometry.Geometry(resize=(10, 12), crop=(10, 12))


def test_a_class_is_named_like_a_method(network: nn.Module, images: Tensor, targets: Tensor) -> None:
    assert with_options("methods", "captum:DeepLift:eps=1e-9") == ("captum:DeepLift", {"eps": 1e-9})
    assert with_options("methods", "captum:DeepLift") == ("captum:DeepLift", {})
    check(METHOD, "captum:DeepLift", {})
    spec = METHODS.find("captum:DeepLift")
    source = METHODS.source(spec.name)
    assert source is not None
    version = importlib.metadata.version("captum")
    assert source.origin == {"distribution": "captum", "version": version, "object": "captum.attr:DeepLift"}
    assert METHODS.agrees("captum:DeepLift", source.origin)
    assert not METHODS.agrees("captum:DeepLift", {**source.origin, "version": "0"})
    assert (spec.complete, spec.network, spec.baseline(spec.parse({})), spec.cost(spec.parse({})).gradients) == (
        True,
        True,
        True,
        2,
    )
    guided = METHODS["captum:GuidedBackprop"]
    assert not guided.baseline(guided.parse({}))
    assert METHODS["captum:Lime"].parse({"preset": "paper"}).n_samples == 1000


@pytest.mark.parametrize(
    ("title", "reason"),
    [
        ("NoiseTunnel", "over=noise"),
        ("GradientShap", "expected-gradients"),
        ("FeaturePermutation", "mixes the images"),
        ("LayerGradCam", "no 'layer'"),
        ("deeplift", r"found 'captum:deeplift'; did you mean captum:DeepLift\? allowed: a class of captum\.attr$"),
        ("ClassSummarizer", "a method `attribute`"),
    ],
)
def test_classes_that_are_no_methods_are_refused(title: str, reason: str) -> None:
    with pytest.raises(ssig.UsageError, match=reason):
        METHODS.find(f"captum:{title}")


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr("importlib.metadata.version", missing)
    monkeypatch.setattr(METHODS, "_adopted", {})  # other tests have found the class before
    with pytest.raises(ssig.UsageError, match="type pip install captum"):
        METHODS.find("captum:Saliency")


def test_a_class_is_averaged_over_noise(network: nn.Module, images: Tensor, targets: Tensor) -> None:
    result = attribute(network, images, targets, "captum:DeepLift", over="noise", over_samples=4, keys=KEYS)
    alone = attribute(network, images[:1], targets[:1], "captum:DeepLift", over="noise", over_samples=4, keys=KEYS[:1])
    assert torch.allclose(result.map[:1], alone.map)
    assert result.gradient_evaluations.tolist() == [8] * 5
    assert np.isfinite(result.map.numpy()).all()
