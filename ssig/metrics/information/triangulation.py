"""An image of which some pixels are known, with the others interpolated between them.

    y(p) = b_1 x(v_1) + b_2 x(v_2) + b_3 x(v_3)

v the corners of the Delaunay triangle around the hidden pixel p, b the barycentric coordinates of p in it. The corners
of the image always count as known. This is the "blurred image" of PAIR's performance information curves, and equals
its three calls of SciPy's `griddata`; but one triangulation serves all channels, and triangles are laid on pixels
instead of pixels searched among triangles. Where SciPy's search meets a triangle without area it tries every triangle
for that pixel, which can take half a minute for a mask; here such triangles are passed over, and the work is that of
the triangles' rows and of the pixels. A pixel in no triangle takes the mean colour, and so do all hidden pixels where
there is no triangulation, as in an image of one row.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy.spatial import Delaunay, QhullError

# Rows of triangles that are looked at together.
_ROWS = 1 << 18


def interpolate(image: np.ndarray, known: np.ndarray) -> np.ndarray:
    """The image with its hidden pixels interpolated.

    Args:
        image: (H, W, C) uint8.
        known: (H, W) bool.

    Returns:
        (H, W, C) uint8, rounded half to even.
    """
    hidden = ~known
    hidden[[0, 0, -1, -1], [0, -1, 0, -1]] = False
    if not hidden.any():
        return image.copy()
    colours = np.broadcast_to(image.mean(axis=(0, 1)), image.shape).copy()
    for corners, at, weights in _covered(_triangles(np.argwhere(~hidden)), hidden):
        values = image[corners[..., 0], corners[..., 1]]
        colours[at[:, 0], at[:, 1]] = (weights[..., None] * values).sum(axis=1)
    # Through float32, as the reference: a mean of two grey levels that is x.5 but for its last bit rounds as x.5.
    rounded = np.round(colours.astype(np.float32)).astype(np.uint8)
    return np.where(hidden[..., None], rounded, image)


def _triangles(points: np.ndarray) -> np.ndarray:
    """(T, 3, 2) int64, the corners of the Delaunay triangles of the points (n, 2) that have whole pixels in them."""
    try:
        corners = points[Delaunay(points).simplices]
    except QhullError:
        return np.empty((0, 3, 2), dtype=np.int64)
    # By Pick's theorem a triangle of area 1/2 holds no pixel but its corners; one of area 0 is no triangle.
    result: np.ndarray = corners[np.abs(_cross(corners[:, 0], corners[:, 1], corners[:, 2])) > 1]
    return result


def _covered(triangles: np.ndarray, hidden: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Corners (m, 3, 2), hidden pixels (m, 2) in them and barycentric coordinates (m, 3), some triangles at a time."""
    heights = np.ptp(triangles[..., 0], axis=1) + 1
    cuts = np.flatnonzero(np.diff(heights.cumsum() // _ROWS)) + 1
    for part, tall in zip(np.split(triangles, cuts), np.split(heights, cuts), strict=True):
        corners, at = _pixels(part, tall)
        is_hidden = hidden[at[:, 0], at[:, 1]]
        corners, at = corners[is_hidden], at[is_hidden]
        # Twice the areas that p makes with two corners each, in whole numbers: all of one sign if p is inside.
        first, second, third = corners[:, 0], corners[:, 1], corners[:, 2]
        areas = np.stack([_cross(at, second, third), _cross(first, at, third), _cross(first, second, at)], axis=1)
        inside = (areas >= 0).all(axis=1) | (areas <= 0).all(axis=1)
        areas = areas[inside]
        yield corners[inside], at[inside], areas / areas.sum(axis=1, keepdims=True)


def _pixels(triangles: np.ndarray, heights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Corners (m, 3, 2) and pixels (m, 2): of each row of each triangle, those between its edges."""
    triangle, offset = _spread(heights)
    corners = triangles[triangle]
    row = corners[..., 0].min(axis=1) + offset
    start, end = corners, np.roll(corners, -1, axis=1)
    across, down = (end - start)[..., 1], (end - start)[..., 0]
    step = row[:, None] - start[..., 0]
    meets = (down != 0) & (step * np.sign(down) >= 0) & (np.abs(step) <= np.abs(down))
    column = start[..., 1] + step * across / np.where(down == 0, 1, down)
    # Wider by less than a pixel's share of any edge: what is inside is decided in whole numbers.
    left = np.ceil(np.where(meets, column, np.inf).min(axis=1) - 1e-9).astype(np.int64)
    right = np.floor(np.where(meets, column, -np.inf).max(axis=1) + 1e-9).astype(np.int64)
    span, offset = _spread(np.maximum(right - left + 1, 0))
    return corners[span], np.stack([row[span], left[span] + offset], axis=1)


def _spread(lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of so many items for each entry: its entry, and its number among them."""
    index = np.repeat(np.arange(len(lengths)), lengths)
    return index, np.arange(len(index)) - np.repeat(lengths.cumsum() - lengths, lengths)


def _cross(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """Twice the signed area of the triangles with these corners, (n, 2) each."""
    area: np.ndarray = (b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) - (b[:, 1] - a[:, 1]) * (c[:, 0] - a[:, 0])
    return area
