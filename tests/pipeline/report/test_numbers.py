"""How numbers are written."""

from __future__ import annotations

import pytest

from pipeline.report import numbers
from pipeline.report.comparison import Estimate


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (0.0, "0.000"),
        (-0.0, "0.000"),
        (0.51234, "0.512"),
        (-0.5, "\N{MINUS SIGN}0.500"),
        (0.0002, "0.0002"),
        (-3e-7, "\N{MINUS SIGN}3e\N{MINUS SIGN}07"),
        (123.456, "123.5"),
        (12345.6, "12,346"),
    ],
)
def test_numbers_keep_three_decimals_or_their_sign(value, text):
    assert numbers.number(value) == text


def test_a_difference_shows_its_sign():
    assert numbers.signed(0.25) == "+0.250"
    assert numbers.signed(-0.25) == "\N{MINUS SIGN}0.250"
    assert numbers.signed(0.0) == "0.000"


def test_an_interval_that_is_not_there_is_a_dash():
    assert numbers.interval(Estimate(0.5, 0.25, 0.75, 9)) == "[0.250, 0.750]"
    assert numbers.interval(Estimate(0.5, None, None, 1)) == "[–]"
    assert numbers.percent_interval(Estimate(0.5, 0.25, 0.75, 9)) == "[25.0, 75.0]"


def test_counts_and_sizes():
    assert numbers.integer(50000) == "50,000"
    assert numbers.count_number(32.0) == "32"
    assert numbers.count_number(31.5) == "31.5"
    assert numbers.size(7_710_000) == "7.71 MB"
    assert numbers.percent(0.765) == "76.5 %"
