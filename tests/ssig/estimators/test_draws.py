"""The door to random numbers: NumPy's numbers, however many threads draw them and in whatever form."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from ssig.estimators.draws import Normals, prove, uniforms, uniforms_on
from ssig.estimators.philox import philox
from ssig.randomness import BASELINE_SAMPLE, Stream

STREAMS = tuple(Stream(key) for key in (1, 2**127, 99))
SHAPE = (2, 5, 7)
HERE = torch.empty(0)


@pytest.fixture
def three_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def normal(stream: Stream, sample: int) -> torch.Tensor:
    return torch.from_numpy(stream.generator(sample).standard_normal(SHAPE, dtype=np.float32))


def test_uniforms_are_those_of_the_generators() -> None:
    drawn = uniforms(STREAMS, [4, BASELINE_SAMPLE], SHAPE, HERE)
    for row, sample in zip(drawn, (4, BASELINE_SAMPLE), strict=True):
        for stream, numbers in zip(STREAMS, row, strict=True):
            assert np.array_equal(numbers, stream.generator(sample).random(SHAPE, dtype=np.float32))


def test_the_default_type_of_torch_does_not_matter() -> None:
    torch.set_default_dtype(torch.float64)
    try:
        assert uniforms(STREAMS, [0], SHAPE, HERE).dtype is torch.float32
    finally:
        torch.set_default_dtype(torch.float32)


def test_a_device_without_cuda_draws_in_torch_operations() -> None:
    assert uniforms_on(torch.device("mps")) is philox
    prove(philox, torch.device("cpu"))


def test_a_kernel_that_fails_is_replaced_and_said_once(caplog: pytest.LogCaptureFixture) -> None:
    uniforms_on.cache_clear()
    # Without a GPU nothing can run there, whether Triton is installed or not.
    if torch.cuda.is_available():
        pytest.skip("the kernel works here")
    assert [uniforms_on(torch.device("cuda", 0)) for _ in range(2)] == [philox, philox]
    assert [record.message.partition(":")[0] for record in caplog.records] == [
        "uniforms are drawn by torch operations, without a Triton kernel"
    ]


def test_tensors_without_numbers_get_none() -> None:
    assert uniforms(STREAMS, [0, 1], SHAPE, HERE.to("meta")).shape == (2, 3, *SHAPE)


def test_a_form_that_draws_other_numbers_is_refused() -> None:
    with pytest.raises(ArithmeticError, match="other numbers"):
        prove(lambda keys, samples, count: philox(keys, samples + 1, count), torch.device("cpu"))


@pytest.mark.usefixtures("three_threads")
@pytest.mark.parametrize("samples", [[0], [3, 1, 7]])
def test_normals_do_not_depend_on_the_threads(samples: list[int]) -> None:
    by_threads = Normals(STREAMS, samples, SHAPE, HERE)
    assert by_threads._filling
    torch.set_num_threads(1)
    alone = Normals(STREAMS, samples, SHAPE, HERE)
    assert not alone._filling
    expected = torch.stack([torch.stack([normal(stream, sample) for stream in STREAMS]) for sample in samples])
    assert torch.equal(by_threads.take(STREAMS), expected)
    assert torch.equal(alone.take(STREAMS), expected)


def test_normals_of_images_that_are_left() -> None:
    drawn = Normals(STREAMS, [5], SHAPE, HERE).take((STREAMS[2], STREAMS[0]))
    assert torch.equal(drawn[0], torch.stack([normal(STREAMS[2], 5), normal(STREAMS[0], 5)]))
