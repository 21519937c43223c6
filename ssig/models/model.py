"""`Model`: a frozen network that takes pixel space, with the preprocessing of its weights.

    logits = network((batch - mean) / std),   batch in [0, 1], (B, C, H, W)

Normalisation is part of the network, so baselines, samples and maps live in pixel space.
"""

from __future__ import annotations

import torch
from PIL import Image
from torch import Tensor, nn

from ssig.errors import UsageError
from ssig.models.geometry import CENTER, Geometry
from ssig.models.hashing import hash_state
from ssig.models.outputs import logits_of, two_classes
from ssig.registry.sources import Source

# Counts changes of a network's outputs under unchanged options: changes of its arithmetic or of its preparation
# (`ssig.acceleration.optimise`, `ssig.engine.replica`). Part of every fingerprint.
PREPARATION_REVISION = 1

# Precision -> type of the autocast; `ssig.engine.arithmetic` sets the arithmetic of float32.
PRECISIONS: dict[str, torch.dtype | None] = {
    "fp32": None,
    "tf32": None,
    "fp16": torch.float16,
    "bf16": torch.bfloat16,
}


class Model(nn.Module):
    """A network for attribution: in evaluation mode, parameters frozen.

    Args:
        network: takes normalised batches, gives logits (B, classes) in any form that `logits_of` knows; a single logit
            becomes the logits of two classes (`two_classes`).
        name: as `load_model` takes it.
        mean, std: (C,) normalisation in pixel space; become buffers.
        geometry: resize and crop.
        categories: name of each class.
        precision: ``fp32`` or ``tf32``, or ``fp16`` or ``bf16`` to run under autocast.
        weights_hash: if already known.
        input_source: the source of mean, std and geometry, in a few words.
        warnings: about the network, a sentence each.
        one_at_a_time: whether it fails for batches of more than one image.
        source: the file or installed plug-in with its code, if any.

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
        input_source: str = "the caller",
        warnings: tuple[str, ...] = (),
        one_at_a_time: bool = False,
        source: Source | None = None,
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
        self.input_source = input_source
        self.warnings = warnings
        self.one_at_a_time = one_at_a_time
        self.source = source
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
            output = self.network(normalised)
        else:
            with torch.autocast(batch.device.type, dtype=dtype):
                output = self.network(normalised)
        logits = two_classes(logits_of(output, len(batch)))
        return logits if logits.dtype == torch.float64 else logits.float()

    def preprocess(self, image: Image.Image) -> Tensor:
        """The input (C, H, W), float32 in [0, 1], of an image."""
        return self.geometry.apply(image)

    def describe_input(self) -> str:
        """The preprocessing of an image and its source, in one line."""
        geometry = self.geometry
        height, width = geometry.crop
        tall, wide = geometry.resize
        keeps_ratio = geometry.mode == CENTER
        resized = str(tall) if keeps_ratio and tall == wide else f"{tall} x {wide}"
        cut = ", centre crop" if keeps_ratio or geometry.resize != geometry.crop else ""
        mean, std = (", ".join(f"{value:.4g}" for value in values.tolist()) for values in (self.mean, self.std))
        return (
            f"network input: {height} x {width}, resize {resized} {geometry.interpolation}{cut}; "
            f"mean {mean}, std {std}; source: {self.input_source}"
        )


def check_precision(precision: str) -> None:
    """Raises a `UsageError` for an unknown precision."""
    if precision not in PRECISIONS:
        raise UsageError("model.precision", precision, PRECISIONS)
