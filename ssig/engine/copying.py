"""Copies of networks, of those too that hold tensors which no copy is made of."""

from __future__ import annotations

import copy
from collections.abc import Iterable

from torch import Tensor, nn

from ssig.errors import ModelError, one_line


def copy_of(network: nn.Module, shared: Iterable[Tensor] = ()) -> nn.Module:
    """A deep copy of a network.

    Modules may hold results of operations, which the library copies only where no gradient depends on them: the weight
    that old weight normalisation or pruning makes anew in each call, features kept from the last one. Their values
    are copied.

    Args:
        network: any module.
        shared: tensors that the copy shall hold itself.

    Raises:
        ModelError: the network cannot be copied, for whatever reason of its own.
    """
    memo: dict[int, object] = {id(tensor): tensor for tensor in shared}
    for module in network.modules():
        for value in vars(module).values():
            if isinstance(value, Tensor) and not value.is_leaf:
                memo.setdefault(id(value), value.detach().clone())
    try:
        return copy.deepcopy(network, memo)
    except Exception as error:  # a module of the user's may hold anything: locks, files, handles
        raise ModelError(f"{type(network).__name__} cannot be copied: {one_line(error)}") from error
