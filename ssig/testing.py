"""Tests of the properties of every method and metric of ssig, for your own ones. Provisional, like `ssig.extend`.

    from ssig.testing import check_method, check_metric

    def test_my_method() -> None:
        check_method(my_method)

`check_method` takes the same argument as `ssig.attribute(method=…)`, and `check_metric` likewise. Each property is
also a function, which raises an `AssertionError` with the observed values if it fails. The networks are small and in
float64, so that a test takes a second.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ssig.api import attribute
from ssig.registry import METHODS, METRICS, MethodSpec, MetricSpec
from ssig.types import Attribution, Evaluation, MetricResult

Method = str | MethodSpec | Callable[..., Tensor]
Metric = str | MetricSpec | Callable[..., Any]

BATCH, SHAPE, CLASSES = 5, (3, 10, 12), 5
_TARGETS = torch.arange(CLASSES)


def small_network(channels: int = 3, classes: int = CLASSES) -> nn.Sequential:
    """A smooth network of float64 in which pixels interact: (n, C, H, W) -> (n, classes), the same every time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        network = nn.Sequential(
            nn.Conv2d(channels, 6, 3, padding=1),
            nn.Softplus(),
            nn.Conv2d(6, 8, 3, stride=2, padding=1),
            nn.Tanh(),
            nn.AdaptiveAvgPool2d(3),
            nn.Flatten(),
            nn.Linear(72, classes),
        )
    return network.double().eval().requires_grad_(False)


def implemented_otherwise(network: nn.Sequential) -> nn.Sequential:
    """Another network of the same function as `small_network`: each unit of the first layer is doubled, at half the
    weight, and the last feature map is raised by 1."""

    class Raised(nn.Module):
        def forward(self, features: Tensor) -> Tensor:
            return features + 1

    parts: list[Any] = list(copy.deepcopy(network))
    first, softplus, second, tanh, pool, flatten, head = parts
    first.weight, first.bias = (_frozen(torch.cat([part, part])) for part in (first.weight, first.bias))
    second.weight = _frozen(torch.cat([second.weight, second.weight], dim=1) / 2)
    head.bias = _frozen(head.bias - head.weight.sum(dim=1))
    return nn.Sequential(first, softplus, second, tanh, Raised(), pool, flatten, head).eval()


def example_images() -> Tensor:
    """(5, 3, 10, 12) float64 in [0, 1], not square, the same every time."""
    return torch.rand(BATCH, *SHAPE, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


def explained(method: Method, network: Callable[[Tensor], Tensor], images: Tensor, **options: Any) -> Attribution:
    """`ssig.attribute`, with reference images for the methods that need them.

    Args:
        method: as in `ssig.attribute`.
        network: has 5 classes.
        images: (B, C, H, W), B at most 5: image i is explained for class i.
        **options: of `ssig.attribute`; `targets` replaces the classes.
    """
    targets = options.pop("targets", _TARGETS[: len(images)])
    generator = torch.Generator().manual_seed(11)
    others = torch.rand(12, *images.shape[1:], generator=generator, dtype=torch.float64).to(images)
    return attribute(network, images, targets, method, **{"references": others, **options})


def batch_equals_loop(method: Method) -> None:
    """An image has the same map and the same cost alone as in a batch."""
    network, images = small_network(), example_images()
    keys = [("s.tar", str(index)) for index in range(BATCH)]
    whole = explained(method, network, images, keys=keys)
    for index in range(BATCH):
        row = slice(index, index + 1)
        alone = explained(method, network, images[row], targets=_TARGETS[row], keys=keys[row], micro_batch=3)
        _close(alone.map[0], whole.map[index], f"the map of image {index} alone and in a batch", rtol=1e-9)
        _require(
            alone.gradient_evaluations.tolist() == whole.gradient_evaluations[row].tolist(),
            f"image {index} costs another number of gradients alone",
        )
        if whole.standard_error is not None and alone.standard_error is not None:
            _close(alone.standard_error[0], whole.standard_error[index], "the standard error", rtol=1e-8)


def cost_is_declared(method: Method, *, at_most: bool = False) -> None:
    """It spends as many gradients as its entry declares, and the result counts them all.

    Args:
        method: as in `ssig.attribute`.
        at_most: whether it may spend fewer gradients on some images.
    """
    network, gradients = small_network(), 0

    def count(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        nonlocal gradients
        gradients += len(output) if torch.is_grad_enabled() and inputs[0].requires_grad else 0

    network.register_forward_hook(count)
    result = explained(method, network, example_images())
    spec = METHODS.entry_of(method)
    spent = result.gradient_evaluations.tolist()
    if not spec.counted:
        listed = spec.evaluations(spec.parse({}))
        right = all(number <= listed if at_most else number == listed for number in spent)
        _require(right, f"{listed} gradients per image are declared, and {spent} were spent")
    _require(gradients == sum(spent), f"{gradients} gradients were taken, and {sum(spent)} are counted")


def result_is_whole(method: Method) -> None:
    """Maps and values have the images' shape and type, and are finite."""
    images = example_images().float()
    result = explained(method, small_network().float(), images)
    _require(result.values.shape == images.shape, f"values are {tuple(result.values.shape)}")
    _require(result.values.dtype == torch.float32, f"values are {result.values.dtype}")
    _require(result.map.shape == (BATCH, *SHAPE[1:]), f"maps are {tuple(result.map.shape)}")
    _require(bool(torch.isfinite(result.map).all()), "a map is not finite")
    error = result.standard_error_mean
    _require(error is None or (error.shape == (BATCH,) and bool((error >= 0).all())), f"standard errors are {error}")


def hard_images_are_finite(method: Method, *, has_residual: bool = True) -> None:
    """Constant images, and images equal to their baseline, have finite maps; the latter have no residual.

    Args:
        method: as in `ssig.attribute`.
        has_residual: whether a residual must be 0 for an image equal to its baseline.
    """
    network = small_network()
    for value in (0.0, 0.5):
        constant = torch.full((BATCH, *SHAPE), value, dtype=torch.float64)
        result = explained(method, network, constant, baseline=constant, references=constant[:1])
        _require(bool(torch.isfinite(result.values).all()), f"values of an image of {value} are not finite")
        if result.completeness_residual is not None and has_residual:
            largest = float(result.completeness_residual.abs().max())
            _require(largest < 1e-12, f"the residual of an image equal to its baseline is {largest}")
    constant = torch.full((BATCH, *SHAPE), 0.75, dtype=torch.float64)
    result = explained(method, network, constant, baseline="black")
    _require(bool(torch.isfinite(result.values).all()), "values of a constant image far from its baseline")


def dead_network_has_no_attributions(method: Method) -> None:
    """A network that is constant is explained by maps of zeros, without error and residual."""
    network = small_network()
    head: Any = network[-1]
    head.weight.zero_()
    result = explained(method, network, example_images())
    _require(not bool(result.values.any()), "a constant network has attributions")
    error, residual = result.standard_error_mean, result.completeness_residual
    _require(error is None or bool((error == 0).all()), "a constant network has a standard error")
    if residual is not None:
        # Equal scores may be rounded differently in another batch.
        _require(bool((residual.abs() <= 1e-14 * result.score.abs()).all()), "a constant network has a residual")


def networks_of_one_function_agree(method: Method) -> None:
    """Two networks of one function have the same attributions."""
    network = small_network()
    values, other_values = (
        explained(method, variant, example_images()).values for variant in (network, implemented_otherwise(network))
    )
    _close(values, other_values, "attributions of two networks of one function", rtol=1e-8, atol=1e-12)


def baseline_counts_as_declared(method: Method) -> None:
    """Another baseline changes the map if and only if the entry declares it (`MethodSpec.baseline`)."""
    keys = list("abcde")
    black, white = (
        explained(method, small_network(), example_images(), baseline=name, keys=keys).values
        for name in ("black", "white")
    )
    spec = METHODS.entry_of(method)
    declared = spec.baseline(spec.parse({}))
    _require(
        torch.equal(black, white) != declared,
        "it is declared that the baseline changes the map, and it does not"
        if declared
        else "it is declared that the baseline does not change the map, and it does",
    )


def nan_gradients_reach_the_result(method: Method) -> None:
    """NaN in gradients is not hidden: the map has NaN."""
    network = small_network()

    def poisoned(points: Tensor) -> Tensor:
        # Only evaluations with gradients give NaN, so that references and predictions are numbers.
        logits: Tensor = network(points)
        return logits * torch.where(points.requires_grad * torch.ones(()) > 0, torch.nan, 1.0)

    result = explained(method, poisoned, example_images())
    _require(bool(torch.isnan(result.map).any()), "gradients that are NaN give a map of numbers")


METHOD_PROPERTIES: Mapping[str, Callable[[Method], None]] = MappingProxyType(
    {
        check.__name__: check
        for check in (
            batch_equals_loop,
            cost_is_declared,
            result_is_whole,
            hard_images_are_finite,
            dead_network_has_no_attributions,
            networks_of_one_function_agree,
            baseline_counts_as_declared,
            nan_gradients_reach_the_result,
        )
    }
)


def check_method(method: Method, *, skip: Iterable[str] = ()) -> None:
    """Checks every property of a method.

    Args:
        method: as in `ssig.attribute`.
        skip: names of `METHOD_PROPERTIES` that the method does not have.

    Raises:
        AssertionError: a property fails.
        KeyError: `skip` has an unknown name.
    """
    skipped = {METHOD_PROPERTIES[name] for name in skip}
    for check in METHOD_PROPERTIES.values():
        if check not in skipped:
            check(method)


def example_evaluation(rows: Iterable[int] = range(BATCH)) -> Evaluation:
    """Rows of a batch of 5 for metrics: random maps, but one is zero and one constant; masks, but one is missing.

    The values of channels are random, and not those that the maps are the readout of.
    """
    selected = list(rows)
    images, network = example_images().float(), small_network().float()
    maps = torch.randn(BATCH, *SHAPE[1:], generator=torch.Generator().manual_seed(7))
    maps[1], maps[2] = 0.0, 0.5
    area = np.zeros(SHAPE[1:], dtype=bool)
    area[2:6, 3:9] = True
    masks: list[np.ndarray | str] = [area, area, area, "no boxes", np.roll(area, 2, axis=1)]
    return Evaluation(
        images=images[selected],
        maps=maps[selected],
        targets=_TARGETS[selected],
        forward=network,
        mean=torch.full((3,), 0.5),
        std=torch.full((3,), 0.25),
        masks=tuple(masks[row] for row in selected),
        score=torch.ones(len(selected)),
        baseline_score=torch.zeros(len(selected)),
        completeness_residual=torch.zeros(len(selected)),
        boxes=tuple(((3.0, 2.0, 9.0, 6.0),) if row != 3 else "no boxes" for row in selected),
        keys=tuple(("s.tar", str(row)) for row in selected),
        values=torch.randn(BATCH, *SHAPE, generator=torch.Generator().manual_seed(8))[selected],
    )


def check_metric(metric: Metric, **options: Any) -> None:
    """Checks a metric of maps: its columns, its reasons, and that an image has the same numbers in any batch.

    Args:
        metric: a name, ``./FILE.py:NAME``, a `MetricSpec` or a function.
        **options: of the metric.

    Raises:
        AssertionError: a check fails.
    """
    spec = METRICS.entry_of(metric)
    parsed = spec.parse(options)
    evaluation = example_evaluation()
    before = evaluation.maps.clone()
    result = spec.compute(evaluation, parsed)
    _require(torch.equal(before, evaluation.maps), "it writes to the maps that it is given")
    _require(set(result.columns) == set(spec.columns), f"its columns are {sorted(result.columns)}")
    _check_reasons(result)
    for row in range(BATCH):
        alone = spec.compute(example_evaluation([row]), parsed)
        for column, values in result.columns.items():
            same = np.allclose(alone.columns[column], values[row : row + 1], rtol=1e-5, atol=1e-7, equal_nan=True)
            _require(same, f"{column} of image {row} is {values[row]} in a batch and {alone.columns[column][0]} alone")


def _check_reasons(result: MetricResult) -> None:
    """A number is NaN if and only if there is a reason for it."""
    _require(len(result.excluded) == BATCH, f"reasons for {len(result.excluded)} images of {BATCH}")
    for column, values in result.columns.items():
        _require(values.shape == (BATCH,), f"{column} is {values.shape}; expected ({BATCH},)")
        for row, value in enumerate(values):
            reason = result.excluded[row].get(column)
            _require(np.isnan(value) == (reason is not None), f"{column} of image {row} is {value}: {reason}")


def _frozen(values: Tensor) -> nn.Parameter:
    return nn.Parameter(values, requires_grad=False)


def _close(actual: Tensor, expected: Tensor, what: str, *, rtol: float, atol: float = 1e-14) -> None:
    difference = float((actual - expected).abs().max())
    _require(torch.allclose(actual, expected, rtol=rtol, atol=atol), f"{what} differ by up to {difference:.3g}")


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise AssertionError(otherwise)
