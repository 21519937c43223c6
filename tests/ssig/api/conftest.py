"""A network of `load_model`'s kind whose classes have names, and Pillow images for it."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import ssig
from ssig.models import Geometry

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "support"))

import networks

CATEGORIES = ("tabby", "tiger cat", "Egyptian_cat", "red fox", "crane", "crane", "lynx", "ski")


def named(categories: tuple[str, ...] = CATEGORIES) -> ssig.Model:
    return ssig.Model(
        networks.tiny(),
        name="tiny",
        mean=torch.full((3,), 0.5),
        std=torch.full((3,), 0.25),
        geometry=Geometry(resize=(36, 36), crop=(32, 32)),
        categories=categories,
    )


@pytest.fixture
def model() -> ssig.Model:
    return named()


@pytest.fixture
def pictures() -> list[Image.Image]:
    """Three of different sizes and modes."""
    generator = np.random.default_rng(0)
    shapes = [(40, 60, 3), (64, 48, 3), (50, 50)]
    found = [Image.fromarray(generator.integers(0, 255, shape, dtype=np.uint8)) for shape in shapes]
    assert [picture.mode for picture in found] == ["RGB", "RGB", "L"]
    return found
