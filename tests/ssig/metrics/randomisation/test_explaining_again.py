"""The metrics that call the method again: on changed images, other classes, other draws and randomised networks."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from captum.metrics import sensitivity_max
from scipy.stats import entropy, spearmanr
from skimage.metrics import structural_similarity
from torch import Tensor, nn

from ssig import attribute
from ssig.engine.device import Device
from ssig.engine.explainer import CACHE_SIZE, MethodExplainer
from ssig.engine.replica import Replica
from ssig.metrics.randomisation import randomised_networks
from ssig.metrics.randomisation.mprt import MprtOptions, stages
from ssig.metrics.randomisation.random_logit import other_classes
from ssig.metrics.randomisation.randomised_networks import randomisable, randomised
from ssig.metrics.robustness.max_sensitivity import MaxSensitivityOptions, furthest, perturbed
from ssig.metrics.shared.similarity import scaled, ssim
from ssig.registry import METHODS, METRICS
from ssig.types import Evaluation, Memo, MetricResult

NAMES = ("max_sensitivity", "mprt", "emprt", "random_logit", "stability")
SSIG = {"samples": 4}
Explained = Callable[..., Evaluation]


@pytest.fixture
def large() -> Tensor:
    """(4, 3, 12, 14), large enough for SSIM's window."""
    return torch.rand(4, 3, 12, 14, generator=torch.Generator().manual_seed(5), dtype=torch.float64)


@pytest.fixture
def explained(cnn: nn.Module, large: Tensor) -> Iterator[Explained]:
    """`explained(method, options, network=, rows=)`: an Evaluation of those images with the method's maps."""
    devices: list[Device] = []

    def make(
        method: str, options: dict[str, Any], network: nn.Module = cnn, rows: Sequence[int] = range(4), **changes: Any
    ) -> Evaluation:
        devices.append(Device(Replica(network)))
        images, targets = large[list(rows)], torch.tensor([0, 1, 2, 0])[list(rows)]
        keys = tuple(("a.tar", str(row)) for row in rows)
        mean, spec = torch.full((3,), 0.5), METHODS[method]
        return dataclasses.replace(
            Evaluation(
                images=images,
                maps=attribute(network, images, targets, method, keys=keys, **options).map,
                targets=targets,
                forward=network,
                mean=mean,
                std=torch.ones(3),
                masks=("none",) * len(images),
                keys=keys,
                explainer=MethodExplainer(
                    devices[-1],
                    spec,
                    spec.parse(options),
                    images,
                    targets,
                    keys,
                    mean,
                    fresh=lambda: copy.deepcopy(network),
                    cache=Memo(CACHE_SIZE),
                ),
            ),
            **changes,
        )

    yield make
    for device in devices:
        device.close()


@pytest.fixture
def linear_here() -> nn.Module:
    """`f_y(x) = <w_y, x>` of the large images: its gradient is the same everywhere."""
    with torch.random.fork_rng():
        torch.manual_seed(6)
        network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 12 * 14, 3))
    return network.double().eval().requires_grad_(False)


def compute(name: str, evaluation: Evaluation, **options: Any) -> MetricResult:
    metric = METRICS[name]
    return metric.compute(evaluation, metric.parse(options))


@pytest.mark.parametrize("name", NAMES)
def test_excluded_where_the_method_is_not_at_hand(name: str, explained: Explained) -> None:
    result = compute(name, explained("ssig", SSIG, explainer=None))
    for reasons in result.excluded:
        assert reasons == dict.fromkeys(METRICS[name].columns, "the method is not at hand to explain again")
    assert all(np.isnan(values).all() for values in result.columns.values())


@pytest.mark.parametrize("name", NAMES)
def test_an_image_does_not_depend_on_its_batch(name: str, explained: Explained) -> None:
    together = compute(name, explained("ssig", SSIG))
    for row in range(4):
        alone = compute(name, explained("ssig", SSIG, rows=[row]))
        assert alone.excluded == together.excluded[row : row + 1]
        for column, values in {**alone.columns, **alone.curves}.items():
            expected = {**together.columns, **together.curves}[column][row]
            np.testing.assert_allclose(values[0], expected, rtol=0, atol=1e-9)


def test_a_constant_gradient_has_no_sensitivity(explained: Explained, linear_here: nn.Module) -> None:
    for method, options in (("gradient", {}), ("ssig", SSIG)):
        evaluation = explained(method, options, linear_here)
        result = compute("max_sensitivity", evaluation, noise_floor=True)
        assert np.abs(result.columns["max_sensitivity"]).max() < 1e-12
        assert np.abs(result.columns["max_sensitivity_noise"]).max() < 1e-12


def test_sensitivity_of_a_map_that_is_known(explained: Explained, linear_here: nn.Module) -> None:
    """Gradient times input of a linear network: `A(x + d) - A(x) = w d`, summed over the channels."""
    evaluation = explained("gradient-x-input", {}, linear_here)
    weight = linear_here[1].weight.view(3, 3, 12, 14)[evaluation.targets]
    options = MaxSensitivityOptions(radius=0.1, samples=3)
    moves = [points - evaluation.images for points in perturbed(evaluation, options)]
    assert 0.099 < max(float(move.abs().max()) for move in moves) < 0.1
    before = (weight * (evaluation.images - 0.5)).sum(dim=1)
    expected = torch.stack(
        [(weight * move).sum(dim=1).flatten(1).norm(dim=1) / before.flatten(1).norm(dim=1) for move in moves]
    )
    found = compute("max_sensitivity", evaluation, radius=0.1, samples=3).columns["max_sensitivity"]
    np.testing.assert_allclose(found, expected.amax(dim=0).numpy(), rtol=1e-9)


@pytest.mark.parametrize(("batch_size", "calls"), [(64, [4, 40]), (8, [4, 8, 8, 8, 8, 8]), (1, [4] * 11)])
def test_changed_images_are_explained_in_batches(
    explained: Explained, monkeypatch: pytest.MonkeyPatch, batch_size: int, calls: list[int]
) -> None:
    evaluation = explained("gradient", {}, batch=batch_size)
    alone = compute("max_sensitivity", explained("gradient", {}, batch=1)).columns["max_sensitivity"]
    given: list[int] = []
    maps = MethodExplainer.maps

    def counted(self: MethodExplainer, images: Tensor, *further: Any, **named: Any) -> Tensor:
        given.append(len(images))
        return maps(self, images, *further, **named)

    monkeypatch.setattr(MethodExplainer, "maps", counted)
    found = compute("max_sensitivity", evaluation).columns["max_sensitivity"]
    assert given == calls
    np.testing.assert_allclose(found, alone, rtol=1e-9)


def captum_difference(evaluation: Evaluation, options: MaxSensitivityOptions) -> float:
    """Greatest relative difference from captum's `sensitivity_max`, given the same perturbations."""
    count = len(evaluation)
    points = torch.stack(list(perturbed(evaluation, options)), dim=1).flatten(0, 1)

    def explanations(inputs: Tensor | tuple[Tensor]) -> tuple[Tensor]:
        images = inputs[0] if isinstance(inputs, tuple) else inputs
        rows = torch.arange(count).repeat_interleave(len(images) // count)
        assert evaluation.explainer is not None
        return (evaluation.explainer.maps(images, evaluation.targets[rows], rows),)

    expected = sensitivity_max(
        explanations, evaluation.images, lambda inputs: points, n_perturb_samples=options.samples
    ).numpy()
    found = METRICS["max_sensitivity"].compute(evaluation, options).columns["max_sensitivity"]
    return float(np.abs(found / expected - 1).max())


@pytest.mark.parametrize("method", ["ssig", "gradient"])
def test_sensitivity_is_captums(explained: Explained, method: str) -> None:
    evaluation = explained(method, SSIG if method == "ssig" else {})
    assert captum_difference(evaluation, MaxSensitivityOptions(radius=0.1)) < 1e-5


def test_an_all_zero_map_counts_as_one() -> None:
    zero = torch.zeros(1, 2, 2)
    assert furthest(zero, [zero, zero + 1]).tolist() == [2.0]


def test_common_random_numbers_take_sampling_error_out_of_sensitivity(explained: Explained) -> None:
    evaluation = explained("ssig", SSIG)
    result = compute("max_sensitivity", evaluation, radius=1e-6, noise_floor=True)
    assert result.columns["max_sensitivity"].max() < 1e-4
    assert result.columns["max_sensitivity_noise"].min() > 1e-3
    usual = compute("max_sensitivity", evaluation)
    assert {reasons["max_sensitivity_noise"] for reasons in usual.excluded} == {"not computed (noise_floor: false)"}


def test_layers_go_from_the_logits_to_the_input_in_blocks() -> None:
    layers = tuple("abcde")
    assert stages(layers, MprtOptions(blocks=3)) == [("a", "b"), ("a", "b", "c", "d"), layers]
    assert stages(layers, MprtOptions(blocks=3, mode="independent")) == [("a", "b"), ("c", "d"), ("e",)]
    assert stages(layers, MprtOptions(blocks=9)) == [layers[:k] for k in range(1, 6)]
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, affine=False), nn.ReLU(), nn.MultiheadAttention(4, 2), nn.Linear(4, 2)
    )
    assert randomisable(network) == ("4", "3.out_proj", "3", "1", "0")


def test_randomised_networks_are_the_same_in_every_worker_and_leave_the_network(
    explained: Explained, cnn: nn.Module
) -> None:
    before = copy.deepcopy(cnn.state_dict())
    torch.manual_seed(11)
    state = torch.random.get_rng_state()
    evaluation = explained("ssig", SSIG)
    first, other = randomised(evaluation), randomised(explained("gradient", {}))
    assert not isinstance(first, str)
    assert not isinstance(other, str)
    assert randomised(evaluation) is first
    assert torch.equal(torch.random.get_rng_state(), state)
    assert first.layers == ("6", "2", "0")
    for name, value in first.random.state_dict().items():
        assert torch.equal(value, other.random.state_dict()[name])
        assert not torch.equal(value, before[name])
    mixed = first.network(("6",))
    assert mixed.get_parameter("6.weight") is first.random.get_parameter("6.weight")
    assert mixed.get_parameter("2.weight") is first.trained.get_parameter("2.weight")
    for network in (cnn, first.trained):
        assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_a_network_that_is_asked_for_again_has_one_faster_copy(
    explained: Explained, monkeypatch: pytest.MonkeyPatch
) -> None:
    networks, made = randomised(explained("ssig", SSIG)), list[nn.Module]()
    assert not isinstance(networks, str)

    def prepare(network: nn.Module) -> nn.Module:
        made.append(copy.deepcopy(network))
        return made[-1]

    def weights(network: nn.Module) -> list[int]:
        return [id(tensor) for tensor in network.parameters()]

    plain = networks.network(("6",), prepare)
    assert made == []
    again, third = networks.network(("6",), prepare), networks.network(("6",), prepare)
    assert len(made) == 1
    assert weights(again) == weights(third) == weights(made[0]) != weights(plain)
    assert len({id(network.get_submodule("6")) for network in (plain, again, third, made[0])}) == 4  # hooks stay apart
    assert all(torch.equal(*pair) for pair in zip(plain.parameters(), again.parameters(), strict=True))
    assert weights(networks.network(("6",))) == weights(again)
    monkeypatch.setattr(randomised_networks, "MOST_BYTES", 2 * sum(each.nbytes for each in plain.parameters()))
    for _ in range(2):
        networks.network(("6", "2"), prepare)
    assert len(made) == 1  # there is no memory for a second one


@pytest.mark.parametrize("mode", ["cascading", "independent"])
def test_maps_change_when_the_network_forgets(explained: Explained, cnn: nn.Module, mode: str) -> None:
    evaluation = explained("ssig", SSIG)
    result = compute("mprt", evaluation, mode=mode)
    curve = result.curves["mprt_curve"]
    assert curve.shape == (4, 3)
    assert np.abs(curve).max() < 0.999
    np.testing.assert_allclose(result.columns["mprt"], curve.mean(axis=1), rtol=1e-12)
    # The second stage by hand.
    networks = randomised(evaluation)
    assert not isinstance(networks, str)
    forgetful = copy.deepcopy(cnn)
    for name in ("6", "2") if mode == "cascading" else ("2",):
        forgetful.set_submodule(name, networks.random.get_submodule(name))
    maps = attribute(forgetful, evaluation.images, evaluation.targets, "ssig", keys=evaluation.keys, **SSIG).map
    for row in range(4):
        one, other = evaluation.maps[row].abs().numpy(), maps[row].abs().numpy()
        assert curve[row, 1] == pytest.approx(spearmanr(one, other, axis=None).statistic, abs=1e-9)
        expected = structural_similarity(
            scaled(one, "min-max"),
            scaled(other, "min-max"),
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
            data_range=1.0,
        )
        assert result.curves["mprt_ssim_curve"][row, 1] == pytest.approx(expected, abs=1e-9)


def test_controls_fail_the_randomisation_tests(explained: Explained) -> None:
    evaluation = explained("sobel", {})
    result = compute("mprt", evaluation, blocks=2)
    np.testing.assert_allclose(result.curves["mprt_curve"], 1.0, rtol=1e-12)
    np.testing.assert_allclose(result.columns["mprt_ssim"], 1.0, rtol=1e-12)
    np.testing.assert_allclose(compute("emprt", evaluation).columns["emprt"], 0.0, atol=1e-12)
    np.testing.assert_allclose(compute("random_logit", evaluation).columns["random_logit"], 1.0, rtol=1e-12)


def test_emprt_is_the_rise_of_entropy(explained: Explained, cnn: nn.Module) -> None:
    evaluation = explained("ssig", SSIG)
    networks = randomised(evaluation)
    assert not isinstance(networks, str)
    forgetful = networks.random
    after = attribute(forgetful, evaluation.images, evaluation.targets, "ssig", keys=evaluation.keys, **SSIG).map
    before, rise = (
        np.array([entropy(np.histogram(values.numpy(), bins=100)[0]) for values in maps])
        for maps in (evaluation.maps, after)
    )
    np.testing.assert_allclose(compute("emprt", evaluation).columns["emprt"], (rise - before) / before, rtol=1e-9)


def test_random_logit_takes_another_class_at_random(explained: Explained, cnn: nn.Module) -> None:
    evaluation = explained("ssig", SSIG)
    others = other_classes(evaluation, 5)
    assert bool((others != evaluation.targets).all())
    many = dataclasses.replace(
        evaluation, keys=tuple(("", str(k)) for k in range(400)), targets=torch.ones(400, dtype=torch.int64)
    )
    counts = torch.bincount(other_classes(many, 5), minlength=5)
    assert counts[1] == 0
    assert counts[[0, 2, 3, 4]].min() > 70
    maps = attribute(cnn, evaluation.images, others, "ssig", keys=evaluation.keys, **SSIG).map
    expected = [
        spearmanr(one, other, axis=None).statistic
        for one, other in zip(evaluation.maps.numpy(), maps.numpy(), strict=True)
    ]
    np.testing.assert_allclose(compute("random_logit", evaluation).columns["random_logit"], expected, atol=1e-9)


def test_stability_rises_with_samples(explained: Explained) -> None:
    few, many = (compute("stability", explained("ssig", {"samples": n}), top=0.3).columns for n in (2, 64))
    for column in ("stability", "stability_top"):
        assert few[column].mean() < many[column].mean() <= 1
    assert (many["stability"] < 1).all()


def test_a_method_that_draws_nothing_has_no_stability(explained: Explained) -> None:
    for options, draws in (({"steps": 3}, False), ({"steps": 3, "baseline": "uniform"}, True)):
        result = compute("stability", explained("ig", options))
        reasons = {reason for excluded in result.excluded for reason in excluded.values()}
        assert reasons == (set() if draws else {"maps of two seeds are equal: the method draws nothing"})


@pytest.mark.parametrize(("method", "draws"), [("ig", [1]), ("ssig", [1, 2])])
def test_a_method_that_draws_nothing_is_explained_once_more(
    explained: Explained, monkeypatch: pytest.MonkeyPatch, method: str, draws: list[int]
) -> None:
    asked: list[int] = []
    maps = MethodExplainer.maps

    def counted(explainer: MethodExplainer, *given: Any, draw: int) -> Tensor:
        asked.append(draw)
        return maps(explainer, *given, draw=draw)

    monkeypatch.setattr(MethodExplainer, "maps", counted)
    compute("stability", explained(method, {}))
    assert asked == draws


def test_random_maps_agree_by_chance(explained: Explained) -> None:
    columns = compute("stability", explained("random", {}), top=0.25).columns
    assert np.abs(columns["stability"]).max() < 0.3
    assert np.abs(columns["stability_top"] - 0.25).max() < 0.2


def test_what_cannot_be_compared_is_excluded(explained: Explained, cnn: nn.Module) -> None:
    evaluation = explained("ssig", SSIG)
    flat = evaluation.maps.clone()
    flat[1] = 2.0
    for name in ("mprt", "emprt", "random_logit"):
        result = compute(name, evaluation.changed(maps=flat))
        assert result.excluded[1] == dict.fromkeys(METRICS[name].columns, "map is constant")
        assert not any(result.excluded[row] for row in (0, 2, 3))
    small = ssim(np.random.default_rng(0).random((10, 12)), np.zeros((10, 12)))
    assert np.isnan(small)

    class Bare(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(3, 12 * 14, dtype=torch.float64))

        def forward(self, points: Tensor) -> Tensor:
            return points.pow(2).mean(dim=1).flatten(1) @ self.weight.T

    result = compute("mprt", explained("gradient", {}, Bare().eval()))
    assert result.excluded[0]["mprt"] == "the network has no layer that can initialise itself"
    nowhere = explained("ssig", SSIG)
    without = dataclasses.replace(nowhere.explainer, fresh=None, cache=Memo(CACHE_SIZE))  # type: ignore[type-var]
    result = compute("emprt", dataclasses.replace(nowhere, explainer=without))
    assert result.excluded[0]["emprt"] == "the network as it was loaded is not at hand"


def test_a_randomised_network_that_overflows_is_excluded(explained: Explained) -> None:
    evaluation = explained("ssig", SSIG)
    networks = randomised(evaluation)
    assert not isinstance(networks, str)
    networks.random.get_parameter("0.weight").data.fill_(torch.nan)
    result = compute("mprt", evaluation)
    assert all(reasons["mprt"].startswith("not finite") for reasons in result.excluded)
    assert np.isnan(result.curves["mprt_curve"]).all()
