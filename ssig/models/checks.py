"""Checks of a loaded network: each image of a batch is treated by itself, and the outputs are logits."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ssig.errors import ModelError
from ssig.models.independence import independent
from ssig.models.model import Model

# How far the probabilities of a softmax in float32 may be from a sum of 1.
SUMS_TO_ONE = 1e-3
_SEED = 0


@dataclass(frozen=True)
class Examination:
    """The results of checks of a network that can be explained.

    Attributes:
        warnings: a sentence each.
        one_at_a_time: batches of more than one image fail.
    """

    warnings: tuple[str, ...]
    one_at_a_time: bool


def examine(model: Model) -> Examination:
    """Evaluates a model on a few points; the model is not changed.

    Args:
        model: in ``fp32``.

    Raises:
        ModelError: it is random, mixes the images of a batch, or cannot be evaluated.
    """
    try:
        noise = torch.rand(1, len(model.mean), *model.input_size, generator=torch.Generator().manual_seed(_SEED))
        independence = independent(model, noise.to(model.mean))
    except ModelError as error:
        raise ModelError(f"{model.name}: {error}") from error
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # a network may raise anything
        raise ModelError(f"{model.name}: cannot be evaluated: {type(error).__name__}: {error}") from error
    return Examination(output_warnings(independence.logits), independence.one_at_a_time)


def output_warnings(logits: Tensor) -> tuple[str, ...]:
    """Warnings about logits (p, classes) of a few dissimilar points."""
    finite = torch.isfinite(logits)
    if not bool(finite.all()):
        share = f"{int((~finite).sum())} of {logits.numel()}"
        return (f"{share} logits of ordinary images are not finite",)
    if logits.shape[1] == 2 and bool((logits.sum(dim=1) == 0).all()):
        single = logits[:, 1] - logits[:, 0]
        in_unit_range = bool(((single >= 0) & (single <= 1)).all())
        note = "one logit: treated as a sigmoid, class 1 where it is above 0, else class 0"
        return (
            (note, "the output lies in [0, 1]: a logit is expected, as before a sigmoid") if in_unit_range else (note,)
        )
    if bool((logits >= 0).all()):
        if bool(((logits.sum(dim=1) - 1).abs() < SUMS_TO_ONE).all()):
            return ("outputs are non-negative and sum to 1: logits are expected, as before a softmax",)
        if bool((logits <= 1).all()) and bool(logits.any()):
            return ("all outputs lie in [0, 1]: logits are expected, as before a sigmoid",)
    return ()
