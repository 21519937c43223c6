"""The same image draws the same numbers everywhere, and different ones from every other."""

from __future__ import annotations

import numpy as np
import torch

from ssig.randomness import BASELINE_SAMPLE, content_key, stream


def test_draws_depend_on_key_and_sample_alone() -> None:
    first = stream(0, "a.tar", "k", "ssig").generator(3).random(1000)
    again = stream(0, "a.tar", "k", "ssig").generator(3).random(1000)
    assert np.array_equal(first, again)


def test_every_part_of_the_key_matters() -> None:
    base = stream(0, "a.tar", "k", "ssig")
    others = [
        stream(1, "a.tar", "k", "ssig"),
        stream(0, "b.tar", "k", "ssig"),
        stream(0, "a.tar", "l", "ssig"),
        stream(0, "a.tar", "k", "ig"),
        stream(0, "a.tark", "", "ssig"),
    ]
    assert len({base.key, *(other.key for other in others)}) == 6


def test_samples_do_not_overlap() -> None:
    source = stream(0, "a", "b", "c")
    draws = [source.generator(sample).random(500) for sample in (0, 1, 2, BASELINE_SAMPLE)]
    assert len(np.unique(np.concatenate(draws))) == 2000


def test_the_recorded_draws_do_not_change() -> None:
    # A changed value here would silently change every stored map.
    drawn = stream(0, "imagenet-val-dev-0000.tar", "ILSVRC2012_val_00000001", "ssig").generator(0).random(2)
    assert np.array_equal(drawn, RECORDED), drawn.tolist()


def test_the_global_generators_are_left_alone() -> None:
    numpy_state, torch_state = np.random.get_state()[1].copy(), torch.get_rng_state()
    stream(0, "a", "b", "c").generator(0).random(10)
    assert np.array_equal(numpy_state, np.random.get_state()[1])
    assert torch.equal(torch_state, torch.get_rng_state())


def test_content_key_tells_shape_and_type_apart() -> None:
    zeros = np.zeros((2, 3), dtype=np.float32)
    assert content_key(zeros) == content_key(zeros.copy())
    assert len({content_key(zeros), content_key(zeros.reshape(3, 2)), content_key(zeros.view(np.int32))}) == 3


RECORDED = np.array([0.942849969854438, 0.3290912650965395])
