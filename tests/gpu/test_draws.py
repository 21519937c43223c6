"""Random numbers drawn by a CUDA device are NumPy's, bit for bit, by the kernel and by torch operations."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ssig.randomness import stream

draws = pytest.importorskip("ssig.estimators.draws")
philox = pytest.importorskip("ssig.estimators.philox")

pytestmark = pytest.mark.gpu

STREAMS = [stream(7, "a.tar", key, "ssig") for key in ("0", "1", "x")]
SAMPLES = (0, 1, 31, 2**32 + 5, 2**63)


@pytest.mark.parametrize("shape", [(1,), (7,), (1, 3, 5), (1, 224, 224), (3, 64, 65)])
def test_uniforms_are_those_of_numpy(cuda: torch.device, shape: tuple[int, ...]) -> None:
    expected = [[one.generator(sample).random(shape, dtype=np.float32) for one in STREAMS] for sample in SAMPLES]
    found = draws.uniforms(STREAMS, SAMPLES, shape, torch.empty(0, device=cuda))
    assert found.device == cuda
    assert np.array_equal(found.cpu().numpy(), np.array(expected))


def test_the_kernel_draws_where_triton_is(cuda: torch.device) -> None:
    pytest.importorskip("triton")
    assert draws.uniforms_on(cuda) is not philox.philox
    draws.prove(philox.philox, cuda)  # which draws where it is not


def test_normals_are_those_of_numpy(cuda: torch.device) -> None:
    expected = [
        [one.generator(sample).standard_normal((3, 9, 10), dtype=np.float32) for one in STREAMS] for sample in SAMPLES
    ]
    like = torch.empty(0, device=cuda)
    found = draws.Normals(STREAMS, SAMPLES, (3, 9, 10), like).take(STREAMS)
    assert np.array_equal(found.cpu().numpy(), np.array(expected))
    some = draws.Normals(STREAMS, SAMPLES, (3, 9, 10), like).take(STREAMS[1:])
    assert np.array_equal(some.cpu().numpy(), np.array(expected)[:, 1:])
