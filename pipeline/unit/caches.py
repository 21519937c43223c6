"""Caches of a worker: micro-batches that were tuned before, and the scores of baselines of one colour."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

import torch
from torch import Tensor

from pipeline.storage.jsontext import to_json
from ssig.acceleration.tuning import TuningCache
from ssig.engine.device import Device
from ssig.estimators.baselines import baselines
from ssig.models import Model
from ssig.models.scores import score as target_score

# Baselines that are one colour, whatever the image.
COLOURS = ("mean", "black", "white")

SIZES_FILE = "micro-batches.json"


def stored_sizes(folder: Path) -> TuningCache:
    """Micro-batches that were tuned on this machine before; none if the file is missing or not of this version."""
    try:
        return TuningCache.load(json.loads((folder / SIZES_FILE).read_text()))
    except (OSError, ValueError, KeyError, TypeError):
        return TuningCache()


def remember_sizes(folder: Path, sizes: TuningCache) -> None:
    """Stores micro-batches for the actors that start later; a folder that cannot be written is no error."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=folder, delete=False) as file:
            file.write(to_json(sizes.dump(), indent=1))
        os.replace(file.name, folder / SIZES_FILE)
    except OSError:
        pass


def cache_folder() -> Path:
    """The folder of the user's caches; a temporary folder for a user without a home."""
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ssig"
    except RuntimeError:  # no HOME, and no entry for the user: a container with a user id of its own
        return Path(tempfile.gettempdir(), f"ssig-{os.geteuid()}", "cache")


class BaselineScores:
    """Target scores of baselines that are one colour: the network sees each of them once, for all images and methods.

    Args:
        device: the network.
        model: gives the mean colour.
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
