"""The logits in a network's output: a tensor, or an object, a dictionary or a tuple with the logits in it.

Classifiers of transformers return an object with `.logits`, some networks a dictionary, others a tuple of the logits
and further outputs (GoogLeNet and Inception, in training).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ssig.errors import ModelError

LOGITS = "logits"


def logits_of(output: object, points: int) -> Tensor:
    """Logits (n, classes) of n points; a tensor of another shape is returned unchanged, and the caller must refuse it.

    Args:
        output: of the network: a tensor (n, classes), (n, classes, 1, 1), (n,) for one logit, or (classes,)
            for a single point; or an object, a dictionary, a tuple or a list with such a tensor.
        points: n.

    Raises:
        ModelError: the output has no logits.
    """
    logits = _tensor(output)
    if logits.ndim > 2 and logits.shape[2:].numel() == 1:
        return logits.flatten(1)
    if logits.ndim == 1 and len(logits) == points:
        return logits.unsqueeze(1)
    if logits.ndim == 1 and points == 1:
        return logits.unsqueeze(0)
    return logits


def two_classes(logits: Tensor) -> Tensor:
    """A single logit z (n, 1) as the logits (n, 2) of a softmax that equals its sigmoid; others stay as they are.

        l = (-z / 2, z / 2),   softmax(l)_1 = 1 / (1 + exp(-z)) = sigmoid(z)

    Symmetric, so that the logit of class 0 has a gradient too.
    """
    if logits.ndim != 2 or logits.shape[1] != 1:
        return logits
    half = logits / 2
    return torch.cat([-half, half], dim=1)


def _tensor(output: object) -> Tensor:
    if isinstance(output, Tensor):
        return output
    if isinstance(output, Mapping):
        if isinstance(output.get(LOGITS), Tensor):
            logits: Tensor = output[LOGITS]
            return logits
        what = f"a {type(output).__name__} of {', '.join(map(str, output)) or 'nothing'}"
        raise ModelError(f'the network returned {what}; let it return its logits, or {{"{LOGITS}": its logits}}')
    attribute = getattr(output, LOGITS, None)
    if isinstance(attribute, Tensor):
        return attribute
    if isinstance(output, (tuple, list)) and output and isinstance(output[0], Tensor):
        return output[0]
    raise ModelError(
        f"the network returned {_named(output)}; let it return its logits (n, classes), or an object with .{LOGITS}"
    )


def _named(output: object) -> str:
    if isinstance(output, (tuple, list)):
        return f"a {type(output).__name__} of {', '.join(type(item).__name__ for item in output) or 'nothing'}"
    return f"a {type(output).__name__}"
