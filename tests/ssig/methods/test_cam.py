"""Grad-CAM and its integrated kin: closed forms, the peer's maps, and how the layer is found."""

from __future__ import annotations

import pytest
import timm
import torch
import torchvision
from captum.attr import LayerAttribution, LayerGradCam
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, interpolate, max_pool2d

from ssig import ModelError, attribute
from ssig.engine.layers import LAST_CONV, feature_maps, last_convolution
from ssig.engine.replica import Replica
from ssig.models.geometry import Geometry
from ssig.models.model import Model

CAMS = ["grad-cam", "integrated-grad-cam", "ssig-cam"]


class Pooled(nn.Module):
    """`f_y(x) = sum_c V_yc mean(A_c)^power + b_y`, the features A a convolution without bias."""

    def __init__(self, power: int = 1) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(5)
        self.power = power
        self.features = nn.Conv2d(3, 4, 3, stride=2, padding=1, bias=False).double()
        self.features.weight.data = torch.randn(4, 3, 3, 3, generator=generator, dtype=torch.float64)
        self.head = nn.Linear(4, 3).double()
        self.head.weight.data = torch.randn(3, 4, generator=generator, dtype=torch.float64)

    def forward(self, points: Tensor) -> Tensor:
        logits: Tensor = self.head(self.features(points).mean(dim=(2, 3)) ** self.power)
        return logits

    def cam(self, images: Tensor, targets: Tensor) -> Tensor:
        """`sum_c V_yc A_c / (h w)`, (B, 1, h, w)."""
        activations = self.features(images)
        weights = self.head.weight[targets, :, None, None] / activations[0, 0].numel()
        return (weights * activations).sum(dim=1, keepdim=True).detach()


def laid(maps: Tensor, images: Tensor) -> Tensor:
    """A map (B, H, W) as it lies over the images."""
    return interpolate(maps, size=images.shape[-2:], mode="bilinear", align_corners=False)[:, 0]


@pytest.fixture
def pooled() -> Pooled:
    return Pooled().eval().requires_grad_(False)


@pytest.mark.parametrize("method", ["grad-cam", "ssig-cam"])
def test_before_a_pooled_linear_head_the_weights_are_those_of_cam(
    pooled: Pooled, images: Tensor, targets: Tensor, method: str
) -> None:
    targets = targets % 3
    cam = pooled.cam(images, targets)
    found = attribute(pooled, images, targets, method, layer="features")
    assert torch.allclose(found.map, laid(cam.relu(), images), rtol=1e-12, atol=1e-15)
    assert torch.allclose(found.values, (found.map / 3).unsqueeze(1).expand(images.shape))
    assert torch.equal(attribute(pooled, images, targets, method).map, found.map)
    both = attribute(pooled, images, targets, method, relu=False)
    assert torch.allclose(both.map, laid(cam, images), rtol=1e-12, atol=1e-15)
    assert found.completeness_residual is None
    if found.standard_error is not None:
        assert found.standard_error.max() < 1e-15


def test_the_integral_of_a_linear_network_is_half_its_cam(pooled: Pooled, images: Tensor, targets: Tensor) -> None:
    targets = targets % 3
    gained = pooled.cam(images, targets) - pooled.cam(torch.full_like(images, 0.3), targets)
    for rule in ("midpoint", "gauss-legendre", "trapezoid"):
        found = attribute(pooled, images, targets, "integrated-grad-cam", steps=5, rule=rule, baseline=[0.3] * 3)
        assert torch.allclose(found.map, laid(gained.relu(), images) / 2, rtol=1e-12, atol=1e-15)
        assert found.standard_error is None


def test_weights_are_averaged_over_suppression(images: Tensor, targets: Tensor) -> None:
    # w_c = 2 V_yc mean(A_c(x̂)) / (h w), whose mean is half of that at x, with a black baseline.
    network, targets = Pooled(power=2).eval().requires_grad_(False), targets % 3
    whole = attribute(network, images, targets, "grad-cam", relu=False).map
    options = {"relu": False, "baseline": "black", "samples": 600, "micro_batch": 64}
    half = attribute(network, images, targets, "ssig-cam", **options)
    assert half.standard_error is not None
    error = (half.map - whole / 2).norm()
    assert error < 0.02 * whole.norm()
    assert 0.3 * error < half.standard_error.norm() < 3 * error


def test_standard_errors_are_the_spread_over_seeds(cnn: nn.Module, images: Tensor, targets: Tensor) -> None:
    results = [attribute(cnn, images, targets, "ssig-cam", samples=8, layer="1", seed=seed) for seed in range(24)]
    spread = torch.stack([result.map for result in results]).std(dim=0).mean()
    errors = [result.standard_error.mean() for result in results if result.standard_error is not None]
    assert 0.7 < float(torch.stack(errors).mean() / spread) < 1.4


@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize("layer", ["0", "1", "2", "3", "4"])
def test_grad_cam_agrees_with_captum(
    cnn: nn.Sequential, images: Tensor, targets: Tensor, layer: str, relu: bool
) -> None:
    found = attribute(cnn, images, targets, "grad-cam", layer=layer, relu=relu).map
    maps = LayerGradCam(cnn, cnn.get_submodule(layer)).attribute(images, targets, relu_attributions=relu)
    expected = LayerAttribution.interpolate(maps, (10, 12), "bilinear")[:, 0].detach()
    assert expected.any()
    assert torch.allclose(found, expected, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("score", ["logit", "probability"])
def test_the_integral_is_the_average_of_grad_cams(
    cnn: nn.Sequential, images: Tensor, targets: Tensor, score: str
) -> None:
    found = attribute(cnn, images, targets, "integrated-grad-cam", preset="paper", score=score)
    body, head = cnn[:4], cnn[4:]
    total = torch.zeros(5, 1, 5, 6, dtype=torch.float64)
    for step in range(50):
        activations = body(images * step / 50).requires_grad_()
        logits = head(activations)
        scores = (logits.softmax(dim=1) if score == "probability" else logits).gather(1, targets[:, None])
        (gradients,) = torch.autograd.grad(scores.sum(), activations)
        gained = activations - body(torch.zeros_like(images))
        total += (gradients.mean(dim=(2, 3), keepdim=True) * gained).sum(dim=1, keepdim=True).relu() / 50
    assert torch.allclose(found.map, laid(total.detach(), images), rtol=1e-9, atol=1e-14)
    assert found.gradient_evaluations.tolist() == [50] * 5


def test_one_sample_of_the_image_itself_is_grad_cam(cnn: nn.Module, images: Tensor, targets: Tensor) -> None:
    one = attribute(cnn, images, targets, "ssig-cam", sampler="identity", samples=1)
    assert torch.allclose(one.map, attribute(cnn, images, targets, "grad-cam").map, rtol=1e-12, atol=1e-15)
    assert one.standard_error is None


@pytest.mark.parametrize("method", CAMS)
@pytest.mark.parametrize("micro_batch", [1, 3, 64])
def test_a_batch_is_a_loop(cnn: nn.Module, images: Tensor, targets: Tensor, method: str, micro_batch: int) -> None:
    keys = [str(index) for index in range(5)]
    whole = attribute(cnn, images, targets, method, keys=keys, micro_batch=micro_batch)
    for index in range(5):
        span = slice(index, index + 1)
        alone = attribute(cnn, images[span], targets[span], method, keys=keys[span])
        assert torch.allclose(alone.map[0], whole.map[index], rtol=1e-9, atol=1e-14)
        if whole.standard_error is not None and alone.standard_error is not None:
            assert torch.allclose(alone.standard_error[0], whole.standard_error[index], rtol=1e-8, atol=1e-14)


@pytest.mark.parametrize("method", CAMS)
def test_corner_cases(cnn: nn.Sequential, pooled: Pooled, targets: Tensor, method: str) -> None:
    constant = torch.full((5, 3, 10, 12), 0.5, dtype=torch.float64)
    result = attribute(cnn, constant, targets, method, baseline=constant)
    assert torch.isfinite(result.values).all()
    assert result.map.any() == (method != "integrated-grad-cam")
    single = attribute(cnn.float(), constant.float(), targets, method)
    assert single.values.dtype == torch.float32
    pooled.head.weight.data.zero_()
    assert not attribute(pooled, constant, targets % 3, method).map.any()
    pooled.head.weight.data.fill_(torch.nan)
    assert attribute(pooled, constant, targets % 3, method).map.isnan().all()


# How the layer is found


class Functional(nn.Module):
    """One activation for both convolutions; pooling without modules."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 6, 3)
        self.activation = nn.ReLU(inplace=True)
        self.head = nn.Linear(6, 3)

    def forward(self, points: Tensor) -> Tensor:
        maps = max_pool2d(self.activation(self.first(points)), 2)
        logits: Tensor = self.head(adaptive_avg_pool2d(self.activation(self.second(maps)), 1).flatten(1))
        return logits


def ends_in_pooling() -> nn.Module:
    features = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True), nn.MaxPool2d(2))
    pool = nn.AdaptiveAvgPool2d(3)
    head = nn.Sequential(nn.Flatten(), nn.Dropout(), nn.Linear(36, 5))
    return nn.Sequential(features, nn.Dropout(), pool, head)


@pytest.mark.parametrize(
    ("build", "name", "shape"),
    [
        (ends_in_pooling, "0.1", (4, 62, 94)),
        (Functional, "activation", (6, 29, 45)),
        (lambda: torchvision.models.resnet18(), "layer4", (512, 2, 3)),
        (lambda: torchvision.models.squeezenet1_1(), "classifier.2", (1000, 3, 5)),
        (lambda: timm.create_model("efficientnet_lite0"), "bn2", (1280, 2, 3)),
        (lambda: timm.create_model("convnext_atto"), "norm_pre", (320, 2, 3)),
    ],
)
def test_the_last_feature_map_is_found(build: object, name: str, shape: tuple[int, ...]) -> None:
    network = build().eval()  # type: ignore[operator]
    points = torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    assert last_convolution(network, points) == name
    want = frozenset({"score", "gradient"})
    response = Replica(network).evaluate(points, torch.tensor([0, 1]), "logit", want, LAST_CONV)
    assert response.activations is not None
    assert response.activations.shape == (2, *shape)


def test_a_small_image_ends_in_an_earlier_feature_map() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    replica = Replica(network)
    for size, pixels in ((5, (3, 3)), (9, (5, 5)), (5, (3, 3))):
        points = torch.zeros(1, 3, size, size)
        response = replica.evaluate(points, torch.tensor([0]), "logit", frozenset({"gradient"}), LAST_CONV)
        assert response.activations is not None
        assert response.activations.shape[-2:] == pixels


def test_the_output_of_a_layer_is_not_what_the_next_makes_of_it_in_place(images: Tensor, targets: Tensor) -> None:
    def network(inplace: bool) -> nn.Module:
        torch.manual_seed(0)
        layers = (nn.Conv2d(3, 4, 3), nn.ReLU(inplace), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 5))
        return nn.Sequential(*layers).double().eval()

    with torch.random.fork_rng():
        found, expected = (
            attribute(network(inplace), images, targets, "grad-cam", layer="0", relu=False)
            for inplace in (True, False)
        )
    assert torch.equal(found.map, expected.map)


def test_without_gradients_a_layer_gives_its_activations(cnn: nn.Sequential, images: Tensor, targets: Tensor) -> None:
    response = Replica(cnn, micro_batch=2).evaluate(images, targets, "logit", frozenset({"score"}), "1")
    assert response.gradients is None
    assert response.activations is not None
    assert torch.allclose(response.activations, cnn[:2](images), rtol=1e-12)


class Odd(nn.Module):
    """Has a layer that gives a pair, and one that is never used."""

    def __init__(self) -> None:
        super().__init__()
        self.pair, self.unused = nn.LSTM(3, 3, batch_first=True), nn.Conv2d(3, 3, 1)

    def forward(self, points: Tensor) -> Tensor:
        tokens, _ = self.pair(points.flatten(2).mT)
        logits: Tensor = tokens.mean(dim=1)
        return logits


@pytest.mark.parametrize(
    ("build", "layer", "message"),
    [
        (Odd, "pair", "returns tuple; expected a tensor"),
        (Odd, "unused", "does not use its layer 'unused'"),
        (Odd, "none", "no layer 'none'"),
        (Odd, "last-conv", "does not end in a convolutional feature map"),
        (lambda: nn.Sequential(nn.Flatten(), nn.Linear(3072, 3)), "1", "expected .n, channels, height, width"),
        (lambda: torchvision.models.VisionTransformer(32, 8, 1, 2, 16, 16), "last-conv", "does not end in"),
        (
            lambda: timm.create_model("swin_tiny_patch4_window7_224", img_size=32, embed_dim=24, depths=(1, 1, 1, 1)),
            "last-conv",
            "does not end in",
        ),
    ],
)
def test_a_layer_that_cannot_be_weighed_is_refused(build: object, layer: str, message: str) -> None:
    network = build().eval()  # type: ignore[operator]
    with pytest.raises(ModelError, match=message):
        attribute(network, torch.rand(2, 3, 32, 32), [0, 1], "grad-cam", layer=layer)
    assert not any(module._forward_hooks for module in network.modules())


def test_layers_of_a_loaded_network_are_inside_it(cnn: nn.Sequential, images: Tensor, targets: Tensor) -> None:
    zero, one = torch.zeros(3), torch.ones(3)
    geometry = Geometry(resize=(10, 12), crop=(10, 12), interpolation="bilinear", mode="center")
    model = Model(cnn, name="cnn", mean=zero, std=one, geometry=geometry, categories=())
    assert last_convolution(model, images) == "network.3"
    with pytest.raises(ModelError, match=r"no layer '2'; it has network\.2"):
        attribute(model, images, targets, "grad-cam", layer="2")


def test_a_function_has_no_layers(cnn: nn.Module, images: Tensor, targets: Tensor) -> None:
    with pytest.raises(ModelError, match="does not end in"):
        attribute(lambda points: cnn(points), images, targets, "grad-cam")


class ChannelsLast(Pooled):
    """The same network, whose layer `turned` gives (n, h, w, c)."""

    def __init__(self) -> None:
        super().__init__()
        self.turned = nn.Identity()

    def forward(self, points: Tensor) -> Tensor:
        hidden = self.turned(self.features(points).permute(0, 2, 3, 1))
        logits: Tensor = self.head(hidden.mean(dim=(1, 2)))
        return logits


@pytest.mark.parametrize("method", CAMS)
def test_a_layer_with_its_channels_last_gives_the_same_map(images: Tensor, targets: Tensor, method: str) -> None:
    network = ChannelsLast().eval().requires_grad_(False)
    last, first = (
        attribute(network, images, targets % 3, method, layer=layer, relu=False).map
        for layer in ("turned", "features")
    )
    assert first.any()
    torch.testing.assert_close(last, first, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(
    ("shape", "size", "channels_last"),
    [
        ((1, 7, 7, 768), (224, 224), True),
        ((1, 56, 56, 96), (224, 224), True),  # 56 x 96 is in proportion to a square, but only roughly
        ((1, 768, 7, 7), (224, 224), False),
        ((1, 7, 7, 7), (224, 224), False),
        ((1, 8, 7, 10), (224, 320), False),
        ((1, 7, 10, 12), (224, 320), True),
        ((1, 7, 11, 12), (224, 336), True),  # rounded up
        ((1, 64, 28, 44), (32, 48), False),  # a kernel without padding
        ((1, 512, 1, 1), (224, 224), False),
        ((1, 1, 1, 512), (224, 224), True),
    ],
)
def test_where_the_channels_are(shape: tuple[int, ...], size: tuple[int, int], channels_last: bool) -> None:
    tensor = torch.arange(torch.Size(shape).numel()).view(shape)
    found = feature_maps(tensor, size)
    assert torch.equal(found, tensor.permute(0, 3, 1, 2) if channels_last else tensor)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 197, 192), r"gives \(1, 197, 192\); expected \(n, channels, height, width\): these look like tokens"),
        ((1, 192), r"gives \(1, 192\); expected \(n, channels, height, width\)"),
        ((1, 7, 768, 7), r"gives \(1, 7, 768, 7\); expected .* in the proportions of an image of 224 x 224 pixels"),
    ],
)
def test_what_is_no_map_is_refused(shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        feature_maps(torch.zeros(shape), (224, 224))
