"""`Model`: a frozen network that takes pixel space, with all that its weights say about their input.

    logits = network((batch - mean) / std),   batch in [0, 1], (B, C, H, W)

Normalisation is part of the network, so baselines, samples and maps live in pixel space.
"""

from __future__ import annotations

import hashlib

import torch
from PIL import Image
from torch import Tensor, nn

from ssig.errors import UsageError
from ssig.models.geometry import Geometry

# Counts the changes of what a network gives under unchanged options: its arithmetic and how it is made ready
# (`ssig.optimise`, `ssig.replica`). Part of every fingerprint.
PREPARATION_REVISION = 1

# The type of the autocast that each runs under; the arithmetic of float32 is that of `ssig.arithmetic`.
PRECISIONS: dict[str, torch.dtype | None] = {
    "fp32": None,
    "tf32": None,
    "fp16": torch.float16,
    "bf16": torch.bfloat16,
}


class Model(nn.Module):
    """A network for attribution: in evaluation mode, parameters frozen.

    Args:
        network: takes normalised batches, gives logits (B, classes).
        name: as `load_model` takes it.
        mean, std: (C,) normalisation in pixel space; become buffers.
        geometry: resize and crop.
        categories: name of each class.
        precision: ``fp32`` or ``tf32``, or ``fp16`` or ``bf16`` to run under autocast.
        weights_hash: where it is already known.

    Attributes:
        weights_hash: SHA-256 over names, types, shapes and bytes of the state dict, normalisation included, as loaded;
            the same on every device and in every memory layout.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        network: nn.Module,
        *,
        name: str,
        mean: Tensor,
        std: Tensor,
        geometry: Geometry,
        categories: tuple[str, ...],
        precision: str = "fp32",
        weights_hash: str | None = None,
    ) -> None:
        super().__init__()
        check_precision(precision)
        self.network = network
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)
        self.name = name
        self.geometry = geometry
        self.categories = categories
        self.precision = precision
        self.eval().requires_grad_(False)
        self.weights_hash = weights_hash or hash_state(self)

    @property
    def input_size(self) -> tuple[int, int]:
        """(H, W) of the input."""
        return self.geometry.crop

    @property
    def device(self) -> torch.device:
        return self.mean.device

    def forward(self, batch: Tensor) -> Tensor:
        """Logits (B, classes) of a pixel-space batch (B, C, H, W); float32, or float64 if model and batch are."""
        mean, std = (values.to(batch.dtype).view(-1, 1, 1) for values in (self.mean, self.std))
        normalised = (batch - mean) / std
        dtype = PRECISIONS[self.precision]
        if dtype is None:
            logits: Tensor = self.network(normalised)
            return logits
        with torch.autocast(batch.device.type, dtype=dtype):
            logits = self.network(normalised)
        return logits.float()

    def preprocess(self, image: Image.Image) -> Tensor:
        """The input (C, H, W), float32 in [0, 1], of an image."""
        return self.geometry.apply(image)


def check_precision(precision: str) -> None:
    """Raises a `UsageError` for an unknown precision."""
    if precision not in PRECISIONS:
        raise UsageError("model.precision", precision, PRECISIONS)


def hash_state(module: nn.Module) -> str:
    """SHA-256 in hex over a module's state dict: names, types, shapes and bytes."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
