"""Changes of a network that can be undone, and the search for changes that do not alter its answers."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.utils.parametrize import is_parametrized

LOG = logging.getLogger(__name__)

Undo = Callable[[], None]
Change = Callable[[nn.Module], Undo]


def apply_valid(network: nn.Module, changes: Sequence[Change], holds: Callable[[], bool]) -> list[Change]:
    """Makes the changes under which `holds` stays true, found by halving; returns them."""
    if not changes:
        return []
    undos = [change(network) for change in changes]
    try:
        if holds():
            return list(changes)
    except torch.OutOfMemoryError:
        raise  # this error does not depend on the changes
    except Exception as error:  # any error after a change means that the change is not valid
        LOG.info("%s: left out some or all of %d changes: %s", type(network).__name__, len(changes), error)
    for undo in reversed(undos):
        undo()
    if len(changes) == 1:
        return []
    half = len(changes) // 2
    return apply_valid(network, changes[:half], holds) + apply_valid(network, changes[half:], holds)


def put(network: nn.Module, name: str, module: nn.Module) -> Undo:
    before = network.get_submodule(name)
    network.set_submodule(name, module.train(before.training))
    return lambda: network.set_submodule(name, before)


def forward_of(module: nn.Module) -> object:
    """The forward function of a module's class; scripted modules have none."""
    return getattr(type(module), "forward", None)


def is_plain(module: nn.Module, forwards: Collection[Callable[..., Any]]) -> bool:
    """Whether a module computes one of `forwards` from its own parameters, without hooks."""
    attached = (
        module._forward_hooks or module._forward_pre_hooks or module._backward_hooks or module._backward_pre_hooks
    )
    is_usual = forward_of(module) in forwards and "forward" not in vars(module)
    return is_usual and not attached and not is_parametrized(module)
