"""Images and targets in the forms that a caller gives them: tensors, Pillow images, class numbers and names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from ssig.engine.accelerators import usable
from ssig.engine.replica import Replica
from ssig.errors import UsageError
from ssig.models.class_names import class_number
from ssig.models.model import Model
from ssig.models.scores import check_targets

Images = Tensor | Image.Image | Sequence[Image.Image]
Targets = Tensor | Sequence[int | str] | int | str
PREDICTED = "predicted"

_TENSOR = "a floating-point tensor (B, C, H, W) with B at least 1"


def network_of(model: Callable[[Tensor], Tensor] | Replica) -> Callable[[Tensor], Tensor]:
    """The network of a replica, or the network itself."""
    return model.model if isinstance(model, Replica) else model


def batch_of(images: object, network: object) -> Tensor:
    """Images (B, C, H, W): the tensor that is given, or Pillow images in the geometry of a network of `load_model`.

    Raises:
        UsageError: images of another kind or shape, or Pillow images for a network that states no geometry.
    """
    if isinstance(images, Tensor):
        if images.ndim != 4 or not images.is_floating_point() or len(images) == 0:
            raise UsageError("images", f"{tuple(images.shape)} {images.dtype}", _TENSOR)
        return images.detach()
    pictures = pictures_of(images)
    if not pictures:
        allowed = f"{_TENSOR}, a Pillow image, or a list of these"
        raise UsageError("images", type(images).__name__, allowed)
    if not isinstance(network, Model):
        allowed = f"{_TENSOR}: only a network of ssig.load_model says how a Pillow image is resized"
        raise UsageError("images", "a Pillow image", allowed)
    return torch.stack([network.preprocess(_eight_bits(picture)) for picture in pictures]).to(network.mean.dtype)


def place_of(network: object, images: Tensor, device: torch.device | str | None = None) -> torch.device:
    """Where a network computes: on `device`, or else where its parameters or buffers are, or else the images.

    Raises:
        UsageError: `device` is no device of this machine, or the parameters and buffers are all on another one.
    """
    tensors = list(chain(network.parameters(), network.buffers())) if isinstance(network, nn.Module) else []
    if device is None:
        return tensors[0].device if tensors else images.device
    place = usable(device)
    if tensors and place not in {tensor.device for tensor in tensors}:
        allowed = f"{tensors[0].device}, where the network is; move it first: model.to({str(device)!r})"
        raise UsageError("device", str(device), allowed)
    return place


def pictures_of(images: object) -> list[Image.Image]:
    """The Pillow images that are given, one or several; none where they are something else."""
    if isinstance(images, Image.Image):
        return [images]
    if isinstance(images, (list, tuple)) and all(isinstance(image, Image.Image) for image in images):
        return list(images)
    return []


def targets_of(targets: object, count: int, network: object) -> list[int | None]:
    """The class of each image; None for the one that the network predicts.

    Args:
        targets: a class for all, or one for each: numbers, names where the network knows those of its classes, or
            ``predicted``.
        count: of images.
        network: `categories` are its classes' names.

    Raises:
        UsageError: another number of classes, a negative one, or a name that no class has.
    """
    given = _listed(targets)
    classes = [_target(target, network) for target in given]
    if len(classes) == 1:
        classes *= count
    if len(classes) != count or any(target is not None and target < 0 for target in classes):
        raise UsageError("targets", given, f"one class for each of the {count} images, 0 or more")
    return classes


def settled(targets: Sequence[int | None], images: Tensor, forward: Callable[[Tensor], Tensor]) -> Tensor:
    """(B,) int64 on the CPU, with the predicted class where none was given.

    Raises:
        ModelError: a class is predicted for some image, and the one that is given for another is none of the network.
    """
    if None not in targets:
        return torch.tensor(targets, dtype=torch.int64)
    logits = forward(images)
    predicted = logits.argmax(dim=1).tolist()
    classes = torch.tensor(
        [class_ if target is None else target for target, class_ in zip(targets, predicted, strict=True)],
        dtype=torch.int64,
    )
    check_targets(classes, logits.shape[1])
    return classes


def names_of(targets: Tensor, network: object) -> tuple[str, ...]:
    """What the network calls its classes, or ``class 7``."""
    categories = getattr(network, "categories", ())
    return tuple(categories[target] if target < len(categories) else f"class {target}" for target in targets.tolist())


def _listed(targets: object) -> list[Any]:
    if isinstance(targets, str):
        return [targets]
    if isinstance(targets, (list, tuple)):
        return list(targets)
    try:
        indices = torch.as_tensor(targets).reshape(-1)
    except (TypeError, ValueError, RuntimeError):
        raise UsageError("targets", targets, f"class numbers, class names, or {PREDICTED}") from None
    return indices.to("cpu", torch.int64).tolist()


def _target(target: object, network: object) -> int | None:
    if target == PREDICTED:
        return None
    if isinstance(target, str):
        categories = getattr(network, "categories", None)
        if not categories:
            allowed = f"class numbers or {PREDICTED}: this network does not name its classes (its `categories`)"
            raise UsageError("targets", target, allowed, known=(PREDICTED,))
        return class_number(target, categories)
    try:
        return int(target)  # type: ignore[call-overload, no-any-return]
    except (TypeError, ValueError):
        raise UsageError("targets", target, f"class numbers, class names, or {PREDICTED}") from None


def _eight_bits(picture: Image.Image) -> Image.Image:
    if picture.mode == "F" or picture.mode.startswith("I"):
        raise UsageError("images", f"a Pillow image of mode {picture.mode}", "8 bits per channel, such as mode RGB")
    return picture
