"""Checkpoints as training saves them: names with prefixes, nested, beside averages, under every usual suffix."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from pipeline.job.configuration import load_job
from ssig.errors import ModelError
from ssig.models import ModelWarning, checkpoint, load_model
from ssig.models.weight_files import SUFFIXES, is_weight_file

State = dict[str, Any]


def network(seed: int = 0, classes: int = 2) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, classes))


STATE: State = dict(network().state_dict())
OTHER: State = dict(network(seed=5).state_dict())


def under(prefix: str, state: State = STATE) -> State:
    return {f"{prefix}{name}": tensor for name, tensor in state.items()}


def loaded(content: Any, folder: Path, suffix: str = ".pt") -> tuple[nn.Sequential, list[str]]:
    path, target, notes = folder / f"weights{suffix}", network(seed=1), list[str]()
    torch.save(content, path)
    checkpoint.load_into(target, checkpoint.read(path, notes), path)
    return target, notes


def same(one: nn.Module, state: State) -> bool:
    return all(torch.equal(tensor, state[name]) for name, tensor in one.state_dict().items())


@pytest.mark.parametrize(
    "content",
    [
        under("_orig_mod."),
        under("module."),
        under("model."),
        under("module._orig_mod."),
        under("_orig_mod.module."),
        under("model._orig_mod."),
        under("model.module."),
        under("network."),
        {name.replace("3.", "3._orig_mod."): tensor for name, tensor in STATE.items()},
        {"model_state_dict": STATE, "epoch": 3, "loss": 0.1},
        {"state_dict": under("model."), "hyper_parameters": {"lr": 0.1}, "pytorch-lightning_version": "2.5.0"},
        {"state_dict": {**under("model."), "loss.weight": torch.ones(2), "accuracy.total": torch.zeros(())}},
        {"state_dict": {**under("net."), **under("teacher.", OTHER)}},
        {"model": {"state_dict": STATE}},
        {"model": STATE, "optimizer": {"state": {}, "param_groups": []}, "args": argparse.Namespace(lr=0.1)},
        {"module": under("module."), "dp_world_size": 2},
        {"n_averaged": torch.tensor(5), **under("module.")},
    ],
)
def test_what_training_saves_loads(content: Any, tmp_path: Path) -> None:
    target, notes = loaded(content, tmp_path)
    assert same(target, STATE)
    assert notes == []


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_suffix_loads_and_is_known_everywhere(suffix: str, tmp_path: Path) -> None:
    if suffix != ".safetensors":
        assert same(loaded(STATE, tmp_path, suffix)[0], STATE)
    assert is_weight_file(f"weights{suffix}")
    assert is_weight_file(f"WEIGHTS{suffix.upper()}")
    job = load_job(None, {"dataset.shards": ["a.tar"], "output.path": "out", "model.weights": f"run/best{suffix}"})
    assert job.model.weights == str(Path.cwd() / f"run/best{suffix}")


@pytest.mark.parametrize(
    ("content", "expected", "note"),
    [
        ({"state_dict": STATE, "state_dict_ema": OTHER}, STATE, "state_dict is used, and not state_dict_ema"),
        ({"model_ema": OTHER, "model": STATE}, STATE, "model is used, and not model_ema"),
        ({"ema_state_dict": OTHER, "epoch": 3}, OTHER, "ema_state_dict is used, averaged weights"),
        ({"model_ema": {"state_dict": under("module.", OTHER)}}, OTHER, "model_ema is used, averaged weights"),
    ],
)
def test_of_averages_and_weights_the_weights_are_taken_and_it_is_said(
    content: Any, expected: State, note: str, tmp_path: Path
) -> None:
    target, notes = loaded(content, tmp_path)
    assert same(target, expected)
    assert [note in text for text in notes] == [True]


def test_the_choice_is_a_warning_of_the_model(tmp_path: Path) -> None:
    state = load_model("efficientnet-lite0", "random").network.state_dict()
    torch.save({"state_dict": state, "state_dict_ema": state}, tmp_path / "best.pth.tar")
    with pytest.warns(ModelWarning, match="not state_dict_ema"):
        model = load_model("efficientnet-lite0", tmp_path / "best.pth.tar")
    assert model.weights_hash == load_model("efficientnet-lite0", "random").weights_hash


@pytest.mark.parametrize(
    "content",
    [
        {**under("model."), "loss.weight": torch.ones(2), "model.3.bias": torch.zeros(9)},
        {name: tensor for name, tensor in under("model.").items() if "bias" not in name},
        {**{name: tensor for name, tensor in under("model.").items() if "bias" not in name}, "x": torch.ones(1)},
        under("backbone."),
    ],
)
def test_a_prefix_hides_no_misfit(content: Any, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="does not fit the network"):
        loaded(content, tmp_path)


def test_another_width_says_what_to_do(tmp_path: Path) -> None:
    state = dict(network(classes=7).state_dict())
    with pytest.raises(ModelError, match=r"classifier has 7 classes, the network's 2: build the network with 7"):
        loaded(state, tmp_path)


@pytest.mark.parametrize("content", [network(), {"model": network(), "epoch": 2}])
def test_a_whole_module_gets_the_line_that_converts(content: Any, tmp_path: Path) -> None:
    with pytest.raises(ModelError) as caught:
        loaded(content, tmp_path)
    assert 'torch.save(network.state_dict(), "weights.pt")' in str(caught.value)
    assert "\n" not in str(caught.value)


def test_extra_state_is_no_stranger(tmp_path: Path) -> None:
    class Extra(nn.Linear):
        extra: object = None

        def get_extra_state(self) -> object:
            return {"version": 2}

        def set_extra_state(self, state: object) -> None:
            self.extra = state

    path, target = tmp_path / "weights.pt", nn.Sequential(Extra(3, 2))
    torch.save(nn.Sequential(Extra(3, 2)).state_dict(), path)
    checkpoint.load_into(target, checkpoint.read(path), path)
    assert target[0].extra == {"version": 2}


def test_a_namespace_lets_no_other_object_in(tmp_path: Path) -> None:
    torch.save({"model": STATE, "args": argparse.Namespace(call=nn.Linear)}, tmp_path / "weights.pt")
    with pytest.raises(ModelError, match="holds pickled code"):
        checkpoint.read(tmp_path / "weights.pt")
