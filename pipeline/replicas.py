"""The replica of a worker: optimised, tuned, and what is known of it once for all units."""

from __future__ import annotations

import torch
from torch import Tensor

from ssig.baselines import baselines
from ssig.device import Device
from ssig.models import Model
from ssig.scores import score as target_score

# Baselines that are one colour, whatever the image.
COLOURS = ("mean", "black", "white")


class BaselineScores:
    """Target scores of baselines that are one colour: the network sees each of them once, for all images and methods.

    Args:
        device: the network.
        model: for the colour that is its mean.
    """

    def __init__(self, device: Device, model: Model) -> None:
        self._device = device
        self._model = model
        self._logits: dict[str | tuple[float, ...], Tensor] = {}

    def __call__(self, baseline: str | tuple[float, ...], score: str, targets: Tensor) -> Tensor | None:
        """(n,), the score of each target; None for a baseline that depends on the image."""
        if isinstance(baseline, str) and baseline not in COLOURS:
            return None
        if baseline not in self._logits:
            pixels = torch.zeros(1, len(self._model.mean), *self._model.input_size)
            colour = baselines(baseline, pixels, self._model.mean.cpu(), ())
            self._logits[baseline] = self._device.forward(colour).cpu()
        return target_score(self._logits[baseline].expand(len(targets), -1), targets, score)
