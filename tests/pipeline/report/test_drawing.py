"""Labels that do not overlap, and names that fit."""

from __future__ import annotations

from itertools import combinations, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.report.drawing import beside, shortened, spaced


@given(st.lists(st.floats(0, 100), min_size=1, max_size=12).map(sorted))
def test_labels_lie_apart_in_order_and_inside(wanted: list[float]) -> None:
    places = spaced(wanted, 8, 0, 100)
    assert all(after - before >= 8 - 1e-6 for before, after in pairwise(places))
    assert places[0] >= -1e-6
    assert places[-1] <= 100 + 1e-6


def test_labels_with_room_stay_where_they_are() -> None:
    assert spaced([10, 30, 60], 8, 0, 100) == [10, 30, 60]
    assert spaced([50, 50], 8, 0, 100) == pytest.approx([46, 54])
    assert spaced([], 8, 0, 100) == []


def test_without_room_labels_begin_at_the_bottom_and_keep_their_gap() -> None:
    assert spaced([1, 2, 3], 8, 0, 10) == [0, 8, 16]


def test_labels_of_points_touch_neither_each_other_nor_points() -> None:
    points = [(50.0 + number % 2, 50.0 + 3 * number) for number in range(6)]
    boxes = beside(points, [(40.0, 9.0)] * 6, [], (0, 0, 200, 120))
    for one, other in combinations(boxes, 2):
        assert one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]
    for left, bottom, right, top in boxes:
        assert not any(left < x < right and bottom < y < top for x, y in points)
        assert left >= 0
        assert bottom >= 0
        assert right <= 200
        assert top <= 120


def test_a_lone_label_stands_right_of_its_point() -> None:
    assert beside([(10, 10)], [(20, 8)], [], (0, 0, 100, 100)) == [(16, 6, 36, 14)]


def test_long_names_end_in_an_ellipsis_and_control_characters_are_shown() -> None:
    assert shortened("smoothgrad") == "smoothgrad"
    assert shortened("a" * 30, 10) == "a" * 9 + "…"
    assert shortened("a\x00b\x1b") == "a\ufffdb\ufffd"
