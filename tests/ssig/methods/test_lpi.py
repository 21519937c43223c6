"""Local path integration: its clusters, its closed forms, and the numbers of the authors' algorithm."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ssig import UsageError, attribute
from ssig.methods.lpi import Centre, centres_of
from ssig.registry import METHODS

# A group does not tell its method the score, which then takes references by their logits.


@pytest.fixture
def pool() -> Tensor:
    """(14, 3, 10, 12), the references."""
    return torch.rand(14, 3, 10, 12, generator=torch.Generator().manual_seed(5), dtype=torch.float64)


def relative(found: Tensor, expected: Tensor) -> float:
    """Largest relative L2 difference over the images."""
    return float(((found - expected).flatten(1).norm(dim=1) / expected.flatten(1).norm(dim=1)).max())


def clusters(network: nn.Module, pool: Tensor, centres: int = 1, paths: int = 8) -> list[Centre]:
    return centres_of(network(pool).detach().numpy(), centres, paths)


# Clusters


def test_clusters_of_clusters_are_found_with_their_masses() -> None:
    generator = np.random.default_rng(0)
    middles = {(0, 0): 6, (0, 3): 3, (100, 0): 2, (100, 3): 1, (103, 0): 5}
    logits = np.concatenate(
        [np.array(middle) + 0.01 * generator.random((size, 2)) for middle, size in middles.items()]
    )
    order = generator.permutation(len(logits))
    found = sorted(centres_of(logits[order], 2, 3), key=lambda centre: centre.logits[0])
    assert [round(float(centre.logits[0])) for centre in found] == [0, 102]
    # Three clusters were asked for of each; the first has two, of which one is cut.
    assert sorted(found[1].weights) == pytest.approx([1 / 8, 2 / 8, 5 / 8])
    assert len(found[0].weights) == 3
    for centre in found:
        assert sum(centre.weights) == pytest.approx(1)
        assert list(centre.references) == sorted(centre.references)
    for reference, weight in zip(found[1].references, found[1].weights, strict=True):
        nearest = min(middles, key=lambda middle: float(np.linalg.norm(logits[order][reference] - middle)))
        assert weight == middles[nearest] / 8


def test_a_reference_is_the_image_nearest_to_the_middle_of_its_cluster() -> None:
    logits = np.array([[0.0], [1.0], [5.0], [100.0]])
    (centre,) = centres_of(logits, 1, 2)
    assert centre.references == (1, 3)
    assert centre.weights == (0.75, 0.25)
    # Of two the first, however their logits are rounded.
    for error in (-1e-7, 0.0, 1e-7):
        (centre,) = centres_of(np.array([[0.0, 1.0], [1.0, 0.0], [50 + error, 50.0]]) + error * logits[:3], 1, 2)
        assert centre.references == (0, 2)


@pytest.mark.parametrize(("rows", "paths"), [([3.0], 1), ([3.0] * 9, 1), ([3.0, 4.0, 3.0, 4.0], 2)])
def test_there_are_no_more_clusters_than_distinct_logits(rows: list[float], paths: int) -> None:
    (centre,) = centres_of(np.array(rows)[:, None], 1, 5)
    assert len(centre.references) == paths
    assert sum(centre.weights) == 1


def test_references_without_finite_logits_are_left_out() -> None:
    logits = np.array([[0.0], [np.nan], [1.0], [np.inf]])
    (centre,) = centres_of(logits, 1, 4)
    assert centre.references == (0, 2)
    assert len(centres_of(np.full((3, 2), np.nan), 2, 2)) == 1


# Closed forms


def test_a_linear_network_is_attributed_exactly(
    linear: nn.Module, images: Tensor, targets: Tensor, pool: Tensor
) -> None:
    result = attribute(linear, images, targets % 3, "lpi", references=pool)
    (centre,) = clusters(linear, pool)
    mean = sum(weight * pool[index] for index, weight in zip(centre.references, centre.weights, strict=True))
    assert torch.allclose(result.values, linear.weight.detach()[targets % 3] * (images - mean))
    assert torch.allclose(result.baseline_score, linear(mean[None])[0, targets % 3])
    assert result.completeness_residual is not None
    assert result.completeness_residual.abs().max() < 1e-10
    assert result.standard_error is None
    assert result.gradient_evaluations.tolist() == [32] * 5


def test_two_gauss_legendre_points_are_exact_for_a_cubic(
    cubic: nn.Module, images: Tensor, targets: Tensor, pool: Tensor
) -> None:
    result = attribute(cubic, images, targets % 3, "lpi", references=pool, steps=2)
    (centre,) = clusters(cubic, pool)
    cubes = sum(weight * pool[index] ** 3 for index, weight in zip(centre.references, centre.weights, strict=True))
    assert torch.allclose(result.values, cubic.weight.detach()[targets % 3] * (images**3 - cubes), rtol=1e-9)
    assert result.completeness_residual is not None
    assert result.completeness_residual.abs().max() < 1e-9


def test_the_residual_falls_with_steps(cnn: nn.Module, images: Tensor, targets: Tensor, pool: Tensor) -> None:
    def residual(steps: int) -> float:
        found = attribute(cnn, images, targets, "lpi", references=pool, steps=steps, rule="midpoint")
        assert found.completeness_residual is not None
        return float(found.completeness_residual.abs().max())

    assert residual(16) < residual(4) / 8


@pytest.mark.parametrize("rule", ["endpoints", "gauss-legendre", "right"])
def test_references_alike_are_integrated_gradients_from_one(
    cnn: nn.Module, images: Tensor, targets: Tensor, pool: Tensor, rule: str
) -> None:
    alike = pool[:1].expand(3, -1, -1, -1)
    found = attribute(cnn, images, targets, "lpi", references=alike, steps=5, rule=rule)
    line = attribute(cnn, images, targets, "ig", baseline=pool[:1], steps=5, rule=rule)
    assert torch.allclose(found.values, line.values, rtol=1e-10, atol=1e-15)
    assert found.completeness_residual is not None
    assert line.completeness_residual is not None
    assert torch.allclose(found.completeness_residual, line.completeness_residual, atol=1e-12)
    assert found.gradient_evaluations.tolist() == [5] * 5


# The authors' algorithm


def authors(network: nn.Module, image: Tensor, target: int, references: Tensor, weights: Tensor, steps: int) -> Tensor:
    """Their algorithm for one image: points (R k, C, H, W) of tiled references and tiled times."""
    paths = len(references)
    times = torch.linspace(0, 1, steps, dtype=torch.float64).repeat(paths).view(-1, 1, 1, 1)
    tiled = references.repeat(steps, 1, 1, 1)
    points = (times * image + (1 - times) * tiled).requires_grad_()
    (gradients,) = torch.autograd.grad(network(points)[:, target].sum(), points)
    means = gradients.view(paths, steps, *image.shape).mean(dim=1)
    attributions: Tensor = ((image - references) * means * weights.view(-1, 1, 1, 1)).mean(dim=0)
    return attributions


@pytest.mark.parametrize("paths", [3, 4, 5, 8])
def test_compat_gives_what_the_authors_code_gives(
    cnn: nn.Module, images: Tensor, targets: Tensor, pool: Tensor, paths: int
) -> None:
    options = {"references": pool, "paths": paths, "steps": 5, "rule": "endpoints"}
    found = attribute(cnn, images, targets, "lpi", compat=True, **options).values / paths
    (centre,) = clusters(cnn, pool, paths=paths)
    chosen, weights = pool[list(centre.references)], torch.tensor(centre.weights, dtype=torch.float64)
    for index in range(5):
        expected = authors(cnn, images[index], int(targets[index]), chosen, weights, 5)
        assert torch.allclose(found[index], expected, rtol=1e-9, atol=1e-14)
    assert relative(attribute(cnn, images, targets, "lpi", **options).values / paths, found) > 1e-3


def test_compat_is_not_complete_and_has_no_residual(
    cnn: nn.Module, images: Tensor, targets: Tensor, pool: Tensor
) -> None:
    def gap(steps: int, compat: bool) -> float:
        found = attribute(
            cnn, images, targets, "lpi", references=pool, paths=5, steps=steps, rule="midpoint", compat=compat
        )
        assert (found.completeness_residual is None) == compat
        return float((found.values.sum((1, 2, 3)) - (found.score - found.baseline_score)).abs().max())

    # Steps that R does not divide, so that the references of a path's points are not its own.
    assert gap(32, compat=False) < gap(4, compat=False) / 8
    assert gap(32, compat=True) > 10 * gap(32, compat=False)


@pytest.mark.parametrize("score", ["logit", "probability"])
def test_aligned_paths_are_a_weighted_mean_of_integrated_gradients(
    cnn: nn.Module, images: Tensor, targets: Tensor, pool: Tensor, score: str
) -> None:
    options = {"steps": 6, "rule": "endpoints", "score": score}
    found = attribute(cnn, images, targets, "lpi", references=pool, paths=5, **options)  # type: ignore[arg-type]
    (centre,) = clusters(cnn, pool, paths=5)
    values, baseline = torch.zeros_like(images), torch.zeros(5, dtype=torch.float64)
    for index, weight in zip(centre.references, centre.weights, strict=True):
        line = attribute(cnn, images, targets, "ig", baseline=pool[index], **options)  # type: ignore[arg-type]
        values += weight * line.values
        baseline += weight * line.baseline_score
    assert torch.allclose(found.values, values, rtol=1e-9, atol=1e-14)
    assert torch.allclose(found.baseline_score, baseline)


def test_an_image_has_the_centre_nearest_to_its_logits(cnn: nn.Module, images: Tensor, targets: Tensor) -> None:
    # Near each of two images lies a cloud of references; far more of them near the first.
    generator = torch.Generator().manual_seed(7)
    ends = torch.stack([torch.zeros(3, 10, 12), torch.ones(3, 10, 12)]).double()
    cloud = ends[[0] * 9 + [1] * 4] + 0.01 * torch.rand(13, 3, 10, 12, generator=generator, dtype=torch.float64)
    both = attribute(cnn, ends, targets[:2], "lpi", references=cloud, centres=2, paths=3)
    for index, span in enumerate((slice(0, 9), slice(9, 13))):
        one = slice(index, index + 1)
        alone = attribute(cnn, ends[one], targets[one], "lpi", references=cloud[span], paths=3)
        assert relative(both.values[one], alone.values) < 1e-6


# Corner cases


@pytest.mark.parametrize("micro_batch", [1, 3, 16])
@pytest.mark.parametrize("options", [{}, {"centres": 3, "paths": 5}, {"centres": 3, "paths": 5, "compat": True}])
def test_batch_and_micro_batch_do_not_matter(
    cnn: nn.Module, images: Tensor, targets: Tensor, pool: Tensor, micro_batch: int, options: dict[str, int]
) -> None:
    # Centres differ in size: some have fewer images than paths were asked for.
    images = torch.cat([images[:3], pool[[0, 5]]])
    whole = attribute(cnn, images, targets, "lpi", references=pool, **options)
    for index in range(5):
        span = slice(index, index + 1)
        alone = attribute(cnn, images[span], targets[span], "lpi", references=pool, micro_batch=micro_batch, **options)
        assert torch.allclose(alone.values[0], whole.values[index], rtol=1e-9, atol=1e-14)
        assert torch.allclose(alone.baseline_score[0], whole.baseline_score[index])
        assert alone.gradient_evaluations.tolist() == whole.gradient_evaluations[span].tolist()
    assert (whole.gradient_evaluations <= 32).all()
    if options:
        assert len(set(whole.gradient_evaluations.tolist())) > 1


@pytest.mark.parametrize("value", [0.0, 0.5])
def test_an_image_equal_to_its_reference_has_no_attribution(cnn: nn.Module, targets: Tensor, value: float) -> None:
    constant = torch.full((5, 3, 10, 12), value, dtype=torch.float64)
    result = attribute(cnn, constant, targets, "lpi", references=constant[:2])
    assert (result.values == 0).all()
    assert result.completeness_residual is not None
    assert result.completeness_residual.abs().max() < 1e-12


def test_no_gradient_is_no_attribution_and_nan_stays(images: Tensor, targets: Tensor, pool: Tensor) -> None:
    def flat(points: Tensor) -> Tensor:
        return 0 * points.flatten(1).sum(dim=1, keepdim=True) + torch.ones(5, dtype=torch.float64)

    assert (attribute(flat, images, targets, "lpi", references=pool).values == 0).all()
    poisoned = attribute(lambda points: flat(points) * torch.nan, images, targets, "lpi", references=pool, centres=2)
    assert torch.isnan(poisoned.map).all()


def test_float32_gives_float32(cnn: nn.Module, images: Tensor, targets: Tensor, pool: Tensor) -> None:
    result = attribute(cnn.float(), images.float(), targets, "lpi", references=pool.float(), centres=2, paths=4)
    assert result.values.dtype == torch.float32
    assert torch.isfinite(result.map).all()


def test_what_cannot_be_is_named(cnn: nn.Module, images: Tensor, targets: Tensor, pool: Tensor) -> None:
    for field, options in {
        "pool": {"pool": 15, "centres": 2, "paths": 8},
        "rule": {"rule": "endpoints", "steps": 1},
        "references": {"references": None},
    }.items():
        with pytest.raises(UsageError) as caught:
            attribute(cnn, images, targets, "lpi", **{"references": pool, **options})  # type: ignore[arg-type]
        assert caught.value.field == field


def test_evaluations_of_the_defaults_and_of_the_paper() -> None:
    spec = METHODS["lpi"]
    assert spec.evaluations(spec.parse({})) == 32
    assert spec.evaluations(spec.parse({"preset": "paper"})) == 100
    assert spec.references(spec.parse({})) == 128
