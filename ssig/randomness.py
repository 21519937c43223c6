"""Per-image random numbers that do not depend on batch, device, worker or restart.

    key = first 16 bytes of SHA-256(run seed, shard basename, sample key, registry name of the method)
    stream of sample k = Philox(key, counter = k in the top word)

The counter's top word is the sample index, so streams of different samples cannot overlap and 64 samples extend
32. The generators are NumPy's; `ssig.estimators.draws` draws their float32 uniforms on any device, bit for bit. No
global generator is read or written.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

# The stream of the baseline: larger than every sample index.
BASELINE_SAMPLE = 2**63


@dataclass(frozen=True)
class Stream:
    """The source of random numbers of one image under one method; `key` is the 128-bit Philox key."""

    key: int

    def generator(self, sample: int) -> np.random.Generator:
        """The generator of sample number `sample` (0 <= sample < 2**64), at its start."""
        return np.random.Generator(np.random.Philox(key=self.key, counter=sample << 192))

    def derived(self, name: str) -> Stream:
        """Another stream of the same image, under a name."""
        digest = hashlib.sha256(self.key.to_bytes(16, "little") + name.encode()).digest()
        return Stream(int.from_bytes(digest[:16], "little"))


def stream(seed: int, shard: str, key: str, method: str) -> Stream:
    """The stream of a sample of a run.

    Args:
        seed: the run's seed.
        shard: basename of the sample's shard; empty outside a run.
        key: the sample's key in its shard.
        method: the method's registry name (not its label).
    """
    text = "\0".join((str(seed), shard, key, method))
    return Stream(int.from_bytes(hashlib.sha256(text.encode()).digest()[:16], "little"))


def content_key(image: np.ndarray) -> str:
    """A key for an image without one: the hash of its bytes, shape and type; equal images draw the same numbers."""
    digest = hashlib.sha256(f"{image.dtype.str}{image.shape}".encode())
    digest.update(np.ascontiguousarray(image).tobytes())
    return digest.hexdigest()
