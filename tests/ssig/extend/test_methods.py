"""Plain functions as methods: what they are given, what they cost, and what of them is refused."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import ssig
from ssig import testing
from ssig.engine.replica import Replica
from ssig.engine.trial import try_method
from ssig.errors import ModelError, UsageError
from ssig.extend import CommonOptions, MethodSpec, attribution, endpoints, method
from ssig.options import describe
from ssig.registry import METHODS


def gradient_times_difference(model: Any, images: Tensor, targets: Tensor, baselines: Tensor) -> Tensor:
    """Gradient times difference."""
    images.requires_grad_()
    score = model(images).gather(1, targets[:, None]).sum()
    return torch.autograd.grad(score, images)[0] * (images.detach() - baselines)


def noise(
    model: Any, images: Tensor, targets: Tensor, baselines: Tensor, generator: torch.Generator, size: int = 1
) -> Tensor:
    assert len(images) == 1
    return torch.randn(images.shape, generator=generator, dtype=images.dtype)[:, 0]


def numpy_noise(
    model: Any, images: Tensor, targets: Tensor, baselines: Tensor, generator: np.random.Generator | None = None
) -> Tensor:
    assert generator is not None
    return torch.from_numpy(generator.random(tuple(images.shape)))


def documented(
    model: Any,
    images: Tensor,
    targets: Tensor,
    baselines: Tensor,
    steps: int = 8,
    rule: Literal["left", "right"] = "left",
    sizes: tuple[int, ...] = (3, 5),
    layer: str | None = None,
    loose=0.5,  # type: ignore[no-untyped-def]
) -> Tensor:
    """A method.

    Args:
        steps: how many points
        rule: which end
    """
    return images


def test_it_has_the_properties_of_every_method() -> None:
    testing.check_method(gradient_times_difference)


def test_it_gives_what_the_coroutine_gives(cnn: nn.Module, images: Tensor) -> None:
    for score in ("logit", "log-probability", "probability"):
        mine = ssig.attribute(cnn, images, range(5), gradient_times_difference, score=score)
        known = ssig.attribute(cnn, images, range(5), "gradient-x-input", score=score)
        assert torch.allclose(mine.values, known.values, rtol=1e-9, atol=1e-14)
        assert mine.gradient_evaluations.tolist() == [1] * 5


def test_options_come_from_the_parameters() -> None:
    spec = METHODS.entry_of(documented)
    own = {doc.name: doc for doc in describe(spec.options) if doc.name not in CommonOptions.__dataclass_fields__}
    assert list(own) == ["steps", "rule", "sizes", "layer", "loose"]
    assert (own["steps"].type, own["steps"].default, own["steps"].doc) == ("int", 8, "how many points")
    assert own["rule"].allowed == "one of left, right"
    assert own["sizes"].default == [3, 5]
    assert spec.parse({"layer": "a", "sizes": [1]}).sizes == (1,)
    for wrong in ({"steps": "many"}, {"rule": "middle"}, {"stepz": 1}, {"loose": "x"}):
        with pytest.raises(UsageError, match=r"methods\.documented\."):
            spec.parse(wrong)


@pytest.mark.parametrize("function", [noise, numpy_noise])
def test_each_image_has_its_own_draws(function: Any, cnn: nn.Module, images: Tensor) -> None:
    keys = list("abcde")
    whole = ssig.attribute(cnn, images, range(5), function, keys=keys)
    alone = ssig.attribute(cnn, images[3:4], [3], function, keys=["d"], micro_batch=1)
    torch.testing.assert_close(alone.map[0], whole.map[3])
    assert not torch.equal(whole.map[0], whole.map[1])
    assert not torch.equal(ssig.attribute(cnn, images, range(5), function, keys=keys, seed=1).map, whole.map)


def test_a_group_is_halved_where_memory_runs_out(cnn: nn.Module, images: Tensor) -> None:
    sizes = []

    def greedy(model: Any, images: Tensor, targets: Tensor, baselines: Tensor) -> Tensor:
        sizes.append(len(images))
        if len(images) > 1:
            raise torch.OutOfMemoryError
        return gradient_times_difference(model, images, targets, baselines)

    found = ssig.attribute(cnn, images, range(5), greedy, micro_batch=5)
    known = ssig.attribute(cnn, images, range(5), gradient_times_difference, micro_batch=5)
    assert torch.allclose(found.map, known.map)
    assert max(sizes) > 1
    assert sizes.count(1) == 5

    def hopeless(model: Any, images: Tensor, targets: Tensor, baselines: Tensor) -> Tensor:
        raise torch.OutOfMemoryError

    with pytest.raises(torch.OutOfMemoryError):
        ssig.attribute(cnn, images, range(5), hopeless)


def test_it_gets_the_plain_network(images: Tensor) -> None:
    seen: list[Any] = []

    def look(model: Any, images: Tensor, targets: Tensor, baselines: Tensor) -> Tensor:
        seen.append(model.network)
        assert not any(parameter.requires_grad for parameter in model.parameters())
        assert not torch.is_inference_mode_enabled()
        return images[:, 0]

    model = ssig.load_model("networks:tiny")
    ssig.attribute(model, torch.rand(2, 3, *model.input_size), [0, 1], look)
    assert all(network is model for network in seen)


def test_a_map_is_what_the_function_returns(cnn: nn.Module, images: Tensor) -> None:
    def plain(model: Any, images: Tensor, targets: Tensor, baselines: Tensor) -> Tensor:
        return images[:, 0] / 3

    result = ssig.attribute(cnn, images, range(5), plain)
    torch.testing.assert_close(result.map, images[:, 0] / 3)
    assert torch.allclose(result.values.sum(dim=1), result.map)
    assert result.completeness_residual is None


def test_facts_are_declared(cnn: nn.Module, images: Tensor) -> None:
    declared = method(paper="P", equation="E", evaluations=1, forwards=7, complete=True, revision=2)(
        gradient_times_difference
    )
    try:
        spec = METHODS.entry_of(declared)
        assert (spec.paper, spec.equation, spec.complete, spec.revision, spec.counted) == ("P", "E", True, 2, False)
        assert (spec.evaluations(spec.parse({})), spec.forwards(spec.parse({}))) == (1, 7)
        assert ssig.attribute(cnn, images, range(5), declared).completeness_residual is not None
    finally:
        del gradient_times_difference.__ssig_method__  # type: ignore[attr-defined]


def fails(model: Any, images: Tensor, targets: Tensor, baselines: Tensor) -> Tensor:
    raise KeyError("no such thing")


def wrong_shape(model: Any, images: Tensor, targets: Tensor, baselines: Tensor) -> Tensor:
    return images.sum()


def no_tensor(model: Any, images: Tensor, targets: Tensor, baselines: Tensor) -> Any:
    return images.numpy()


@pytest.mark.parametrize(
    ("function", "says"), [(fails, "no such thing"), (wrong_shape, r"maps \(\)"), (no_tensor, "ndarray")]
)
def test_a_function_that_fails_is_named_before_any_work(
    function: Any, says: str, cnn: nn.Module, images: Tensor
) -> None:
    with pytest.raises(ModelError, match=rf"{function.__name__}.*{says}"):
        ssig.attribute(cnn, images, range(5), function)
    spec = METHODS.entry_of(function)
    with pytest.raises(UsageError, match=rf"{function.__name__}.*{says}"):
        try_method(spec, spec.parse({}), Replica(cnn.float()), (10, 12))


def test_a_coroutine_may_have_the_network_too(cnn: nn.Module, images: Tensor) -> None:
    def steps(group: Any, options: Any) -> Any:
        scores = yield from endpoints(group)
        values = group.network(group.images)[:, :1, None, None].expand_as(group.images)
        return attribution(values, "sum", scores, has_residual=False, error=None, evaluations=0)

    spec = MethodSpec("mine", steps, CommonOptions, "", "", lambda options: 0, False, network=True)
    result = ssig.attribute(cnn, images, range(5), spec)
    assert torch.allclose(result.map[:, 0, 0], 3 * cnn(images)[:, 0])


def test_a_spec_without_the_common_options_is_refused() -> None:
    from ssig.extend import NoOptions

    spec = MethodSpec("mine", lambda group, options: iter(()), NoOptions, "", "", lambda options: 0, False)  # type: ignore[arg-type,return-value]
    with pytest.raises(UsageError, match="CommonOptions; these lack baseline"):
        METHODS.entry_of(spec)


def test_a_property_that_does_not_hold_is_said(cnn: nn.Module) -> None:
    def batchwise(model: Any, images: Tensor, targets: Tensor, baselines: Tensor) -> Tensor:
        return images - images.mean(dim=0)

    with pytest.raises(AssertionError, match="alone and in a batch"):
        testing.batch_equals_loop(batchwise)
    with pytest.raises(AssertionError, match="it does not"):
        testing.baseline_counts_as_declared(batchwise)
    with pytest.raises(AssertionError, match="constant network"):
        testing.check_method(batchwise, skip=["batch_equals_loop"])
