"""What a sample's json member says of its object: boxes in pixels and the WordNet id.

Shards carry json members of every kind (captions, lists of tags, sizes of downloads), so one without boxes is no
fault. Wrong boxes exclude the metrics that need them, never the map. Reasons name no values, so that equal ones can be
counted over all samples.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Annotation:
    """Boxes (x0, y0, x1, y1) in pixels of the image, None where there are none; `fault`: why they cannot be used."""

    wnid: str | None = None
    boxes: tuple[Box, ...] | None = None
    fault: str | None = None


class _FaultError(Exception):
    pass


def annotation(data: bytes, size: tuple[int, int]) -> Annotation:
    """The content of a json member.

    Args:
        data: its bytes.
        size: the image's (width, height) in pixels.
    """
    try:
        record = json.loads(data)
    except (ValueError, RecursionError):
        return Annotation(fault="the json member is not JSON" if data.strip() else "the json member is empty")
    if not isinstance(record, dict):
        return Annotation(fault="the json member is no object with boxes")
    wnid, boxes = record.get("wnid"), record.get("boxes")
    wnid = wnid if isinstance(wnid, str) else None
    if boxes is None:
        return Annotation(wnid)
    try:
        if not isinstance(boxes, list):
            raise _FaultError("boxes are not a list of [x0, y0, x1, y1]")
        return Annotation(wnid, tuple(_box(box, size) for box in boxes) or None)
    except _FaultError as fault:
        return Annotation(wnid, fault=str(fault))


def _box(box: object, size: tuple[int, int]) -> Box:
    """A box that has an area and touches the image."""
    if not (isinstance(box, list) and len(box) == 4 and all(map(_is_finite, box))):
        raise _FaultError("a box is not four finite numbers")
    x0, y0, x1, y1 = map(float, box)
    width, height = size
    if x0 >= x1 or y0 >= y1:
        raise _FaultError("a box is inverted or empty; boxes are [x0, y0, x1, y1]")
    if x1 <= 0 or y1 <= 0 or x0 >= width or y0 >= height:
        raise _FaultError("a box is wholly outside the image; boxes are [x0, y0, x1, y1] in its pixels")
    within_one = min(x0, y0) >= 0 and max(x1, y1) <= 1 < max(size)
    if within_one or x1 - x0 < 1 or y1 - y0 < 1:
        raise _FaultError("a box is smaller than a pixel; are the boxes fractions?")
    return x0, y0, x1, y1


def _is_finite(value: object) -> bool:
    # Compared, not converted: an integer may be too large for a float, and NaN is below nothing.
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max
