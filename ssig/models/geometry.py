"""Resize and crop: from a stored image, its boxes and its mask to a network's input.

    original (width, height)  --resize-->  (w', h')  --centre crop-->  input (W, H)
    crop = (x0, y0, x1, y1), the rectangle of the original, in its pixels, that fills the input
    x_input = (x_original - x0) W / (x1 - x0), and y alike

A `Geometry` needs no weights: its JSON form is enough to compute every crop of a run.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.functional import center_crop, pil_modes_mapping, pil_to_tensor, resize

from ssig.errors import ModelError
from ssig.options import as_dict

Box = tuple[float, float, float, float]

CENTER, SQUASH = "center", "squash"

# A resized image beyond this many pixels would fill gigabytes only to be cropped: a 1 x 5000 image has 328 million.
LARGEST_RESIZED = 2**26


@dataclass(frozen=True)
class Geometry:
    """How an image becomes an input, from the metadata of the weights.

    Attributes:
        resize: (height, width) after resizing: exactly in mode ``squash``; in mode ``center`` the image keeps its
            aspect ratio and covers that rectangle.
        crop: (H, W) of the input, cut from the centre; smaller images are padded with black.
        interpolation: value of a torchvision `InterpolationMode`.
        antialias: from the metadata; Pillow's bilinear and bicubic resizing always uses antialiasing.
        mode: ``center`` or ``squash``.

    Raises:
        ModelError: an unknown mode or interpolation.
    """

    resize: tuple[int, int]
    crop: tuple[int, int]
    interpolation: str = "bilinear"
    antialias: bool = True
    mode: str = CENTER

    def __post_init__(self) -> None:
        if self.mode not in (CENTER, SQUASH):
            raise ModelError(f"preprocessing with crop mode {self.mode!r}; known are {CENTER} and {SQUASH}")
        modes = [mode.value for mode in InterpolationMode]
        if self.interpolation not in modes:
            raise ModelError(f"preprocessing with interpolation {self.interpolation!r}; known are {', '.join(modes)}")

    def as_dict(self) -> dict[str, Any]:
        """The JSON form."""
        return as_dict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Geometry:
        """The geometry whose `as_dict` gave `values`."""
        tall, wide = values["resize"]
        height, width = values["crop"]
        return cls(**{**values, "resize": (tall, wide), "crop": (height, width)})

    def resized(self, width: int, height: int) -> tuple[int, int]:
        """(width, height) of an image of this width and height after resizing, before the crop."""
        tall, wide = self.resize
        if self.mode == SQUASH:
            return wide, tall
        if tall == wide:  # torchvision's rule for the shorter edge: the longer one is rounded down
            longer = int(tall * max(width, height) / min(width, height))
            return (tall, longer) if width <= height else (longer, tall)
        ratio = min(height / tall, width / wide)
        return round(width / ratio), round(height / ratio)

    def crop_box(self, width: int, height: int) -> Box:
        """(x0, y0, x1, y1), the rectangle in original pixels that fills the input.

        Exceeds the image only if the resized image is smaller than the input.
        """
        resized_width, resized_height = self.resized(width, height)
        crop_height, crop_width = self.crop
        x, y = _start(resized_width, crop_width), _start(resized_height, crop_height)
        across, down = width / resized_width, height / resized_height
        return x * across, y * down, (x + crop_width) * across, (y + crop_height) * down

    def apply(self, image: Image.Image) -> Tensor:
        """The input (3, H, W), float32 in [0, 1], of an image of any mode and size.

        Equals torchvision's transforms of the image as RGB, bit for bit, except for very elongated images: to save
        memory, only their crop is resized, which may differ at its border.
        """
        return as_input(self.fit(image))

    def fit(self, image: Image.Image) -> Image.Image:
        """An image of any mode and size, resized and cropped, as RGB; most of it without Python's lock."""
        image = image.convert("RGB")
        width, height = self.resized(*image.size)
        interpolation = InterpolationMode(self.interpolation)
        if width * height > LARGEST_RESIZED:
            x0, y0, x1, y1 = self.crop_box(*image.size)
            inside = (max(x0, 0.0), max(y0, 0.0), min(x1, image.width), min(y1, image.height))
            image = image.resize(self.crop[::-1], pil_modes_mapping[interpolation], box=inside)
        else:
            image = center_crop(resize(image, [height, width], interpolation), list(self.crop))
        return image


def as_input(image: Image.Image) -> Tensor:
    """The input (3, H, W), float32 in [0, 1], of an image of its size, as RGB."""
    pixels: Tensor = pil_to_tensor(image)
    return pixels.to(torch.float32) / 255


def to_input(box: Box, crop: Box, input_size: tuple[int, int]) -> Box | None:
    """A box of the original image, in pixels of the input; None if it lies outside.

    Args:
        box: (x0, y0, x1, y1) in original pixels.
        crop: `Geometry.crop_box` of the image.
        input_size: (H, W) of the input.
    """
    height, width = input_size
    x0, x1 = (_mapped(x, crop[0], crop[2], width) for x in (box[0], box[2]))
    y0, y1 = (_mapped(y, crop[1], crop[3], height) for y in (box[1], box[3]))
    return (x0, y0, x1, y1) if x0 < x1 and y0 < y1 else None


def area_of(boxes: Iterable[Box], input_size: tuple[int, int]) -> np.ndarray:
    """(H, W) bool, the pixels of the input inside any of the boxes, whose edges are in its pixels and rounded."""
    area = np.zeros(input_size, dtype=bool)
    for box in boxes:
        x0, y0, x1, y1 = (round(edge) for edge in box)
        area[y0:y1, x0:x1] = True
    return area


def mask_to_input(mask: np.ndarray, crop: Box, input_size: tuple[int, int]) -> np.ndarray:
    """A (height, width) bool mask of the original image as an (H, W) bool mask of the input, by nearest neighbour.

    Args:
        mask: (height, width) bool.
        crop: `Geometry.crop_box` of the image.
        input_size: (H, W) of the input.
    """
    rows, row_inside = _nearest(crop[1], crop[3], input_size[0], mask.shape[0])
    columns, column_inside = _nearest(crop[0], crop[2], input_size[1], mask.shape[1])
    result: np.ndarray = mask[np.ix_(rows, columns)] & np.logical_and.outer(row_inside, column_inside)
    return result


def _start(size: int, crop: int) -> int:
    """First resized pixel of a centred crop, in torchvision's rounding; negative if the image must be padded."""
    return round((size - crop) / 2) if size >= crop else -((crop - size) // 2)


def _mapped(position: float, start: float, stop: float, size: int) -> float:
    return min(max((position - start) * size / (stop - start), 0.0), float(size))


def _nearest(start: float, stop: float, size: int, limit: int) -> tuple[np.ndarray, np.ndarray]:
    """Original index under the centre of each input pixel, and whether there is one."""
    index = np.floor(start + (np.arange(size) + 0.5) * (stop - start) / size).astype(np.int64)
    return index.clip(0, limit - 1), (index >= 0) & (index < limit)
