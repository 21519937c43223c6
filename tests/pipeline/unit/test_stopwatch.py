"""Seconds of the steps of a unit."""

from __future__ import annotations

import pytest

from pipeline.unit.stopwatch import Stopwatch


def test_steps_add_up_also_where_one_raises() -> None:
    now = iter([0.0, 1.0, 5.0, 7.5])
    watch = Stopwatch(lambda: next(now))
    with watch.step("write"):
        pass
    with pytest.raises(OSError, match="full"), watch.step("write"):
        raise OSError("full")
    watch.add("decode", 2.0)
    assert watch.seconds == {"write": 3.5, "decode": 2.0}
