"""Names, random weights, the user's own networks, and the way of a model to another process."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from ssig.errors import ModelError, UsageError
from ssig.models import Model, export, hash_state, load_model, resolve, restore

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize(
    ("name", "close"),
    [
        ("resnet50", "torchvision:resnet50, timm:resnet50"),
        ("timm:resnt50", "timm:resnet50"),
        ("torchvision:resnet5", "torchvision:resnet50"),
        ("torchvision:fcn_resnet50", "torchvision:resnet50"),
        ("efficientnet-lite3", "efficientnet-lite2"),
        ("EfficientNet_Lite0", "close to it: efficientnet-lite0, timm:efficientnet_lite0"),
        ("timm:resnet18.no_such_tag", "timm:resnet18.a1_in1k"),
        ("timm:hf-hub:someone/something", "timm:NAME"),
        ("package-with-dashes:network", "package.module:callable"),
        ("users_absent:network", "there is no module users_absent"),
        ("json:absent", "has no callable absent"),
        ("timm:vit_small_patch14_dinov2", "a classifier"),
    ],
)
def test_unknown_names_get_the_closest(name: str, close: str) -> None:
    for check in (resolve, load_model):
        with pytest.raises(UsageError) as caught:
            check(name)
        assert (caught.value.field, caught.value.found) == ("model.name", name)
        assert close in caught.value.allowed


@pytest.mark.parametrize(
    ("name", "weights", "allowed"),
    [
        ("torchvision:resnet50", "IMAGENET1K_V3", "IMAGENET1K_V1, IMAGENET1K_V2, DEFAULT"),
        ("torchvision:vgg16", "IMAGENET1K_FEATURES", "IMAGENET1K_V1"),  # have no classifier
        ("timm:resnet18", "a1_in1k", "timm:resnet18.a1_in1k"),
        ("timm:efficientnet_lite1", None, "timm has none"),
        ("efficientnet-lite0", "DEFAULT", "random"),
        ("users_networks:tiny", "best", "random"),
    ],
)
@pytest.mark.usefixtures("user_module")
def test_unknown_weights_get_what_there_is(name: str, weights: str | None, allowed: str) -> None:
    with pytest.raises(UsageError) as caught:
        resolve(name, weights)
    assert (caught.value.field, caught.value.found) == ("model.weights", weights)
    assert allowed in caught.value.allowed


@pytest.mark.parametrize("name", ["timm:resnet10t", "torchvision:mobilenet_v3_small", "efficientnet-lite0"])
def test_random_weights_are_always_the_same(name: str) -> None:
    before = torch.random.get_rng_state()
    first = load_model(name, "random")
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.rand(3)
    second = load_model(name, "none")
    assert first.weights_hash == second.weights_hash
    batch = torch.rand(1, 3, *first.input_size)
    assert torch.equal(first(batch), second(batch))
    assert first(batch).shape == (1, len(first.categories))


def test_loading_leaves_the_global_generator_alone() -> None:
    before = torch.random.get_rng_state()
    load_model("efficientnet-lite0")
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("name", ["torchvision:googlenet", "torchvision:vit_b_16", "torchvision:mnasnet0_5"])
def test_architectures_fit_the_input_of_their_weights(name: str) -> None:
    model = load_model(name, "random")
    assert model(torch.rand(1, 3, *model.input_size)).shape == (1, 1000)


@pytest.mark.usefixtures("user_module")
class TestCallable:
    def test_without_attributes_it_takes_pixel_space(self) -> None:
        model = load_model("users_networks:tiny")
        assert (model.mean.tolist(), model.std.tolist()) == ([0.0] * 3, [1.0] * 3)
        assert model.input_size == (224, 224)
        assert model.categories == ("class 0", "class 1", "class 2", "class 3")
        batch = torch.rand(2, 3, 16, 16)
        assert torch.equal(model(batch), model.network(batch))
        assert load_model("users_networks:tiny").weights_hash == model.weights_hash

    def test_attributes_describe_the_input(self) -> None:
        model = load_model("users_networks:described")
        torch.testing.assert_close(model.mean, torch.tensor([0.1, 0.2, 0.3]))
        assert model.std.tolist() == [0.5, 0.25, 0.125]
        assert model.input_size == (8, 12)
        assert model.categories == ("ant", "bee", "cat", "dog")

    def test_it_takes_a_checkpoint(self, tmp_path: Path) -> None:
        state = {
            name: torch.zeros_like(tensor)
            for name, tensor in load_model("users_networks:tiny").network.state_dict().items()
        }
        torch.save(state, tmp_path / "zeros.pth")
        model = load_model("users_networks:tiny", tmp_path / "zeros.pth")
        assert torch.equal(model(torch.rand(1, 3, 8, 8)), torch.zeros(1, 4))

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("users_networks:broken", "KeyError"),
            ("users_networks:number", "returned a int"),
            ("users_networks:gray", "gave no logits"),
            ("users_networks:three_names", "3 categories for 4 classes"),
            ("users_networks:flat", "expected numbers above 0"),
            ("users_networks:two_means", "expected three numbers"),
            ("users_fault:network", "importing it failed with ModuleNotFoundError: No module named 'users_missing'"),
        ],
    )
    def test_what_goes_wrong_is_one_line(self, name: str, message: str) -> None:
        with pytest.raises(ModelError, match=message) as caught:
            load_model(name)
        assert str(caught.value).startswith(name)

    def test_what_cannot_be_called_is_refused(self) -> None:
        with pytest.raises(UsageError, match=r"users_networks \(.*\) has no callable constant"):
            load_model("users_networks:constant")


WORKER = """
import pickle, socket, sys
import torch
from ssig.models import hash_state, restore

def refuse(*arguments):
    raise AssertionError("a worker went to the network")

socket.socket.connect = refuse
states, batch = pickle.load(sys.stdin.buffer)
models = [restore(state) for state in states]
results = [(hash_state(model), model.weights_hash, model(batch), model.categories, model.geometry) for model in models]
pickle.dump(results, sys.stdout.buffer)
"""


def test_a_model_restored_in_another_process_is_the_same(lite0: Model, user_module: Path) -> None:
    models = [lite0, load_model("users_networks:described"), load_model("torchvision:googlenet", "random")]
    batch = torch.rand(2, 3, 64, 64)
    path = os.pathsep.join([str(ROOT), str(user_module)])
    done = subprocess.run(
        [sys.executable, "-c", WORKER],
        input=pickle.dumps(([export(model) for model in models], batch)),
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    for model, (recomputed, recorded, logits, categories, geometry) in zip(
        models, pickle.loads(done.stdout), strict=True
    ):
        assert recomputed == recorded == model.weights_hash
        expected = model(batch)
        assert (logits - expected).norm() <= 1e-3 * expected.norm()  # kinks of ReLU6 flip where rounding differs
        assert (categories, geometry) == (model.categories, model.geometry)


def test_a_restored_model_shares_nothing() -> None:
    model = load_model("efficientnet-lite0", "random", precision="bf16")
    state = export(model)
    twin = restore(state)
    for tensor in twin.state_dict().values():
        tensor.zero_()
    assert hash_state(restore(state)) == hash_state(model) == model.weights_hash
    assert twin.precision == "bf16"


@pytest.mark.usefixtures("user_module")
def test_versions_of_submodules_travel_with_a_users_network() -> None:
    model = load_model("users_networks:versioned")
    twin = restore(pickle.loads(pickle.dumps(export(model))))
    assert hash_state(twin) == model.weights_hash


def test_a_converted_model_keeps_its_type() -> None:
    model = load_model("efficientnet-lite0", "random").double()
    twin = restore(export(model))
    batch = torch.rand(1, 3, 32, 32, dtype=torch.float64)
    assert torch.equal(twin(batch), model(batch))
