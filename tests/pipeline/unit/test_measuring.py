"""How many images are measured at once."""

from __future__ import annotations

import pytest

from pipeline.unit.measuring import CHUNK, SWEEP_BATCHES, SWEEP_STEPS, chunk_of


def test_small_micro_batches_measure_the_usual_chunk() -> None:
    assert [chunk_of(size) for size in (1, 4, 64)] == [CHUNK] * 3


@pytest.mark.parametrize("micro_batch", [128, 256, 1000])
def test_the_sweep_of_a_chunk_fills_several_micro_batches(micro_batch: int) -> None:
    assert chunk_of(micro_batch) * SWEEP_STEPS >= SWEEP_BATCHES * micro_batch
    assert (chunk_of(micro_batch) - 1) * SWEEP_STEPS < SWEEP_BATCHES * micro_batch
