"""Caches of a worker: micro-batches that were tuned before, and the scores of baselines of one colour."""

from __future__ import annotations

import fcntl
import json
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import torch
from torch import Tensor

from pipeline.storage.jsontext import to_json
from ssig.acceleration.tuning import Setting, TuningCache, TuningKey
from ssig.engine.device import Device
from ssig.estimators.baselines import baselines
from ssig.models import Model
from ssig.models.scores import score as target_score

# Baselines that are one colour, whatever the image.
COLOURS = ("mean", "black", "white")

SIZES_FILE = "micro-batches.json"
# Tuning takes ten seconds or, for slow networks, a few minutes.
PATIENCE_SECONDS = 300.0
LOOK_SECONDS = 0.1


class StoredSizes(TuningCache):
    """Micro-batches that were tuned on this machine before, in a file that its processes share.

    A folder that cannot be read or written is no error: every process then tunes for itself.

    Args:
        folder: of the file; made when a setting is stored.
        patience: seconds to wait for another process that measures on the same device.
    """

    def __init__(self, folder: Path, patience: float = PATIENCE_SECONDS) -> None:
        super().__init__()
        self._folder, self._patience = folder, patience
        self._read()

    def put(self, key: TuningKey, setting: Setting) -> None:
        """Adds a setting, in memory and in the file."""
        with locked(self._folder / f"{SIZES_FILE}.lock", self._patience):
            self._read()
            super().put(key, setting)
            self._write()

    @contextmanager
    def alone(self, device: str | None) -> Iterator[None]:
        """Waits for the process that measures on a device, and reads what it has stored."""
        if device is None:
            yield
            return
        with locked(self._folder / f"{device}.lock", self._patience):
            self._read()
            yield

    def _read(self) -> None:
        """Adds the settings of the file; none if it is missing or not of this version."""
        with suppress(OSError, ValueError, KeyError, TypeError):
            self.add(TuningCache.load(json.loads((self._folder / SIZES_FILE).read_text())))

    def _write(self) -> None:
        with suppress(OSError):
            self._folder.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile("w", dir=self._folder, delete=False) as file:
                file.write(to_json(self.dump(), indent=1))
            os.replace(file.name, self._folder / SIZES_FILE)


@contextmanager
def locked(path: Path, patience: float) -> Iterator[None]:
    """Holds a lock file for the body; goes on without it after so many seconds, or where files cannot be locked.

    The system gives the lock back when a process ends, however it ends.
    """
    with ExitStack() as stack:
        with suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            file = stack.enter_context(path.open("w"))
            deadline = time.monotonic() + patience
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        break
                    time.sleep(LOOK_SECONDS)
        yield


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
