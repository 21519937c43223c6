"""The contours of a grey image at every threshold at once, with their boxes and areas.

At threshold t the regions are those of the pixels above t, connected by edges or corners; each has an outer contour,
and one for each of its holes. As t falls from level to level, regions appear, grow and merge: the max-tree of
Salembier et al., IEEE Trans. IP 1998. Each pixel is visited at its own level alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from scipy.ndimage import generate_binary_structure
from skimage.morphology import reconstruction

WHITE = 255  # the highest grey level, and the number of thresholds 0 ... 254

# The two parts of an image that lie on each other after a step to a neighbour, for each step.
Steps = tuple[tuple[tuple[slice, slice], tuple[slice, slice]], ...]

_BY_EDGE: Steps = ((np.s_[:, :-1], np.s_[:, 1:]), (np.s_[:-1, :], np.s_[1:, :]))
_BY_CORNER: Steps = (*_BY_EDGE, (np.s_[:-1, :-1], np.s_[1:, 1:]), (np.s_[:-1, 1:], np.s_[1:, :-1]))


class Contours(NamedTuple):
    """n contours, each there at the thresholds low <= t < high.

    Attributes:
        boxes: (n, 4) first and last column and row, as x0, y0, x1, y1.
        low, high: (n,).
    """

    boxes: np.ndarray
    low: np.ndarray
    high: np.ndarray


class Levels(NamedTuple):
    """The contours of an image.

    Attributes:
        every: outer contours of the regions, and contours of their holes.
        largest: (255, 4) boxes of the contour of largest area at the thresholds 0 ... 254; of equal areas that which
            begins last in raster order. The area is that of the polygon through the centres of the contour's pixels.
    """

    every: Contours
    largest: np.ndarray


def contours(grey: np.ndarray) -> Levels:
    """All contours of a (H, W) uint8 image that has the value 255."""
    # The largest contour lies in no hole of another region, so it is among those of the image without holes.
    filled = _without_holes(grey)
    outer, dark, solid = _regions([(grey, _BY_CORNER), (WHITE - grey, _BY_EDGE), (filled, _BY_CORNER)])
    by_area = np.lexsort((solid.first, solid.area))
    largest = by_area[highest(np.argsort(by_area), solid.contours.low, solid.contours.high)]
    holes = _holes(dark.contours, grey.shape)
    every = Contours(*(np.concatenate(pair) for pair in zip(outer.contours, holes, strict=True)))
    return Levels(every, solid.contours.boxes[largest])


def highest(values: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """(255,) at each threshold t the highest of the values (n,), none below 0, with low <= t < high; 0 for none."""
    table = np.zeros((WHITE + 1, WHITE + 1), dtype=values.dtype)
    np.maximum.at(table, (low, high), values)
    # Then the highest of all that begin no later and end no earlier.
    table = np.maximum.accumulate(table, axis=0)
    table = np.maximum.accumulate(table[:, ::-1], axis=1)[:, ::-1]
    return table.diagonal(1)


def _holes(dark: Contours, shape: tuple[int, ...]) -> Contours:
    """Contours of holes: the pixels around those regions of the inverted image that do not touch the border."""
    end = (shape[1] - 1, shape[0] - 1)
    inside = (dark.boxes[:, :2] > 0).all(axis=1) & (dark.boxes[:, 2:] < end).all(axis=1)
    boxes, low, high = (values[inside] for values in dark)
    return Contours(boxes + np.array([-1, -1, 1, 1]), low=WHITE - high, high=WHITE - low)


def _without_holes(grey: np.ndarray) -> np.ndarray:
    """(H, W) uint8 whose pixels above any threshold are those of `grey` with their holes filled."""
    seed = np.full_like(grey, WHITE)
    seed[[0, -1]], seed[:, [0, -1]] = grey[[0, -1]], grey[:, [0, -1]]
    cross = generate_binary_structure(2, 1)
    filled: np.ndarray = reconstruction(seed, grey, "erosion", cross)  # type: ignore[no-untyped-call]
    return filled.astype(grey.dtype)


class _Regions(NamedTuple):
    """Connected regions of the pixels above each threshold.

    Attributes:
        contours: their outer contours.
        first: (n,) place of the first pixel in raster order.
        area: (n,) of the contour, if the region has no holes.
    """

    contours: Contours
    first: np.ndarray
    area: np.ndarray


def _regions(images: Sequence[tuple[np.ndarray, Steps]]) -> list[_Regions]:
    """The regions of several (H, W) uint8 images, each with the steps that connect its pixels.

    The pixels from which one climbs to the same peak are in one region from their own levels on. So regions are sets
    of peaks, and have the name of one; they merge at the highest level at which pixels of both touch.
    """
    (height, width), size = images[0][0].shape, images[0][0].size
    levels = np.concatenate([grey.ravel() for grey, _ in images])
    tops, peak = _peaks(images)
    met_at, meeting = _meetings(images, peak.reshape(-1, height, width))
    meetings, pixels_at = _by_level(met_at), _by_level(levels)

    place = np.arange(levels.size) % size
    extent = np.stack([place, place % width, -(place % width), -(place // width)])
    joined = np.concatenate([_area_joined(grey) for grey, _ in images])
    least, area = np.full((len(extent), tops.size), size), np.zeros(tops.size)
    flat, shifts = least.reshape(-1), tops.size * np.arange(len(extent))[:, None]  # ufunc.at is fast on vectors only

    def grow(regions: np.ndarray, extents: np.ndarray, areas: np.ndarray) -> None:
        np.minimum.at(flat, (regions + shifts).ravel(), extents.ravel())
        np.add.at(area, regions, areas)

    region, has_grown = np.arange(tops.size), np.zeros(tops.size, dtype=bool)
    # The last record of each region, which holds until its next record or a merger; -1 for none.
    latest, count = np.full(tops.size, -1), 0
    regions, ended = [], []
    for level in reversed(np.unique(levels[levels > 0]).tolist()):
        first_region, second_region = region[meeting[:, meetings[level]]]
        apart = first_region != second_region
        gone, into = _merged(set(zip(first_region[apart].tolist(), second_region[apart].tolist(), strict=True)))
        if gone.size:
            grow(into, least[:, gone], area[gone])
            region[gone] = into
            region = region[region]
        pixels = pixels_at[level]
        owners = region[peak[pixels]]
        grow(owners, extent[:, pixels], joined[pixels])
        has_grown[owners] = True
        names = np.flatnonzero(has_grown)
        has_grown[names] = False
        past = latest[np.append(gone, names)]
        ended.append((past, np.full(past.size, level)))
        regions.append((names, np.full(names.size, level), area[names], *least[:, names]))
        latest[names] = count + np.arange(names.size)
        count += names.size

    names, high, areas, first, x0, x1, y1 = (np.concatenate(values) for values in zip(*regions, strict=True))
    past, level_past = (np.concatenate(values) for values in zip(*ended, strict=True))
    low = np.zeros(count + 1, dtype=np.intp)
    low[past] = level_past
    low = low[:-1]
    boxes = np.stack([x0, first // width, -x1, -y1], axis=1)
    image = tops[names] // size
    return [
        _Regions(Contours(boxes[in_image], low[in_image], high[in_image]), first[in_image], areas[in_image])
        for in_image in (image == number for number in range(len(images)))
    ]


def _peaks(images: Sequence[tuple[np.ndarray, Steps]]) -> tuple[np.ndarray, np.ndarray]:
    """The places of all peaks (n,), and for each pixel of all images which of them its steepest climb ends on."""
    total = sum(grey.size for grey, _ in images)
    uphill = []
    for number, (grey, steps) in enumerate(images):
        # Levels are made different by the place, so that each climb ends.
        heights = grey.astype(np.intp) * total + np.arange(grey.size).reshape(grey.shape) + number * grey.size
        top = heights.copy()
        for first, second in steps:
            np.maximum(top[first], heights[second], out=top[first])
            np.maximum(top[second], heights[first], out=top[second])
        uphill.append(top.ravel() % total)
    peak = np.concatenate(uphill)
    while not np.array_equal(peak, further := peak[peak]):
        peak = further
    is_top = peak == np.arange(total)
    return np.flatnonzero(is_top), (np.cumsum(is_top) - 1)[peak]


def _meetings(images: Sequence[tuple[np.ndarray, Steps]], peaks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For all neighbours that climb to different peaks (k, H, W): the lower of their levels (n,), the peaks (2, n)."""
    levels, pairs = [], []
    for (grey, steps), peak in zip(images, peaks, strict=True):
        for first, second in steps:
            apart = peak[first] != peak[second]
            levels.append(np.minimum(grey[first], grey[second])[apart])
            pairs.append(np.stack([peak[first][apart], peak[second][apart]]))
    return np.concatenate(levels), np.concatenate(pairs, axis=1)


def _merged(pairs: Iterable[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    """Merges the two names of each pair: the names that vanish, and the name that each becomes."""
    into: dict[int, int] = {}

    def last(name: int) -> int:
        passed = []
        while name in into:
            passed.append(name)
            name = into[name]
        for each in passed:
            into[each] = name
        return name

    for pair in pairs:
        first, second = last(pair[0]), last(pair[1])
        if first != second:
            into[first] = second
    gone = list(into)
    return np.array(gone, dtype=np.intp), np.array([last(name) for name in gone], dtype=np.intp)


def _by_level(levels: np.ndarray) -> list[np.ndarray]:
    """For each grey level 0 ... 255 the places that have it."""
    return np.split(np.argsort(levels, kind="stable"), np.cumsum(np.bincount(levels, minlength=WHITE + 1))[:-1])


def _area_joined(grey: np.ndarray) -> np.ndarray:
    """(H W,) what each pixel adds to the area of its region's outer contour when t falls below it.

    The polygon through the centres of a region's pixels holds the whole square between four of them, half of that
    between three (a triangle), and none between fewer: the lowest two of the four add half of it each.
    """
    heights = grey.astype(np.intp) * grey.size + np.arange(grey.size).reshape(grey.shape)
    left, right = heights[:, :-1], heights[:, 1:]
    low, high = np.minimum(left, right), np.maximum(left, right)
    above, below = low[:-1], low[1:]
    lowest = np.minimum(above, below)
    second = np.minimum(np.maximum(above, below), np.minimum(high[:-1], high[1:]))
    places = np.append(lowest, second) % grey.size
    return np.bincount(places, minlength=grey.size) / 2
