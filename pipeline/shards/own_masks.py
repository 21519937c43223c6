"""Masks of images from a folder: ``cat/1.png`` or ``cat/1_mask.png`` is the mask of the image ``cat/1.jpg``.

A mask is a PNG of its image's size, in which the object's pixels are not black.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pipeline.shards.items import Names, files_below, size_of
from pipeline.shards.names import MASKS
from ssig.errors import UsageError

_ENDING = "_mask"


@dataclass(frozen=True)
class Masks:
    """Masks by image; `note` says how the folder was understood."""

    of: dict[Path, Path]
    note: str


def read_masks(folder: Path, names: Names) -> Masks:
    """Finds the masks of the images of a folder; an image may have none.

    Raises:
        UsageError: field ``dataset.masks``: no masks, a mask without an image, two for one, or one of another size.
    """
    if not folder.is_dir():
        raise UsageError(MASKS, str(folder), "a folder of PNG files")
    mask_of: dict[Path, Path] = {}
    for mask in files_below(folder, MASKS, ("png",)):
        image = _image(mask, folder, names)
        if mask_of.setdefault(image, mask) != mask:
            raise UsageError(MASKS, [str(mask_of[image]), str(mask)], "one mask for each image")
        sizes = size_of(image, MASKS), size_of(mask, MASKS)
        if sizes[0] != sizes[1]:
            (width, height), (mask_width, mask_height) = sizes
            shown = f"{mask}: {mask_width} x {mask_height} pixels; its image has {width} x {height}"
            raise UsageError(MASKS, shown, "masks of the size of their images")
    if not mask_of:
        raise UsageError(MASKS, f"{folder}: no files", "a folder with a PNG for each image that has a mask")
    return Masks(mask_of, f"{folder.name}: masks for {len(mask_of)} of {len(names.images)} images")


def _image(mask: Path, folder: Path, names: Names) -> Path:
    name = mask.relative_to(folder).with_suffix("").as_posix()
    images = names.find(name) or names.find(name.removesuffix(_ENDING))
    if len(images) == 1:
        return images[0]
    if images:
        shown = " and ".join(names.shown(image) for image in images[:2])
        raise UsageError(MASKS, f"{mask}: a mask of {shown}", "the folders of the images among the masks, too")
    example = Path(names.shown(names.images[0])).with_suffix(".png").as_posix()
    raise UsageError(
        MASKS, f"{mask}: no image of this name", f"names of images with the ending .png, such as {example}"
    )
