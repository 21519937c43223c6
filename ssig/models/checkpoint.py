"""Local checkpoints: a state dict from a file, without running anything that the file holds, and into a network.

Accepted are ``.pt`` and ``.pth`` (read with `weights_only=True`) and ``.safetensors``. The state dict may be nested
under ``state_dict`` or ``model``, and its names may carry the ``module.`` of data-parallel training.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Collection, Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from ssig.errors import ModelError, UsageError

SUFFIXES = (".pt", ".pth", ".safetensors")
NESTED = ("state_dict", "model")
PARALLEL = "module."

State = Mapping[str, Tensor]


def find(path: Path) -> Path:
    """The path, if it is a file with a suffix of a checkpoint.

    Raises:
        UsageError: it is not.
    """
    if path.suffix.lower() not in SUFFIXES or not path.is_file():
        raise UsageError("model.weights", str(path), f"an existing file ending in {', '.join(SUFFIXES)}")
    return path


def read(path: Path) -> State:
    """The state dict of a checkpoint, on the CPU.

    Raises:
        ModelError: the file is damaged, holds code, or holds no state dict.
    """
    try:
        if path.suffix.lower() == ".safetensors":
            content = safetensors.torch.load_file(path, device="cpu")
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the readers meet damaged bytes with whatever exception comes first
        raise ModelError(f"checkpoint {path}: {complaint(error)}") from error
    return _state(content, path)


def load_into(network: nn.Module, state: State, source: object, *, by_order: bool = False) -> None:
    """Loads a state dict into a network; every name and shape must agree.

    Args:
        network: is changed; after an error it is half loaded and of no use.
        state: name -> tensor.
        source: where the state comes from, for messages.
        by_order: a state whose names are all foreign to the network is matched by position.

    Raises:
        ModelError: names are missing or unexpected, or shapes differ.
    """
    own = network.state_dict()
    if by_order and not own.keys() & state.keys() and len(own) == len(state):
        state = dict(zip(own, state.values(), strict=True))
    differing = [
        f"{name} {tuple(tensor.shape)} where the network has {tuple(own[name].shape)}"
        for name, tensor in state.items()
        if name in own and tensor.shape != own[name].shape
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
        raise ModelError(f"checkpoint {source} does not fit the network: " + "; ".join(filter(None, problems)))


def _state(content: Any, path: Path) -> State:
    for key in NESTED:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not content:
        raise ModelError(f"checkpoint {path}: holds a {type(content).__name__} and no state dict (name -> tensor)")
    unnamed = [f"{name!r} ({type(name).__name__})" for name in content if not isinstance(name, str)]
    if unnamed:
        raise ModelError(f"checkpoint {path}: {_listed('names that are no text', unnamed)}")
    foreign = [f"{name} ({type(value).__name__})" for name, value in content.items() if not isinstance(value, Tensor)]
    if foreign:
        raise ModelError(f"checkpoint {path}: {_listed('entries that are no tensors', foreign)}")
    if not all(name.startswith(PARALLEL) for name in content):
        return content
    state = OrderedDict((name.removeprefix(PARALLEL), tensor) for name, tensor in content.items())
    # Some modules refuse a state dict without the version of each submodule, which torch keeps beside the entries.
    versions = getattr(content, "_metadata", None)
    if versions is not None:
        kept = {f"{name}.".removeprefix(PARALLEL)[:-1]: version for name, version in versions.items() if name}
        state._metadata = kept  # type: ignore[attr-defined]
    return state


def _listed(what: str, names: Collection[str], most: int = 3) -> str:
    if not names:
        return ""
    shown = ", ".join(list(names)[:most])
    return f"{what}: {shown}" + (f" and {len(names) - most} more" if len(names) > most else "")


def complaint(error: Exception) -> str:
    """What is wrong with a file, in one line in place of the readers' own texts, which advise to trust the file."""
    text = str(error)
    if "TorchScript" in text:
        return "is a TorchScript program; only a state dict of tensors is loaded"
    if ".tar format" in text:
        return "is in torch's old .tar format, which may hold code; only a state dict of tensors is loaded"
    if code := re.search(r"GLOBAL ((?:\w+\.)+\w+)", text):
        return f"holds pickled code ({code[1]}); only a state dict of tensors is loaded"
    reason = "" if isinstance(error, UnpicklingError) else text.partition("\n")[0].partition(". ")[0]
    return f"is damaged, cut short or no checkpoint ({type(error).__name__}{reason and ': ' + reason})"
