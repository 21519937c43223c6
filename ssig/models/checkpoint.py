"""Local checkpoints: reads a state dict from a file, without running code in it, and loads it into a network.

Files of `torch.save` (read with `weights_only=True`) and of safetensors are accepted. The state dict may be nested
(``state_dict``, ``model_state_dict``, …) beside an optimiser's and others; averaged weights (EMA) are used only if
there are no others. Names may have the prefixes of wrappers, in any order: ``module.`` of data-parallel training,
``_orig_mod.`` of `torch.compile`, ``model.`` of Lightning.
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

# Keys under which training stores the state dict, in order of precedence; AVERAGED holds averages of the weights.
NESTED = ("state_dict", "model_state_dict", "model", "net", "network", "module", "weights")
AVERAGED = ("model_ema", "state_dict_ema", "ema_state_dict", "ema_model", "ema", "model_ema_state_dict")
COMPILED = "_orig_mod."
PREFIXES = ("module.", "model.", "network.", "net.")
# Entries of a state dict that may be other than tensors: results of `get_extra_state`.
EXTRA_STATE = "_extra_state"
# Averaged weights have a counter of updates beside the weights.
COUNTERS = frozenset({"n_averaged"})
CONVERT = 'torch.save(network.state_dict(), "weights.pt")'

State = Mapping[str, Any]


def find(path: Path) -> Path:
    """Checks that a path is a file with the suffix of a checkpoint, and returns it.

    Raises:
        UsageError: there is no such file, or its suffix is another.
    """
    if not is_weight_file(path.name) or not path.is_file():
        raise UsageError("model.weights", str(path), f"an existing file ending in {', '.join(SUFFIXES)}")
    return path


def read(path: Path, notes: list[str] | None = None) -> State:
    """The state dict of a checkpoint, on the CPU, with the names in the file.

    Args:
        path: the file.
        notes: warnings about the file are appended, a sentence each.

    Raises:
        ModelError: the file is damaged, holds code, or holds no state dict.
    """
    try:
        if path.suffix.lower() == SAFETENSORS:
            content = safetensors.torch.load_file(path, device="cpu")
        else:
            # Training often stores its arguments too, in a Namespace, which is safe to read.
            with torch.serialization.safe_globals([Namespace]):
                content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the readers raise any type of exception for damaged bytes
        raise ModelError(f"checkpoint {path}: {complaint(error)}") from error
    return _state(content, path, [] if notes is None else notes)


def load_into(network: nn.Module, state: State, source: object, *, by_order: bool = False) -> None:
    """Loads a state dict into a network; all names and shapes must agree, except for prefixes that all names share.

    Args:
        network: is changed; do not use it after an error, it is partly loaded.
        state: name -> tensor.
        source: where the state comes from, for messages.
        by_order: match entries by position if the network has none of the names.

    Raises:
        ModelError: names are missing or unexpected, or shapes differ.
    """
    expected = network.state_dict()
    state = _unwrapped(state, expected.keys())
    if by_order and not expected.keys() & state.keys() and len(expected) == len(state):
        state = dict(zip(expected, state.values(), strict=True))
    differing = [
        f"{name} {tuple(tensor.shape)} where the network has {tuple(expected[name].shape)}"
        for name, tensor in state.items()
        if isinstance(expected.get(name), Tensor)
        and isinstance(tensor, Tensor)
        and tensor.shape != expected[name].shape
    ]
    try:
        # `strict=False`: missing and unexpected entries are reported below; torch still raises for wrong shapes.
        mismatch = None if differing else network.load_state_dict(state, strict=False)
    except (RuntimeError, ValueError) as error:  # a module's own checks
        raise ModelError(f"checkpoint {source} does not fit the network: {' '.join(str(error).split())}") from error
    problems = [
        _listed("differing shapes", differing),
        _listed("missing", [] if mismatch is None else mismatch.missing_keys),
        _listed("unexpected", [] if mismatch is None else mismatch.unexpected_keys),
    ]
    if any(problems):
        advice = _other_width(differing, state, expected)
        raise ModelError(
            f"checkpoint {source} does not fit the network: " + "; ".join(filter(None, problems)) + advice
        )


def _other_width(differing: Sequence[str], state: State, expected: State) -> str:
    """Advice for a checkpoint that fits except for its classifier; else empty."""
    names = [
        name for name, tensor in expected.items() if isinstance(tensor, Tensor) and isinstance(state.get(name), Tensor)
    ]
    wrong = [name for name in names if state[name].shape != expected[name].shape]
    same_layer = {name.rpartition(".")[0] for name in wrong}
    alike = all(state[name].shape[1:] == expected[name].shape[1:] for name in wrong)
    if len(same_layer) != 1 or not alike or all(expected[name].ndim == 1 for name in wrong):
        return ""
    has, wants = (int(of[wrong[0]].shape[0]) for of in (state, expected))
    return (
        f" (the file's classifier has {has} classes, the network's {wants}: build the network with {has} classes in a "
        "function of a file of yours and name it as FILE:FUNCTION)"
    )


def _unwrapped(state: State, names: Set[str]) -> State:
    """The entries without the prefixes of wrappers, if more of the network's names are then found.

    A prefix is removed if all entries have it. Entries without it belong to the training (a loss, metrics, averaged
    weights); they are dropped if the network needs none of them.
    """
    best, current = state, state
    changes: list[Callable[[State], State]] = [_uncompiled]
    changes += [partial(_without, prefix=prefix) for prefix in PREFIXES * 2]
    for change in changes:
        changed = change(current)
        whole = len(changed) >= len(current) - len(COUNTERS & current.keys())
        if changed and (whole or names <= changed.keys()):
            current = changed
            if len(names & current.keys()) > len(names & best.keys()):
                best = current
    return best


def _uncompiled(state: State) -> State:
    return _renamed(state, lambda name: name.replace(COMPILED, ""))


def _without(state: State, prefix: str) -> State:
    """The entries that have a prefix, with the prefix removed."""
    return _renamed(state, lambda name: name.removeprefix(prefix) if f"{name}.".startswith(prefix) else None)


def _renamed(state: State, rename: Callable[[str], str | None]) -> State:
    renamed = OrderedDict((new, value) for name, value in state.items() if (new := rename(name)))
    # Some modules refuse a state dict without the versions of submodules, which torch stores in `_metadata`.
    versions = getattr(state, "_metadata", None)
    if versions is not None:
        renamed_versions = {(rename(f"{name}.") or "")[:-1]: version for name, version in versions.items() if name}
        renamed._metadata = renamed_versions  # type: ignore[attr-defined]
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
    """The content under a key of `NESTED`, or else of `AVERAGED`, at most two levels deep."""
    for _ in range(2):
        if not isinstance(content, Mapping):
            break
        keys = [key for key in (*NESTED, *AVERAGED) if _is_state(content.get(key))]
        if not keys:
            break
        averaged = [key for key in keys if key in AVERAGED]
        if averaged:
            others = f"and not {averaged[0]}" if keys[0] not in AVERAGED else "averaged weights"
            notes.append(f"checkpoint {path.name}: {keys[0]} is used, {others}")
        content = content[keys[0]]
    return content


def _is_state(value: Any) -> bool:
    """Whether a value may be a state dict or contain one: a mapping that is not empty."""
    return isinstance(value, Mapping) and bool(value)


def _listed(what: str, names: Collection[str], most: int = 3) -> str:
    if not names:
        return ""
    shown = ", ".join(list(names)[:most])
    return f"{what}: {shown}" + (f" and {len(names) - most} more" if len(names) > most else "")


def complaint(error: Exception) -> str:
    """The reason in one line; the readers' own texts, which advise to trust the file, are replaced."""
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
