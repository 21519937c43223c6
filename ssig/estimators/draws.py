"""Random numbers of images, drawn where they are used: the only door of the samplers to `ssig.randomness`.

    uniforms   on the CPU by NumPy; on CUDA by one Triton kernel; on other devices, and where Triton cannot compile, in
               torch operations. All give NumPy's numbers bit for bit (`ssig.estimators.philox`).
    normals    by NumPy everywhere: no device can address its rejection sampling by element. Several threads fill one
               buffer, page-locked for a GPU, and `Normals` begins before the numbers are needed.

So a map has the same draws on every device.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import lru_cache
from math import prod

import numpy as np
import torch
from torch import Tensor

from ssig.errors import one_line
from ssig.estimators import philox
from ssig.estimators.transfer import buffer, to_device
from ssig.randomness import Stream
from ssig.types.beside import begin

LOG = logging.getLogger(__name__)

Uniforms = Callable[[Tensor, Tensor, int], Tensor]
# What a kernel has to draw before it is used.
_PROOF = Stream(2**127 - 1), 2**63, 1001


def uniforms(streams: Sequence[Stream], samples: Sequence[int], shape: tuple[int, ...], like: Tensor) -> Tensor:
    """`generator(k).random(shape, dtype=float32)` of each sample k of each stream, (S, B, *shape) float32 in [0, 1).

    Args:
        streams: of the B images.
        samples: S numbers in [0, 2**64).
        shape: of the numbers of one image in one sample.
        like: any tensor on the device where the numbers are wanted.
    """
    if like.device.type == "cpu":
        drawn = torch.empty((len(samples), len(streams), *shape), dtype=torch.float32)
        for row, sample in zip(drawn.numpy(), samples, strict=True):
            for stream, numbers in zip(streams, row, strict=True):
                stream.generator(sample).random(dtype=np.float32, out=numbers)
        return drawn
    words = [word for stream in streams for word in philox.halves(stream.key)]
    keys = to_device(torch.from_numpy(philox.words(words)).view(-1, 2), like.device)
    numbered = to_device(torch.from_numpy(philox.words(samples)), like.device)
    drawn = uniforms_on(like.device)(keys, numbered, prod(shape))
    return drawn.view(len(samples), len(streams), *shape)


@lru_cache
def uniforms_on(device: torch.device) -> Uniforms:
    """How a device draws: the kernel, if it is CUDA and draws there what NumPy draws, else torch operations."""
    if device.type == "meta":
        return _no_numbers
    if device.type != "cuda":
        return philox.philox
    try:
        from ssig.estimators.philox_kernel import philox as kernel

        prove(kernel, device)
    except Exception as error:  # Triton is missing, or fails as it compiles: in many ways
        LOG.warning("uniforms are drawn by torch operations, without a Triton kernel: %s", one_line(error))
        return philox.philox
    return kernel


def _no_numbers(keys: Tensor, samples: Tensor, count: int) -> Tensor:
    """What tensors without numbers need."""
    return torch.empty((len(samples), len(keys), count), dtype=torch.float32, device=keys.device)


def prove(form: Uniforms, device: torch.device) -> None:
    """Compares what a form draws on a device with NumPy's numbers.

    Raises:
        ArithmeticError: a number differs.
    """
    stream, sample, count = _PROOF
    keys = torch.from_numpy(philox.words(philox.halves(stream.key))).view(1, 2)
    drawn = form(keys.to(device), torch.from_numpy(philox.words([sample])).to(device), count)
    if not np.array_equal(drawn.cpu().numpy()[0, 0], stream.generator(sample).random(count, dtype=np.float32)):
        raise ArithmeticError(f"other numbers than NumPy's on {device}")


class Normals:
    """Standard normal numbers, (S, B, *shape) float32, that threads draw from the moment this is made.

    On one thread of the CPU they are drawn when they are asked for.

    Args:
        streams: of the B images.
        samples: S numbers in [0, 2**64).
        shape: of the numbers of one image in one sample.
        like: any tensor on the device where the numbers are wanted.
    """

    def __init__(
        self, streams: Sequence[Stream], samples: Sequence[int], shape: tuple[int, ...], like: Tensor
    ) -> None:
        self._streams, self._like = tuple(streams), like
        self._numbers = buffer((len(samples), len(streams), *shape), torch.float32, like.device)
        rows = self._numbers.numpy()
        tasks = [
            (stream, sample, rows[place, image])
            for place, sample in enumerate(samples)
            for image, stream in enumerate(streams)
        ]
        self._filling: list[Future[None]] = []
        threads = min(torch.get_num_threads(), len(tasks))
        if threads > 1 or like.device.type != "cpu":
            self._filling = [begin(_fill, tasks[first::threads]) for first in range(threads)]
            tasks = []
        self._left = tasks

    def take(self, streams: Sequence[Stream]) -> Tensor:
        """The numbers of all the streams, or of some, on the device; once only, as the caller may change them."""
        _fill(self._left)
        for filled in self._filling:
            filled.result()
        numbers = to_device(self._numbers, self._like.device)
        if tuple(streams) == self._streams:
            return numbers
        rows = torch.tensor([self._streams.index(stream) for stream in streams])
        return numbers.index_select(1, to_device(rows, self._like.device))


def _fill(tasks: Sequence[tuple[Stream, int, np.ndarray]]) -> None:
    """Draws samples of streams into their arrays. NumPy lets other threads run meanwhile."""
    for stream, sample, numbers in tasks:
        stream.generator(sample).standard_normal(dtype=np.float32, out=numbers)
