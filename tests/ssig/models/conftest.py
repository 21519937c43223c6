"""A module of a user's, and the packaged network that most tests share."""

from __future__ import annotations

from pathlib import Path

import pytest

from ssig.models import Model, load_model

USER_MODULE = """
import torch
from torch import nn

class Tiny(nn.Module):
    def __init__(self, classes=4):
        super().__init__()
        self.convolution = nn.Conv2d(3, 8, 3)
        self.head = nn.Linear(8, classes)
        self.local = lambda pooled: pooled  # cannot be pickled

    def forward(self, batch):
        return self.head(self.local(self.convolution(batch).relu().mean((2, 3))))

def tiny():
    return Tiny()

def described():
    network = Tiny()
    network.mean, network.std = [0.1, 0.2, 0.3], torch.tensor([0.5, 0.25, 0.125])
    network.input_size, network.categories = (8, 12), ["ant", "bee", "cat", "dog"]
    return network

def versioned():
    from torchvision.models import mnasnet0_5
    return mnasnet0_5()

def three_names():
    network = Tiny()
    network.categories = ["ant", "bee", "cat"]
    return network

def flat():
    network = Tiny()
    network.std = 0
    return network

def two_means():
    network = Tiny()
    network.mean = (0.5, 0.5)
    return network

def gray():
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten())

def number():
    return 7

def broken():
    raise KeyError("lost")

constant = 7
"""


@pytest.fixture(scope="session")
def lite0() -> Model:
    return load_model("efficientnet-lite0")


@pytest.fixture
def user_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of an importable module `users_networks`."""
    (tmp_path / "users_networks.py").write_text(USER_MODULE)
    (tmp_path / "users_fault.py").write_text("import users_missing\n")
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path
