"""Threads that work ahead: results and errors in order, and no more items in memory than promised."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from pipeline.shards import manifest
from pipeline.shards.ahead import in_order
from pipeline.shards.reading import read_unit
from pipeline.unit.inputs import prepare
from ssig.models import load_model
from tests.pipeline.shards.test_reading import JPEG, PNG, write_tar


@pytest.mark.parametrize("threads", [0, 1, 3])
def test_results_come_in_the_order_of_the_items(threads: int) -> None:
    def slow_first(item: int) -> int:
        time.sleep(0.02 if item == 0 else 0)
        return item * item

    assert list(in_order(slow_first, range(10), threads)) == [item * item for item in range(10)]
    assert list(in_order(slow_first, [], threads)) == []


@pytest.mark.parametrize("threads", [1, 3])
def test_a_few_items_are_read_ahead_and_several_threads_work(threads: int) -> None:
    read, names, lock, taken = [0], set(), threading.Lock(), 0

    def items() -> Iterator[int]:
        for item in range(50):
            read[0] += 1
            yield item

    def work(item: int) -> int:
        with lock:
            names.add(threading.current_thread().name)
        time.sleep(0.002)
        return item

    for _ in in_order(work, items(), threads):
        taken += 1
        assert read[0] <= taken + threads + 1
    assert taken == 50
    assert threading.current_thread().name not in names


@pytest.mark.parametrize("threads", [0, 2])
def test_an_error_comes_after_the_results_before_it_and_ends_the_rest(threads: int) -> None:
    begun: list[int] = []

    def fails(item: int) -> int:
        begun.append(item)
        if item == 3:
            raise ValueError("the third")
        return item

    results = in_order(fails, range(100), threads)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="the third"):
        next(results)
    assert len(begun) < 10
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("decoding")]


def test_samples_and_their_faults_are_the_same_on_threads(tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    members = [
        ("good.png", PNG),
        ("bad.jpg", JPEG[:300]),
        ("none.txt", b"x"),
        ("other.jpg", JPEG),
        ("other.cls", b"2"),
    ]
    members += [(f"more{number}.png", PNG) for number in range(6)]
    with path.open("wb") as file:
        write_tar(file, members)
    found = manifest.build([str(path)], 64)
    (unit,) = found.units()
    rows, model = found.rows(unit.id), load_model("networks:tiny")
    alone, on_threads = (
        prepare(read_unit(str(path), rows, threads=threads), model, "predicted", threads) for threads in (0, 3)
    )
    assert [vars(outcome) for outcome in on_threads.outcomes] == [vars(outcome) for outcome in alone.outcomes]
    assert {outcome.status for outcome in alone.outcomes} == {"ok", "undecodable"}
    assert on_threads.ok == alone.ok
    assert np.array_equal(on_threads.images, alone.images)


def test_a_shard_that_vanished_is_the_same_error_on_threads(tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    with path.open("wb") as file:
        write_tar(file, [("good.png", PNG)])
    found = manifest.build([str(path)], 64)
    path.unlink()
    for threads in (0, 2):
        with pytest.raises(OSError, match=r"x\.tar"):
            list(read_unit(str(path), found.rows(next(iter(found.units())).id), threads=threads))
