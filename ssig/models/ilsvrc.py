"""The 1,000 classes of ILSVRC by the names that data sets use: WordNet id, synonyms, torchvision's name."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from typing import Any

WNID = re.compile(r"n\d{8}")
CLASSES = 1000


def is_ilsvrc(categories: Sequence[str]) -> bool:
    """Whether `categories` are the classes of ILSVRC in torchvision's names and order."""
    return tuple(categories) == _torchvision()


def is_wnid(name: str) -> bool:
    """Whether a name is a WordNet id, such as n01440764."""
    return WNID.fullmatch(name) is not None


def aliases(number: int) -> tuple[str, ...]:
    """The names of class `number` in [0, 1000): its WordNet id, torchvision's name, WordNet's synonyms."""
    info = _info()
    wnid, description = info.index_to_label_name(number), info.index_to_description(number, detailed=False)
    return (wnid, _torchvision()[number], description, *description.split(", "))


def number_of(wnid: str) -> int | None:
    """The class number of a WordNet id; None if ILSVRC does not have it."""
    return _numbers().get(wnid)


@functools.cache
def _torchvision() -> tuple[str, ...]:
    from torchvision.models import ResNet18_Weights

    return tuple(ResNet18_Weights.DEFAULT.meta["categories"])


@functools.cache
def _info() -> Any:
    from timm.data.imagenet_info import ImageNetInfo

    return ImageNetInfo("imagenet-1k")


@functools.cache
def _numbers() -> dict[str, int]:
    return {_info().index_to_label_name(number): number for number in range(CLASSES)}
