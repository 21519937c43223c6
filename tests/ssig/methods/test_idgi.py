"""IDGI: the sum is exact on any path, the closed forms hold, and paths are those of the methods they come from."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor, nn

from ssig import attribute
from ssig.engine.micro_batches import Job, run
from ssig.engine.replica import Replica
from ssig.engine.shared_paths import together
from ssig.methods.idgi import squared_shares, straight_path
from ssig.registry import METHODS
from ssig.types import Group

METHODS_OF_IDGI = ("idgi-ig", "idgi-guided", "idgi-ssig-path")


class Recorder(nn.Module):
    """Passes points on, and keeps those with gradients and those without."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.with_gradient: list[Tensor] = []
        self.forward_only: list[Tensor] = []

    def forward(self, points: Tensor) -> Tensor:
        (self.with_gradient if points.requires_grad else self.forward_only).append(points.detach().clone())
        return self.network(points)


def gradient_at(network: nn.Module, point: Tensor, target: int) -> tuple[Tensor, Tensor]:
    """Score and gradient at one point (1, C, H, W)."""
    point = point.clone().requires_grad_()
    score = network(point)[0, target]
    return score.detach(), torch.autograd.grad(score, point)[0]


def by_definition(network: nn.Module, points: list[Tensor], target: int) -> Tensor:
    """IDGI over the points X_0 .. X_K of one image, each (1, C, H, W)."""
    total = torch.zeros_like(points[0])
    for here, following in itertools.pairwise(points):
        score, gradient = gradient_at(network, here, target)
        change = network(following)[0, target].detach() - score
        total += gradient**2 / (gradient**2).sum() * change
    return total


@pytest.mark.parametrize("method", METHODS_OF_IDGI)
@pytest.mark.parametrize("score", ["logit", "probability"])
@pytest.mark.parametrize("steps", [4, 32])
def test_the_sum_is_exact(
    cnn: nn.Module, images: Tensor, targets: Tensor, method: str, score: str, steps: int
) -> None:
    count = {"samples": steps} if method == "idgi-ssig-path" else {"steps": steps}
    found = attribute(cnn, images, targets, method, score=score, baseline="black", **count)
    assert found.completeness_residual is not None
    gain = (found.score - found.baseline_score).abs()
    assert (found.completeness_residual.abs() < 1e-12 * gain).all()
    assert found.gradient_evaluations.tolist() == [steps] * 5


@pytest.mark.parametrize("method", METHODS_OF_IDGI)
def test_a_linear_network_has_one_direction(linear: nn.Module, images: Tensor, targets: Tensor, method: str) -> None:
    targets = targets % 3
    found = attribute(linear, images, targets, method, baseline="white")
    weight = linear.weight.detach()[targets]
    gain = (weight * (images - 1)).sum(dim=(1, 2, 3), keepdim=True)
    expected = weight**2 / (weight**2).sum(dim=(1, 2, 3), keepdim=True) * gain
    assert torch.allclose(found.values, expected, rtol=1e-10)


@pytest.mark.parametrize("steps", [1, 5, 32])
def test_a_gradient_of_zero_adds_nothing_and_shows(
    cubic: nn.Module, images: Tensor, targets: Tensor, steps: int
) -> None:
    # f = sum w x^3 from black: the gradient has the same direction everywhere but at the baseline, where it is 0.
    targets = targets % 3
    found = attribute(cubic, images, targets, "idgi-ig", steps=steps, baseline="black")
    weight = cubic.weight.detach()[targets]
    shares = weight**2 * images**4 / (weight**2 * images**4).sum(dim=(1, 2, 3), keepdim=True)
    score = (weight * images**3).sum(dim=(1, 2, 3), keepdim=True)
    assert torch.allclose(found.values, shares * score * (1 - steps**-3), rtol=1e-10, atol=1e-15)
    assert found.completeness_residual is not None
    assert torch.allclose(found.completeness_residual, -score.flatten() * steps**-3, rtol=1e-8)


def test_the_straight_path_is_walked_by_definition(cnn: nn.Module, images: Tensor, targets: Tensor) -> None:
    found = attribute(cnn, images, targets, "idgi-ig", steps=6, baseline="black")
    for image, target, values in zip(images, targets.tolist(), found.values, strict=True):
        points = [(k / 6 * image).unsqueeze(0) for k in range(7)]
        assert torch.allclose(by_definition(cnn, points, target)[0], values, rtol=1e-9, atol=1e-16)


def test_the_guided_path_is_that_of_guided_ig(cnn: nn.Module, images: Tensor, targets: Tensor) -> None:
    settings = {"steps": 7, "fraction": 0.1, "max_dist": 0.3, "baseline": "black"}
    recorder = Recorder(cnn).eval()
    attribute(recorder, images[:1], targets[:1], "guided-ig", micro_batch=1, **settings)
    found = attribute(cnn, images[:1], targets[:1], "idgi-guided", **settings)
    expected = by_definition(cnn, [*recorder.with_gradient, images[:1]], int(targets[0]))
    assert torch.allclose(found.values, expected, rtol=1e-9, atol=1e-16)


def test_a_wide_ramp_is_the_straight_path(cnn: nn.Module, images: Tensor, targets: Tensor) -> None:
    line = attribute(cnn, images, targets, "idgi-ig", steps=8).values
    ramp = attribute(cnn, images, targets, "idgi-ssig-path", samples=8, paths=1, width=1e7)
    assert ((ramp.values - line).flatten(1).norm(dim=1) < 1e-5 * line.flatten(1).norm(dim=1)).all()
    assert ramp.standard_error is None


@pytest.mark.parametrize("readout", ["sum", "sum-abs"])
def test_the_standard_error_is_over_the_paths(cnn: nn.Module, images: Tensor, targets: Tensor, readout: str) -> None:
    found = attribute(cnn, images, targets, "idgi-ssig-path", readout=readout)
    assert found.standard_error is not None
    assert found.standard_error_mean is not None
    assert (found.standard_error_mean > 0).all()
    assert attribute(cnn, images, targets, "idgi-ig", readout=readout).standard_error is None


def test_one_walk_of_the_line_serves_all_that_walk_it(cnn: nn.Module, images: Tensor, targets: Tensor) -> None:
    baselines = torch.zeros_like(images)
    scores, baseline_scores = (cnn(points).gather(1, targets[:, None])[:, 0] for points in (images, baselines))
    group = Group(images, baselines, (), budget=3, scores=scores, baseline_scores=baseline_scores)
    given = {
        "ig": {"steps": 8, "rule": "left"},
        "idgi-ig": {"steps": 8},
        "left-ig": {"steps": 8},
        "idg": {"forwards": 9, "steps": 10},
    }
    methods = [METHODS[name].run(group, METHODS[name].parse(options)) for name, options in given.items()]
    recorder = Recorder(cnn).eval()
    ((_, results),) = run(Replica(recorder), [Job("together", together(methods), targets)])
    for (name, options), result in zip(given.items(), results, strict=True):  # type: ignore[call-overload]
        alone = attribute(cnn, images, targets, name, baseline="black", **options)
        assert torch.allclose(result.values, alone.values, rtol=1e-9, atol=1e-15)
    assert sum(map(len, recorder.with_gradient)) == 5 * (8 + 10)
    assert recorder.forward_only == []


def test_requests_hold_no_more_than_the_budget(images: Tensor) -> None:
    group = Group(images, torch.zeros_like(images), (), budget=3)
    requests = list(straight_path(group, 8))
    assert [len(request.points) for request in requests] == [15, 15, 10]
    assert [request.key for request in requests][-1] == ("line", (6 / 8, 7 / 8))


def test_shares_of_tiny_and_broken_gradients() -> None:
    gradient = torch.zeros(4, 1, 2, 2)
    gradient[0, 0, 0] = torch.tensor([3e-30, 4e-30])
    gradient[1, 0, 0] = torch.tensor([torch.nan, 1.0])
    gradient[2, 0, 1] = torch.tensor([1e30, 0.0])
    shares = squared_shares(gradient)
    assert torch.allclose(shares[0, 0, 0], torch.tensor([0.36, 0.64]))
    assert shares[1].isnan().any()
    assert shares[2].sum() == 1
    assert not shares[3].any()


@pytest.mark.parametrize("method", METHODS_OF_IDGI)
def test_corners(cnn: nn.Module, linear: nn.Module, images: Tensor, targets: Tensor, method: str) -> None:
    assert not attribute(cnn, images, targets, method, baseline=images).values.any()
    flat = attribute(lambda points: cnn(points * 0), images, targets, method)
    assert not flat.values.any()
    broken = attribute(lambda points: linear(points) * torch.nan, images, targets % 3, method)
    assert broken.map.isnan().flatten(1).any(dim=1).all()
