"""Logits are found in what networks return, and a single one becomes two that a softmax turns into its sigmoid."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision.models.googlenet import GoogLeNetOutputs

from ssig.errors import ModelError
from ssig.models.outputs import logits_of, two_classes

LOGITS = torch.arange(6.0).view(2, 3)


@dataclass
class Output:
    loss: Any
    logits: Any


class ModelOutput(OrderedDict[str, Any]):
    """As transformers has it: a dictionary whose entries are attributes too."""

    def __getattr__(self, name: str) -> Any:
        if name not in self:
            raise AttributeError(name)
        return self[name]


@pytest.mark.parametrize(
    "output",
    [
        LOGITS,
        Output(None, LOGITS),
        {"logits": LOGITS, "features": torch.zeros(2, 7)},
        ModelOutput(logits=LOGITS),
        (LOGITS, None),
        [LOGITS, torch.zeros(2, 9)],
        GoogLeNetOutputs(LOGITS, torch.zeros(2, 3), torch.zeros(2, 3)),
        LOGITS[..., None, None],
    ],
)
def test_logits_are_found(output: object) -> None:
    assert torch.equal(logits_of(output, 2), LOGITS)


@pytest.mark.parametrize(
    ("output", "points", "shape"),
    [
        (torch.zeros(4), 4, (4, 1)),  # one logit, squeezed
        (torch.zeros(1), 1, (1, 1)),
        (torch.zeros(10), 1, (1, 10)),  # a batch of one, squeezed
        (torch.zeros(4, 3, 8, 8), 4, (4, 3, 8, 8)),  # a segmentation, for the caller to refuse
        (torch.zeros(()), 1, ()),
    ],
)
def test_squeezed_shapes_are_undone(output: Tensor, points: int, shape: tuple[int, ...]) -> None:
    assert tuple(logits_of(output, points).shape) == shape


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (Output(None, None), r"returned a Output; .*\.logits"),
        ({"scores": LOGITS}, "returned a dict of scores; let it return its logits"),
        ((None, LOGITS), "returned a tuple of NoneType, Tensor"),
        (None, "returned a NoneType"),
        ("cat", "returned a str"),
    ],
)
def test_what_holds_none_is_named(output: object, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        logits_of(output, 2)


def test_two_classes_are_the_sigmoid_of_one_logit() -> None:
    single = torch.linspace(-20, 20, 41, dtype=torch.float64, requires_grad=True)
    logits = two_classes(single.unsqueeze(1))
    probabilities = logits.softmax(dim=1)
    torch.testing.assert_close(probabilities[:, 1], torch.sigmoid(single))
    torch.testing.assert_close(probabilities[:, 0], torch.sigmoid(-single))
    torch.testing.assert_close(logits[:, 1] - logits[:, 0], single)
    (gradient,) = torch.autograd.grad(logits[:, 0].sum(), single)
    torch.testing.assert_close(gradient, torch.full_like(gradient, -0.5))
    assert torch.equal(two_classes(LOGITS), LOGITS)
