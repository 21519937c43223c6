"""Copies of networks, including networks with tensors that `copy.deepcopy` refuses."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from itertools import chain

from torch import Tensor, nn

from ssig.errors import ModelError, one_line


def copy_of(network: nn.Module, shared: Iterable[Tensor] = ()) -> nn.Module:
    """A deep copy of a network.

    Modules may hold results of operations, which `copy.deepcopy` refuses if they have a gradient: the weight that old
    weight normalisation or pruning computes in each call, or features stored in the last call. Their values are
    copied.

    Args:
        network: any module.
        shared: tensors that the copy uses too instead of copying them.

    Raises:
        ModelError: the network cannot be copied.
    """
    memo: dict[int, object] = {id(tensor): tensor for tensor in shared}
    for module in network.modules():
        for value in vars(module).values():
            if isinstance(value, Tensor) and not value.is_leaf:
                memo.setdefault(id(value), value.detach().clone())
    try:
        return copy.deepcopy(network, memo)
    except Exception as error:  # a user's module may hold anything: locks, files, handles
        raise ModelError(f"{type(network).__name__} cannot be copied: {one_line(error)}") from error


def sharing(network: nn.Module) -> nn.Module:
    """A copy of a network's modules that holds the same tensors.

    Raises:
        ModelError: the network cannot be copied.
    """
    return copy_of(network, chain(network.parameters(), network.buffers()))
