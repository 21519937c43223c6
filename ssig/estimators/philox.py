"""NumPy's Philox4x64-10 stream of float32 uniforms, bit for bit, in torch operations on any device.

Element i of sample k under key K is

    u = (h >> 8) 2^-24,   h the low half, for odd i the high half, of word (i // 2) mod 4 of block i // 8
    block b = ten rounds of Philox under K on the counter (b + 1, 0, 0, k), in words of 64 bits, lowest first

Every element has its own counter, so that a device computes them in any order, and a map is the same on every device.
torch has no unsigned products of 64 bits: words are kept in int64, whose sums and products wrap, and the high half of
a product is put together from products of 32 bits.

Source: Salmon, Moraes, Dror, Shaw, *Parallel Random Numbers: As Easy as 1, 2, 3* (2011), as NumPy has it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

# Of the two words that a round multiplies; of the two words of the key, which grow by these each round.
MULTIPLIERS = (0xD2E7470EE14C6C93, 0xCA5A826395121157)
INCREMENTS = (0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B)
ROUNDS = 10
# Elements of a block of four words.
BLOCK = 8
UNIT = 2.0**-24

_LOW = 0xFFFFFFFF
_WORD = 2**64 - 1


def words(numbers: Sequence[int]) -> np.ndarray:
    """Numbers in [0, 2**64) as int64 of the same bits."""
    bits: np.ndarray = np.array(numbers, dtype=np.uint64).view(np.int64)
    return bits


def halves(key: int) -> tuple[int, int]:
    """The two words of a 128-bit key, the lower first."""
    return key & _WORD, key >> 64


def philox(keys: Tensor, samples: Tensor, count: int) -> Tensor:
    """(S, B, count) float32 in [0, 1): the first elements of each sample of each key.

    Args:
        keys: (B, 2) int64, of `words(halves(key))`.
        samples: (S,) int64, of `words`, on the device of the keys.
        count: how many, at least 1.
    """
    blocks = -(-count // BLOCK)
    # Sample by sample: the words of a round take thirty times the memory of the result.
    drawn = [_sample(keys, sample, blocks)[:, :count] for sample in samples]
    return torch.stack(drawn)


def _sample(keys: Tensor, sample: Tensor, blocks: int) -> Tensor:
    """(B, blocks * 8) float32 of one sample, a tensor without dimensions."""
    first_key, second_key = keys[:, :1], keys[:, 1:]
    counter = torch.arange(1, blocks + 1, device=keys.device).expand(len(keys), -1)
    zero = torch.zeros_like(counter)
    a, b, c, d = counter, zero, zero, sample.expand_as(counter)
    for number in range(ROUNDS):
        if number:
            first_key, second_key = first_key + _signed(INCREMENTS[0]), second_key + _signed(INCREMENTS[1])
        a, b, c, d = (
            _high(c, MULTIPLIERS[1]) ^ b ^ first_key,
            c * _signed(MULTIPLIERS[1]),
            _high(a, MULTIPLIERS[0]) ^ d ^ second_key,
            a * _signed(MULTIPLIERS[0]),
        )
    block = torch.stack([a, b, c, d], dim=-1).flatten(1)
    elements = torch.stack([block & _LOW, (block >> 32) & _LOW], dim=-1).flatten(1)
    return (elements >> 8).to(torch.float32) * UNIT


def _high(word: Tensor, multiplier: int) -> Tensor:
    """The high 64 bits of the unsigned product of int64 bits with a number below 2**64."""
    low, high = word & _LOW, (word >> 32) & _LOW
    times_low, times_high = multiplier & _LOW, multiplier >> 32
    lowest, first, second = low * times_low, low * times_high, high * times_low
    carried = ((lowest >> 32) & _LOW) + (first & _LOW) + (second & _LOW)
    return high * times_high + ((first >> 32) & _LOW) + ((second >> 32) & _LOW) + (carried >> 32)


def _signed(number: int) -> int:
    """A number below 2**64 as the int64 of the same bits."""
    return number - 2**64 if number >> 63 else number
