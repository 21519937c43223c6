"""Images of samples, decoded: which member is one, what is read, and pixels as they are stored.

JPEG, PNG, WebP, BMP, TIFF and GIF are recognised by their content, not by their name; of several frames or pages the
first is read. Pixels are those of the file: not rotated (boxes are in stored pixels), transparency dropped, colours
not managed. Damage beside the pixels (in texts, profiles, their checksums) does not matter.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")
FORMAT_NAMES = "JPEG, PNG, WebP, BMP, TIFF and GIF"
# The image of a sample is its member with the first of these extensions.
IMAGE_EXTENSIONS = ("jpg", "jpeg", "png", "webp", "bmp", "tif", "tiff", "gif")
MASK = "mask.png"
MAX_PIXELS = 178_000_000  # where Pillow, too, refuses an image as a decompression bomb; 0.5 GB of RGB

_PNG = b"\x89PNG\r\n\x1a\n"
_ORIENTATION = 274  # tags of TIFF
_BITS, _PHOTOMETRIC = 258, 262
_PACKED = frozenset({"tar", "zip", "gz", "tgz", "zst", "xz", "bz2", "7z"})
_SHOWN = 4  # extensions of a message


def no_image_member(extensions: Sequence[str]) -> str:
    """Why a sample with these extensions has no image, and what to do."""
    text = f"no image member ({', '.join(IMAGE_EXTENSIONS)}); it has {listed(extensions)}"
    if any(
        "." in extension and extension != MASK and extension.rpartition(".")[2] in IMAGE_EXTENSIONS
        for extension in extensions
    ):
        return f"{text}: a key ends at the first dot of a file name"
    if any(extension.rpartition(".")[2] in _PACKED for extension in extensions):
        return f"{text}: packed files within a shard are not read; unpack them, and pack their folder (ssig pack)"
    return text


def listed(extensions: Sequence[str]) -> str:
    """The first few extensions, in order."""
    shown = ", ".join(extension[:40] for extension in extensions[:_SHOWN])
    return f"{shown}, …" if len(extensions) > _SHOWN else shown or "nothing"


def rgb(data: bytes) -> Image.Image:
    """The image in RGB of 8 bits; 16-bit grey by its high byte.

    Raises:
        Exception: whatever Pillow raises for bytes that it cannot decode.
        ValueError: pixels of floating point or of 32 bits, whose range is not known, or too many of them.
    """
    image = _open(data)
    if image.mode in ("F", "I"):
        raise ValueError(f"pixels of mode {image.mode}: floating point or 32 bits; 8 and 16 bits per channel are read")
    if image.mode.startswith("I;16"):
        image = _grey(image)
    image.info.pop("transparency", None)  # Pillow would try to map the transparent colour, and warn where it cannot
    return image.convert("RGB")


def segmentation(data: bytes) -> NDArray[np.bool_]:
    """(height, width) bool: where a mask is not black, or not of palette colour 0; transparency does not count."""
    image = _open(data)
    opaque = len(image.getbands()) - ("A" in image.getbands())
    bands = np.asarray(image).reshape(image.height, image.width, -1)[..., :opaque]
    return np.asarray(bands.any(axis=-1))


def _open(data: bytes) -> Image.Image:
    """A whole image. Truncated data is an error in Pillow, unless a program asks it to make up the rest."""
    image: Image.Image = Image.open(io.BytesIO(_pixels_of_png(data)), formats=FORMATS)
    if image.width * image.height > MAX_PIXELS:
        raise ValueError(f"{image.width} x {image.height} pixels; at most {MAX_PIXELS} are read")
    if image.format == "TIFF":  # the one format that Pillow rotates unasked
        tags: Any = image.tag_v2  # type: ignore[attr-defined]
        tags.pop(_ORIENTATION, None)
        image.getexif().pop(_ORIENTATION, None)
    image.load()
    return image


def _grey(image: Image.Image) -> Image.Image:
    """8-bit grey of 16-bit grey, or of the 12 bits that TIFF has too, where 0 may be white."""
    values = np.asarray(image)
    tags: Any = getattr(image, "tag_v2", {})
    grey = (values >> (tags.get(_BITS, (16,))[0] - 8)).astype(np.uint8)
    return Image.fromarray(255 - grey if tags.get(_PHOTOMETRIC) == 0 else grey)


def _pixels_of_png(data: bytes) -> bytes:
    """A PNG file of its critical chunks alone, on which alone the pixels depend; other data as they are.

    Pillow refuses a whole file for a long text or a wrong checksum in a comment. Source: PNG (third edition), 5.4.
    """
    if not data.startswith(_PNG):
        return data
    view, parts, start = memoryview(data), [memoryview(_PNG)], len(_PNG)
    while start + 8 <= len(data):
        end = start + 12 + int.from_bytes(view[start : start + 4], "big")
        if not data[start + 4] & 0x20:
            parts.append(view[start:end])
        start = end
    return b"".join(parts)
