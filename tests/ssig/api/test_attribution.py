"""The Python surface: defaults, keys, baselines, Captum's calling convention, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from captum.attr import IntegratedGradients as CaptumIntegratedGradients
from torch import Tensor, nn

import ssig
from ssig import UsageError, attribute
from ssig.engine.replica import Replica
from ssig.estimators.baselines import baselines
from ssig.images.postprocess import finished
from ssig.images.regions import SEGMENTATIONS, pictures
from ssig.options import as_dict
from ssig.randomness import stream
from ssig.registry import METHODS


def test_keys_decide_the_draws_and_default_to_the_content(cnn: nn.Module, images: Tensor, targets: Tensor) -> None:
    by_content = ssig.attribute(cnn, images, targets).map
    assert torch.equal(by_content, ssig.attribute(cnn, images, targets).map)
    reordered = ssig.attribute(cnn, images.flip(0), targets.flip(0)).map.flip(0)
    assert torch.allclose(by_content, reordered, rtol=1e-10)
    keyed = ssig.attribute(cnn, images, targets, keys=list("abcde")).map
    assert not torch.allclose(by_content, keyed)
    assert torch.equal(keyed, ssig.attribute(cnn, images, targets, keys=[("", key) for key in "abcde"]).map)


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"method": "ssigg"}, "method"),
        ({"steps": 3}, "methods.ssig.steps"),
        ({"samples": 0}, "methods.ssig.samples"),
        ({"sampler": "patch-x"}, "methods.ssig.sampler"),
        ({"low": 0.9, "high": 0.1}, "low"),
        ({"method": "ssig-path", "paths": 5}, "paths"),
        ({"method": "ig", "rule": "trapezoid", "steps": 1}, "rule"),
        ({"score": "loss"}, "score"),
        ({"baseline": "grey"}, "methods.ssig.baseline"),
        ({"baseline": (0.1, 0.2)}, "baseline"),
        ({"baseline": torch.zeros(2, 2)}, "baseline"),
        ({"keys": ["a"]}, "keys"),
        ({"targets": [1, 2]}, "targets"),
        ({"targets": [0, 1, 2, 3, -1]}, "targets"),
        ({"preset": "papers"}, "methods.ssig.preset"),
    ],
)
def test_wrong_arguments_are_named(
    cnn: nn.Module, images: Tensor, targets: Tensor, arguments: dict[str, Any], field: str
) -> None:
    with pytest.raises(ssig.UsageError) as caught:
        ssig.attribute(cnn, images, **{"targets": targets, **arguments})
    assert caught.value.field == field


def test_images_of_the_wrong_shape_are_named(cnn: nn.Module) -> None:
    for images in (torch.zeros(3, 8, 8), torch.zeros(0, 3, 8, 8), torch.zeros(1, 3, 8, 8, dtype=torch.uint8)):
        with pytest.raises(ssig.UsageError, match="images"):
            ssig.attribute(cnn, images, [0])


@pytest.mark.parametrize("method", ["ssig", "ig", "xrai", "sobel"])
@pytest.mark.parametrize(("smoothing", "regions"), [(1.5, "none"), (0.0, "slic"), (0.7, "felzenszwalb")])
def test_maps_of_any_method_are_smoothed_and_evened_out(
    cnn: nn.Module, images: Tensor, targets: Tensor, method: str, smoothing: float, regions: str
) -> None:
    options: dict[str, Any] = {"smoothing": smoothing, "regions": regions}
    images = images.repeat_interleave(3, dim=2).repeat_interleave(3, dim=3)  # even areas, to be segments
    plain = ssig.attribute(cnn, images, targets, method)
    result = ssig.attribute(cnn, images, targets, method, micro_batch=2, **options)
    labels = None if regions == "none" else [SEGMENTATIONS[regions](picture)[0] for picture in pictures(images)]
    assert torch.allclose(result.map, finished(plain, smoothing, labels).map, rtol=1e-9, atol=1e-12)
    assert not torch.allclose(result.map, plain.map)
    assert torch.allclose(result.values, plain.values, rtol=1e-9, atol=1e-12)
    assert torch.allclose(result.score, plain.score)
    assert result.standard_error is None
    recorded = as_dict(METHODS[method].parse(options))
    assert {name: recorded[name] for name in options} == options


def test_smoothing_and_regions_are_checked(cnn: nn.Module, images: Tensor, targets: Tensor) -> None:
    wrong: list[dict[str, Any]] = [{"smoothing": -1.0}, {"regions": "squares"}]
    for options in wrong:
        with pytest.raises(ssig.UsageError, match=next(iter(options))):
            ssig.attribute(cnn, images, targets, "ig", **options)


def test_registries_refuse_a_second_entry() -> None:
    with pytest.raises(ValueError, match="registered twice"):
        METHODS.add(METHODS["ssig"])


def test_baselines(images: Tensor) -> None:
    mean = torch.tensor([0.1, 0.2, 0.3])
    streams = tuple(stream(0, "s", str(index), "ssig") for index in range(5))
    assert baselines("black", images, mean, streams).abs().max() == 0
    assert baselines("white", images, mean, streams).min() == 1
    assert torch.allclose(baselines("mean", images, mean, streams)[4, :, 3, 3], mean.double())
    assert torch.allclose(baselines((0.1, 0.2, 0.3), images, mean, streams), baselines("mean", images, mean, streams))
    blurred = baselines("blur", images, mean, streams)
    assert blurred.std() < images.std() / 3
    assert torch.allclose(blurred.mean(), images.mean(), atol=0.05)
    uniform = baselines("uniform", images, mean, streams)
    assert uniform.min() >= 0
    assert uniform.max() <= 1
    assert len(uniform.unique()) > 1000
    assert torch.equal(uniform[2:3], baselines("uniform", images[2:3], mean, streams[2:3]))
    assert baselines("blur", images[:, :, :1, :1], mean, streams).shape == (5, 3, 1, 1)


class TestCaptumConvention:
    def test_integrated_gradients_is_a_drop_in(self, cnn: nn.Module, images: Tensor, targets: Tensor) -> None:
        ours = ssig.IntegratedGradients(cnn).attribute(images, target=targets, return_convergence_delta=True)
        theirs = CaptumIntegratedGradients(cnn).attribute(images, target=targets, return_convergence_delta=True)
        for found, expected in zip(ours, theirs, strict=True):
            assert torch.allclose(found, expected, rtol=1e-6, atol=1e-9)

    def test_rules_baselines_and_extra_arguments(self, cnn: nn.Module, images: Tensor) -> None:
        def scaled(points: Tensor, factor: float) -> Tensor:
            return cnn(points) * factor

        arguments = {
            "baselines": 0.3,
            "target": 2,
            "additional_forward_args": 2.0,
            "n_steps": 6,
            "method": "riemann_left",
        }
        ours = ssig.IntegratedGradients(scaled).attribute(images, **arguments)
        theirs = CaptumIntegratedGradients(scaled).attribute(images, **arguments)
        assert isinstance(ours, Tensor)
        assert torch.allclose(ours, theirs, rtol=1e-6, atol=1e-9)

    def test_functions_of_one_number_need_no_target(self, cnn: nn.Module, images: Tensor) -> None:
        def margin(points: Tensor) -> Tensor:
            return cnn(points)[:, 0] - cnn(points)[:, 1]

        ours = ssig.IntegratedGradients(margin).attribute(images)
        assert isinstance(ours, Tensor)
        assert torch.allclose(ours, CaptumIntegratedGradients(margin).attribute(images), rtol=1e-6, atol=1e-9)

    def test_suppression(self, cnn: nn.Module, images: Tensor, targets: Tensor) -> None:
        ours = ssig.SuppressionIG(cnn).attribute(images, 0.5, targets, n_samples=4, keys=list("abcde"))
        same = ssig.attribute(cnn, images, targets, samples=4, baseline=torch.tensor(0.5), keys=list("abcde"))
        assert isinstance(ours, Tensor)
        assert torch.equal(ours, same.values)
        signed, delta = ssig.SuppressionIG(cnn).attribute(
            images, target=targets, method="ssig-signed", return_convergence_delta=True
        )
        assert signed.shape == images.shape
        assert delta.shape == (5,)
        with pytest.raises(ssig.UsageError, match="completeness"):
            ssig.SuppressionIG(cnn).attribute(images, target=targets, return_convergence_delta=True)

    def test_wrong_use_is_named(self, cnn: nn.Module, images: Tensor) -> None:
        with pytest.raises(ssig.UsageError, match="inputs"):
            ssig.IntegratedGradients(cnn).attribute((images,), target=0)  # type: ignore[arg-type]
        with pytest.raises(ssig.UsageError, match=r"\.eval\(\)"):
            ssig.IntegratedGradients(cnn.train()).attribute(images, target=0)


def test_a_replica_keeps_its_own_micro_batch(cnn: nn.Module, images: Tensor, targets: Tensor) -> None:
    replica = Replica(cnn, micro_batch=3)
    assert torch.equal(
        attribute(replica, images, targets, "gradient").map,
        attribute(cnn, images, targets, "gradient", micro_batch=3).map,
    )
    with pytest.raises(UsageError, match="micro_batch"):
        attribute(replica, images, targets, "gradient", micro_batch=4)
