"""Networks of lazy modules, whose weights take shape with the first input."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

# The weights are drawn then; a network that is built again must have the same ones.
_SEED = 0


def materialise(network: nn.Module, shape: tuple[int, ...]) -> None:
    """Gives lazy weights their shapes and values by one call; does nothing where there are none.

    Args:
        network: takes inputs of `shape`.
        shape: (1, C, H, W).
    """
    tensors: list[Tensor] = [*network.parameters(), *network.buffers()]
    if not any(is_lazy(tensor) for tensor in tensors):
        return
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.default_generator.manual_seed(_SEED)
        network(torch.zeros(shape))
