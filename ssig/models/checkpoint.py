"""Local checkpoints: a state dict from a file, without running anything that the file holds, and into a network.

Accepted are files as training leaves them: by `torch.save` (read with `weights_only=True`) and safetensors. The state
dict may be nested (``state_dict``, ``model_state_dict``, …) beside an optimiser's and others; that of averaged weights
(EMA) is taken only where there is no other. Its names may carry what wrapped the network: ``module.`` of data-parallel
training, ``_orig_mod.`` of `torch.compile`, ``model.`` of Lightning, in any order.
"""

from __future__ import annotations

import re
from argparse import Namespace
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping, Sequence, Set
from functools import partial
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from ssig.errors import ModelError, UsageError
from ssig.models.weight_files import SAFETENSORS, SUFFIXES, is_weight_file

# Where training puts the state dict, in the order in which they are taken; the second are averages of the first.
NESTED = ("state_dict", "model_state_dict", "model", "net", "network", "module", "weights")
AVERAGED = ("model_ema", "state_dict_ema", "ema_state_dict", "ema_model", "ema", "model_ema_state_dict")
COMPILED = "_orig_mod."
PREFIXES = ("module.", "model.", "network.", "net.")
# Entries of a state dict that need not be tensors: what `get_extra_state` gives.
EXTRA_STATE = "_extra_state"
# Beside the weights, averaged weights count their updates.
COUNTERS = frozenset({"n_averaged"})
CONVERT = 'torch.save(network.state_dict(), "weights.pt")'

State = Mapping[str, Any]


def find(path: Path) -> Path:
    """The path, if it is a file with a suffix of a checkpoint.

    Raises:
        UsageError: it is not.
    """
    if not is_weight_file(path.name) or not path.is_file():
        raise UsageError("model.weights", str(path), f"an existing file ending in {', '.join(SUFFIXES)}")
    return path


def read(path: Path, notes: list[str] | None = None) -> State:
    """The state dict of a checkpoint, on the CPU, under the names that it is stored with.

    Args:
        path: the file.
        notes: takes in what a person should know of the file, a sentence each.

    Raises:
        ModelError: the file is damaged, holds code, or holds no state dict.
    """
    try:
        if path.suffix.lower() == SAFETENSORS:
            content = safetensors.torch.load_file(path, device="cpu")
        else:
            # Training leaves its arguments beside the weights; a namespace of them does nothing when it is read.
            with torch.serialization.safe_globals([Namespace]):
                content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the readers meet damaged bytes with whatever exception comes first
        raise ModelError(f"checkpoint {path}: {complaint(error)}") from error
    return _state(content, path, [] if notes is None else notes)


def load_into(network: nn.Module, state: State, source: object, *, by_order: bool = False) -> None:
    """Loads a state dict into a network; every name and shape must agree, but for prefixes that all names share.

    Args:
        network: is changed; after an error it is half loaded and of no use.
        state: name -> tensor.
        source: where the state comes from, for messages.
        by_order: a state whose names are all foreign to the network is matched by position.

    Raises:
        ModelError: names are missing or unexpected, or shapes differ.
    """
    own = network.state_dict()
    state = _unwrapped(state, own.keys())
    if by_order and not own.keys() & state.keys() and len(own) == len(state):
        state = dict(zip(own, state.values(), strict=True))
    differing = [
        f"{name} {tuple(tensor.shape)} where the network has {tuple(own[name].shape)}"
        for name, tensor in state.items()
        if isinstance(own.get(name), Tensor) and isinstance(tensor, Tensor) and tensor.shape != own[name].shape
    ]
    try:
        # `strict=False` leaves it to us to name missing and unexpected entries, but torch raises for shapes still.
        found = None if differing else network.load_state_dict(state, strict=False)
    except (RuntimeError, ValueError) as error:  # a module's own checks
        raise ModelError(f"checkpoint {source} does not fit the network: {' '.join(str(error).split())}") from error
    problems = [
        _listed("differing shapes", differing),
        _listed("missing", [] if found is None else found.missing_keys),
        _listed("unexpected", [] if found is None else found.unexpected_keys),
    ]
    if any(problems):
        advice = _other_width(differing, state, own)
        raise ModelError(
            f"checkpoint {source} does not fit the network: " + "; ".join(filter(None, problems)) + advice
        )


def _other_width(differing: Sequence[str], state: State, own: State) -> str:
    """What to do about a checkpoint that fits but for its classifier; empty where that is not so."""
    names = [
        name for name in own if isinstance(own[name], Tensor) and name in state and isinstance(state[name], Tensor)
    ]
    wrong = [name for name in names if state[name].shape != own[name].shape]
    same_layer = {name.rpartition(".")[0] for name in wrong}
    alike = all(state[name].shape[1:] == own[name].shape[1:] for name in wrong)
    if len(same_layer) != 1 or not alike or all(own[name].ndim == 1 for name in wrong):
        return ""
    has, wants = (int(of[wrong[0]].shape[0]) for of in (state, own))
    return (
        f" (the file's classifier has {has} classes, the network's {wants}: build the network with {has} classes in a "
        "function of a file of yours and name it as FILE:FUNCTION)"
    )


def _unwrapped(state: State, own: Set[str]) -> State:
    """The entries under the network's own names: less what wrappers put before them, where that finds more of them.

    A prefix comes off if all entries have it. If some have not, those beside it are of the training (a loss, metrics,
    averaged weights), and may go where the network lacks nothing without them.
    """
    best, current = state, state
    changes: list[Callable[[State], State]] = [_uncompiled]
    changes += [partial(_without, prefix=prefix) for prefix in PREFIXES * 2]
    for change in changes:
        changed = change(current)
        whole = len(changed) >= len(current) - len(COUNTERS & current.keys())
        if changed and (whole or own <= changed.keys()):
            current = changed
            if len(own & current.keys()) > len(own & best.keys()):
                best = current
    return best


def _uncompiled(state: State) -> State:
    return _renamed(state, lambda name: name.replace(COMPILED, ""))


def _without(state: State, prefix: str) -> State:
    """The entries with a prefix, without it."""
    return _renamed(state, lambda name: name.removeprefix(prefix) if f"{name}.".startswith(prefix) else None)


def _renamed(state: State, rename: Callable[[str], str | None]) -> State:
    renamed = OrderedDict((new, value) for name, value in state.items() if (new := rename(name)))
    # Some modules refuse a state dict without the version of each submodule, which torch keeps beside the entries.
    versions = getattr(state, "_metadata", None)
    if versions is not None:
        kept = {(rename(f"{name}.") or "")[:-1]: version for name, version in versions.items() if name}
        renamed._metadata = kept  # type: ignore[attr-defined]
    return renamed


def _state(content: Any, path: Path, notes: list[str]) -> State:
    content = _nested(content, path, notes)
    if not isinstance(content, Mapping) or not content:
        raise ModelError(f"checkpoint {path}: holds a {type(content).__name__} and no state dict (name -> tensor)")
    unnamed = [f"{name!r} ({type(name).__name__})" for name in content if not isinstance(name, str)]
    if unnamed:
        raise ModelError(f"checkpoint {path}: {_listed('names that are no text', unnamed)}")
    foreign = [
        f"{name} ({type(value).__name__})"
        for name, value in content.items()
        if not isinstance(value, Tensor) and name.rpartition(".")[2] != EXTRA_STATE
    ]
    if foreign:
        raise ModelError(
            f"checkpoint {path}: is more than a state dict (store one by {CONVERT}); "
            + _listed("entries that are no tensors", foreign)
        )
    return content


def _nested(content: Any, path: Path, notes: list[str]) -> Any:
    """What is under the names of `NESTED`, or else of `AVERAGED`, at most twice over."""
    for _ in range(2):
        if not isinstance(content, Mapping):
            break
        found = [key for key in (*NESTED, *AVERAGED) if _is_state(content.get(key))]
        if not found:
            break
        averaged = [key for key in found if key in AVERAGED]
        if averaged:
            others = f"and not {averaged[0]}" if found[0] not in AVERAGED else "averaged weights"
            notes.append(f"of checkpoint {path.name} {found[0]} is taken, {others}")
        content = content[found[0]]
    return content


def _is_state(value: Any) -> bool:
    """Whether it may be a state dict, or hold one: a mapping that is not empty."""
    return isinstance(value, Mapping) and bool(value)


def _listed(what: str, names: Collection[str], most: int = 3) -> str:
    if not names:
        return ""
    shown = ", ".join(list(names)[:most])
    return f"{what}: {shown}" + (f" and {len(names) - most} more" if len(names) > most else "")


def complaint(error: Exception) -> str:
    """What is wrong with a file, in one line in place of the readers' own texts, which advise to trust the file."""
    text = str(error)
    if "TorchScript" in text:
        return (
            "is a TorchScript program; only a state dict of tensors is loaded. Where you trust the file: "
            'torch.save(torch.jit.load(FILE).state_dict(), "weights.pt")'
        )
    if ".tar format" in text:
        return "is in torch's old .tar format, which may hold code; only a state dict of tensors is loaded"
    if code := re.search(r"GLOBAL ((?:\w+\.)+\w+)", text):
        advice = f"Where the network is made: {CONVERT}"
        return f"holds pickled code ({code[1]}); only a state dict of tensors is loaded. {advice}"
    reason = "" if isinstance(error, UnpicklingError) else text.partition("\n")[0].partition(". ")[0]
    return f"is damaged, cut short or no checkpoint ({type(error).__name__}{reason and ': ' + reason})"
