"""The stream of `ssig.estimators.philox` as one Triton kernel: all samples of all images in one launch.

A program makes `8 * BLOCKS` elements of one sample of one image, in the order in which they are stored. Importing this
module needs Triton, which torch brings along where it has CUDA.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

# Blocks of eight elements that one program makes.
BLOCKS = 128


@triton.jit(do_not_specialize=["count", "images"])  # type: ignore[untyped-decorator]
def kernel(out, keys, samples, count, images, blocks: tl.constexpr):  # type: ignore[no-untyped-def]
    """Stores the elements of a stretch of one row of `out`, (S * B, count) float32, image index fastest.

    The constants are those of `ssig.estimators.philox`.
    """
    row = tl.program_id(0).to(tl.int64)
    image = row % images
    block = tl.program_id(1).to(tl.int64) * blocks + tl.arange(0, blocks)
    zero = tl.zeros((blocks,), tl.uint64)
    first_key = tl.load(keys + 2 * image).to(tl.uint64, bitcast=True)
    second_key = tl.load(keys + 2 * image + 1).to(tl.uint64, bitcast=True)
    first_multiplier = tl.full((blocks,), 0xD2E7470EE14C6C93, tl.uint64)
    second_multiplier = tl.full((blocks,), 0xCA5A826395121157, tl.uint64)
    first_increment = tl.full((), 0x9E3779B97F4A7C15, tl.uint64)
    second_increment = tl.full((), 0xBB67AE8584CAA73B, tl.uint64)
    a = (block + 1).to(tl.uint64)
    b = zero
    c = zero
    d = zero + tl.load(samples + row // images).to(tl.uint64, bitcast=True)
    for number in tl.static_range(10):
        if number > 0:
            first_key = first_key + first_increment
            second_key = second_key + second_increment
        high_a = tl.umulhi(a, first_multiplier)
        low_a = a * first_multiplier
        high_c = tl.umulhi(c, second_multiplier)
        low_c = c * second_multiplier
        a = high_c ^ b ^ first_key
        b = low_c
        c = high_a ^ d ^ second_key
        d = low_a
    words = tl.reshape(tl.join(tl.join(a, c), tl.join(b, d)), (4 * blocks,))
    low = ((words & 0xFFFFFFFF) >> 8).to(tl.float32)
    high = (words >> 40).to(tl.float32)
    element = tl.program_id(1).to(tl.int64) * (8 * blocks) + tl.arange(0, 8 * blocks)
    tl.store(out + row * count + element, tl.interleave(low, high) * 5.9604644775390625e-08, mask=element < count)


def philox(keys: Tensor, samples: Tensor, count: int) -> Tensor:
    """(S, B, count) float32 in [0, 1); see `ssig.estimators.philox.philox`.

    Args:
        keys: (B, 2) int64.
        samples: (S,) int64.
        count: how many, at least 1.

    Raises:
        Exception: Triton cannot compile for the device.
    """
    out = torch.empty((len(samples), len(keys), count), dtype=torch.float32, device=keys.device)
    programs = (len(samples) * len(keys), triton.cdiv(count, 8 * BLOCKS))
    with torch.cuda.device_of(keys):  # type: ignore[no-untyped-call]
        kernel[programs](out, keys, samples, count, len(keys), blocks=BLOCKS)
    return out
