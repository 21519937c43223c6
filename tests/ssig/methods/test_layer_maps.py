"""Grad-CAM++, LayerCAM and HiResCAM: closed forms, and the authors' code written from its description."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from ssig import attribute
from ssig.methods.grad_cam_plus_plus import positive_by_channel

METHODS = ("grad-cam++", "layer-cam", "hires-cam")


class Placed(nn.Module):
    """`f_y(x) = sum_cp V_ycp A_cp + b_y`, the features A a convolution without bias, with a weight for each place."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(5)
        self.features = nn.Conv2d(3, 4, 3, stride=2, padding=1, bias=False).double()
        self.head = nn.Linear(4 * 5 * 6, 5).double()
        for parameter in self.parameters():
            parameter.data = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        self.eval().requires_grad_(False)

    def forward(self, points: Tensor) -> Tensor:
        logits: Tensor = self.head(self.features(points).flatten(1))
        return logits

    def weights(self, targets: Tensor) -> Tensor:
        """`V`, (B, 4, 5, 6), the gradient of the score by the features."""
        return self.head.weight[targets].view(-1, 4, 5, 6)


@pytest.fixture
def placed() -> Placed:
    return Placed()


def laid(maps: Tensor) -> Tensor:
    """A map (B, h, w) as it lies over images of 10 x 12 pixels."""
    return interpolate(maps.unsqueeze(1), size=(10, 12), mode="bilinear", align_corners=False)[:, 0]


def test_hires_cam_of_a_linear_head_is_complete_at_the_layer(placed: Placed, images: Tensor, targets: Tensor) -> None:
    expected = (placed.weights(targets) * placed.features(images)).sum(dim=1)
    scores = placed(images).gather(1, targets[:, None])[:, 0]
    torch.testing.assert_close(expected.sum(dim=(1, 2)), scores - placed.head.bias[targets])
    whole = attribute(placed, images, targets, "hires-cam", preset="paper")
    torch.testing.assert_close(whole.map, laid(expected), rtol=1e-10, atol=1e-13)
    positive = attribute(placed, images, targets, "hires-cam")
    torch.testing.assert_close(positive.map, laid(expected.relu()), rtol=1e-10, atol=1e-13)
    assert whole.map.lt(0).any()
    assert whole.gradient_evaluations.tolist() == [1] * 5


def test_layer_cam_weighs_each_place_by_its_own_positive_gradient(
    placed: Placed, images: Tensor, targets: Tensor
) -> None:
    expected = (placed.weights(targets).relu() * placed.features(images)).sum(dim=1)
    found = attribute(placed, images, targets, "layer-cam")
    torch.testing.assert_close(found.map, laid(expected.relu()), rtol=1e-10, atol=1e-13)
    both = attribute(placed, images, targets, "layer-cam", relu=False)
    torch.testing.assert_close(both.map, laid(expected), rtol=1e-10, atol=1e-13)


def authors_plus_plus(gradients: Tensor, activations: Tensor, score: Tensor, normalised: bool) -> Tensor:
    """The map (h, w) of one image before its ReLU, step by step as in the paper, with the factor `exp(f_y)`."""
    first = score.exp() * gradients
    second, third = score.exp() * gradients**2, score.exp() * gradients**3
    total = torch.zeros(gradients.shape[1:], dtype=gradients.dtype)
    for channel in range(len(gradients)):
        denominators = 2 * second[channel] + activations[channel].sum() * third[channel]
        denominators[denominators == 0] = 1
        coefficients = second[channel] / denominators
        positive = first[channel].clamp_min(0)
        if normalised:
            coefficients[positive == 0] = 0
            divisor = coefficients.sum()
            coefficients = coefficients / (divisor if divisor != 0 else 1)
        total += (coefficients * positive).sum() * activations[channel]
    return total


@pytest.mark.parametrize("given", [{}, {"preset": "code"}])
@pytest.mark.parametrize("relu", [True, False])
def test_grad_cam_plus_plus_is_the_authors_but_for_one_factor(
    cnn: nn.Sequential, images: Tensor, targets: Tensor, given: dict[str, str], relu: bool
) -> None:
    found = attribute(cnn, images, targets, "grad-cam++", layer="1", relu=relu, **given).map
    activations = cnn[:2](images).detach().requires_grad_()
    scores = cnn[2:](activations).gather(1, targets[:, None])[:, 0]
    (gradients,) = torch.autograd.grad(scores.sum(), activations)
    for index in range(5):
        score = scores[index].detach()
        expected = authors_plus_plus(gradients[index], activations[index].detach(), score, bool(given)) / score.exp()
        expected = laid((expected.relu() if relu else expected).unsqueeze(0))[0]
        torch.testing.assert_close(found[index], expected, rtol=1e-9, atol=1e-13)
    assert found.any()


def test_channels_without_positive_gradients_have_no_weight() -> None:
    activations = torch.rand(1, 3, 2, 2, dtype=torch.float64)
    gradients = torch.zeros_like(activations)
    gradients[0, 0] = -1.0
    gradients[0, 1, 0, 0] = 1.0
    for normalised in (False, True):
        found = positive_by_channel(gradients, activations, normalised=normalised)
        weight = 1.0 if normalised else 1 / (2 + float(activations[0, 1].sum()))
        torch.testing.assert_close(found[0, 0], weight * activations[0, 1])


@pytest.mark.parametrize("method", METHODS)
def test_a_layer_with_its_channels_last_gives_the_same_map(images: Tensor, targets: Tensor, method: str) -> None:
    class Turned(Placed):
        def __init__(self) -> None:
            super().__init__()
            self.turned = nn.Identity()

        def forward(self, points: Tensor) -> Tensor:
            hidden = self.turned(self.features(points).permute(0, 2, 3, 1))
            logits: Tensor = self.head(hidden.permute(0, 3, 1, 2).flatten(1))
            return logits

    network = Turned().eval()
    last, first = (
        attribute(network, images, targets, method, layer=layer, relu=False).map for layer in ("turned", "features")
    )
    assert first.any()
    torch.testing.assert_close(last, first, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("method", METHODS)
def test_nan_reaches_the_map(placed: Placed, images: Tensor, targets: Tensor, method: str) -> None:
    placed.head.weight.data.fill_(torch.nan)
    assert attribute(placed, images, targets, method).map.isnan().all()
