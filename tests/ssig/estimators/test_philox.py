"""Every form of the uniforms gives NumPy's numbers, bit for bit."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from ssig.estimators.philox import halves, philox, words
from ssig.randomness import BASELINE_SAMPLE, Stream

KEYS = st.lists(st.integers(0, 2**128 - 1), min_size=1, max_size=3)
SAMPLES = st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=3)

needs_triton = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="torch came without Triton")


def by_numpy(keys: list[int], samples: list[int], count: int) -> Tensor:
    rows = [
        np.stack([Stream(key).generator(sample).random(count, dtype=np.float32) for key in keys]) for sample in samples
    ]
    return torch.from_numpy(np.stack(rows))


def asked(keys: list[int], samples: list[int], count: int) -> tuple[Tensor, Tensor, int]:
    both = [word for key in keys for word in halves(key)]
    return torch.from_numpy(words(both)).view(-1, 2), torch.from_numpy(words(samples)), count


@given(KEYS, SAMPLES, st.integers(1, 100))
@example([0], [0], 1)
@example([2**128 - 1, 2**64, 2**64 - 1], [BASELINE_SAMPLE, 2**64 - 1, 0], 17)
@example([5], [3], 3 * 224 * 224)
@settings(deadline=None)
def test_torch_operations_draw_what_numpy_draws(keys: list[int], samples: list[int], count: int) -> None:
    assert torch.equal(philox(*asked(keys, samples, count)), by_numpy(keys, samples, count))


@needs_triton
@pytest.mark.parametrize("capability", [80, 90])
def test_the_kernel_compiles_without_a_gpu(capability: int) -> None:
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from ssig.estimators.philox_kernel import BLOCKS, kernel

    if isinstance(kernel, triton.runtime.JITFunction):  # and not Triton's interpreter
        signature = {"out": "*fp32", "keys": "*i64", "samples": "*i64", "count": "i32", "images": "i32"}
        source = ASTSource(fn=kernel, signature={**signature, "blocks": "constexpr"}, constexprs={(5,): BLOCKS})
        compiled = triton.compile(source, target=GPUTarget("cuda", capability, 32))
        # Ten rounds of two high products each.
        assert compiled.asm["ptx"].count("mul.hi.u64") == 20


BY_THE_KERNEL = """
import sys
sys.path[:0] = {folders!r}
import torch
from hypothesis import example, given, settings
from ssig.estimators.philox_kernel import philox
from test_philox import KEYS, SAMPLES, asked, by_numpy, st

@given(KEYS, SAMPLES, st.integers(1, 2100))
@example([2**128 - 1, 2**64, 2**64 - 1], [2**63, 2**64 - 1, 0], 1023)
@example([5], [3], 50176)
@settings(deadline=None, max_examples=20)
def check(keys, samples, count):
    assert torch.equal(philox(*asked(keys, samples, count)), by_numpy(keys, samples, count))

check()
print("equal")
"""


@pytest.mark.slow
@needs_triton
def test_the_kernel_draws_what_numpy_draws_in_the_interpreter() -> None:
    folders = [os.path.dirname(__file__), os.getcwd()]
    done = subprocess.run(
        [sys.executable, "-c", BY_THE_KERNEL.format(folders=folders)],
        env={**os.environ, "TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "equal\n", done.stderr[-2000:]


@pytest.mark.gpu
@needs_triton
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_the_kernel_draws_what_numpy_draws_on_a_gpu() -> None:
    from ssig.estimators.draws import uniforms_on
    from ssig.estimators.philox_kernel import philox as kernel

    device = torch.device("cuda", 0)
    assert uniforms_on(device) is kernel
    for count in (1, 8, 1023, 3 * 224 * 224):
        keys, samples, _ = asked([0, 2**128 - 1, 77], [BASELINE_SAMPLE, 2**64 - 1, 0], count)
        drawn = kernel(keys.to(device), samples.to(device), count).cpu()
        assert torch.equal(drawn, by_numpy([0, 2**128 - 1, 77], [BASELINE_SAMPLE, 2**64 - 1, 0], count))
