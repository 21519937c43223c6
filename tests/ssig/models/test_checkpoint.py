"""Checkpoints: what loads, and the one line that each damaged or foreign file gets."""

from __future__ import annotations

import os
import re
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from ssig.errors import ModelError, UsageError
from ssig.models import checkpoint, load_model


def network(seed: int = 0) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))


def fitted(path: Path) -> nn.Sequential:
    other = network(seed=1)
    checkpoint.load_into(other, checkpoint.read(path), path)
    return other


def same(one: nn.Module, other: nn.Module) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))


def parallel(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"module.{name}": tensor for name, tensor in state.items()}


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"state_dict": state, "epoch": 90},
        lambda state: {"model": state, "args": {"lr": 0.1}},
        lambda state: {"state_dict": parallel(state)},
        parallel,
    ],
)
@pytest.mark.parametrize("suffix", [".pt", ".pth"])
def test_plain_nested_and_parallel_states_load(wrap: Any, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"weights{suffix}"
    torch.save(wrap(network().state_dict()), path)
    assert same(fitted(path), network())


def test_safetensors_load(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    safetensors.torch.save_file(network().state_dict(), path)
    assert same(fitted(path), network())


def test_versions_of_submodules_survive_the_prefix(tmp_path: Path) -> None:
    # torchvision's MNASNet refuses a state dict that does not carry its version.
    model = load_model("torchvision:mnasnet0_5", "random")
    path = tmp_path / "weights.pth"
    torch.save(nn.DataParallel(model.network).state_dict(), path)
    assert load_model("torchvision:mnasnet0_5", path).weights_hash == model.weights_hash


def test_the_original_names_of_packaged_networks_load_by_position(tmp_path: Path) -> None:
    model = load_model("efficientnet-lite1", "random")
    foreign = OrderedDict((f"_{index}", tensor) for index, tensor in enumerate(model.network.state_dict().values()))
    path = tmp_path / "weights.pth"
    torch.save(foreign, path)
    assert load_model("efficientnet-lite1", path).weights_hash == model.weights_hash
    with pytest.raises(ModelError, match=r"missing: .*unexpected: "):
        load_model("timm:tf_efficientnet_lite1", path)


def changed(**changes: Tensor | None) -> dict[str, Tensor]:
    state: dict[str, Tensor | None] = {**network().state_dict()}
    state.update({name.replace("_", ".", 1): value for name, value in changes.items()})
    return {name: value for name, value in state.items() if value is not None}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (changed(**{"3_bias": None}), r"missing: 3\.bias$"),
        (changed(**{"9_bias": torch.zeros(2)}), r"unexpected: 9\.bias$"),
        (changed(**{"3_bias": torch.zeros(5)}), r"differing shapes: 3\.bias \(5,\) where the network has \(2,\)$"),
        ({}, r"holds a dict and no state dict"),
        (torch.zeros(3), r"holds a Tensor and no state dict"),
        ({"epoch": 3, "0.bias": torch.zeros(4)}, r"entries that are no tensors: epoch \(int\)$"),
        (
            {f"stray.{index}": torch.zeros(1) for index in range(5)},
            r"missing: .* and \d+ more; unexpected: stray\.0, stray\.1, stray\.2 and 2 more$",
        ),
    ],
)
def test_mismatches_name_file_and_finding(content: Any, message: str, tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    torch.save(content, path)
    with pytest.raises(ModelError, match=message) as caught:
        fitted(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


class Malicious:
    """Unpickled, it makes a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (str(self.folder),)


def test_pickled_code_is_not_run(tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    torch.save({"state_dict": Malicious(tmp_path / "made")}, path)
    with pytest.raises(ModelError, match=r"holds pickled code \(\w+\.mkdir\)"):
        checkpoint.read(path)
    assert not (tmp_path / "made").exists()


def test_whole_modules_and_programs_are_refused(tmp_path: Path) -> None:
    torch.save(network(), tmp_path / "module.pt")
    with pytest.raises(ModelError, match=r"holds pickled code \(torch\.nn\.modules\.container\.Sequential\)"):
        checkpoint.read(tmp_path / "module.pt")
    with pytest.warns(FutureWarning, match="torch.jit"):
        torch.jit.save(torch.jit.script(nn.Linear(2, 2)), tmp_path / "program.pt")
    with pytest.raises(ModelError, match="TorchScript program"):
        checkpoint.read(tmp_path / "program.pt")


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".safetensors"])
@pytest.mark.parametrize("kept", [0.0, 0.1, 0.5, 0.9])
def test_truncated_files_are_refused(kept: float, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"weights{suffix}"
    if suffix == ".safetensors":
        safetensors.torch.save_file(network().state_dict(), path)
    else:
        torch.save(network().state_dict(), path, _use_new_zipfile_serialization=suffix == ".pt")
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * kept)])
    with pytest.raises(ModelError, match=re.escape(str(path)) + ": is damaged, cut short or no checkpoint") as caught:
        checkpoint.read(path)
    assert "\n" not in str(caught.value)
    assert "weights_only" not in str(caught.value)


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    path.write_text("<html>not found</html>")
    with pytest.raises(ModelError, match="no checkpoint"):
        checkpoint.read(path)


@pytest.mark.parametrize("name", ["absent.pt", "folder.pt", "weights.txt"])
def test_files_that_are_not_there_are_usage_errors(name: str, tmp_path: Path) -> None:
    (tmp_path / "folder.pt").mkdir()
    (tmp_path / "weights.txt").touch()
    path = str(tmp_path / name)
    with pytest.raises(UsageError) as caught:
        load_model("efficientnet-lite0", path)
    assert (caught.value.field, caught.value.found) == ("model.weights", path)
