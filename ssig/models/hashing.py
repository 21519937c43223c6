"""The identity of a network's weights: SHA-256 over its state dict, the same in every process and on every device."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Set
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

# What `repr` says of objects that have none of their own: where they lie in memory, which differs between processes.
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")


def hash_state(module: nn.Module) -> str:
    """SHA-256 in hex over a module's state dict: names, types, shapes and bytes.

    Entries that are no tensors, which `get_extra_state` gives, count by `canonical`.
    """
    digest = hashlib.sha256()
    for name, entry in sorted(module.state_dict().items()):
        if isinstance(entry, Tensor):
            digest.update(f"{name}\0{entry.dtype}\0{tuple(entry.shape)}\0".encode())
            digest.update(_bytes(entry).data)
        else:
            digest.update(f"{name}\0".encode() + canonical(entry))
    return digest.hexdigest()


def canonical(value: Any) -> bytes:
    """The one byte string of a value of containers, tensors, arrays and plain values; of anything else its `repr`.

    Neither pickle nor `torch.save` gives one: they tell equal objects from identical ones, and their versions differ.
    """
    if isinstance(value, Tensor):
        return _framed(f"tensor {value.dtype} {tuple(value.shape)}", _bytes(value).tobytes())
    if isinstance(value, (np.ndarray, np.generic)):
        array = np.asarray(value)
        if array.dtype != object:
            return _framed(f"array {array.dtype.str} {array.shape}", array.tobytes())
        return _framed(f"array {array.shape}", canonical(array.tolist()))
    if isinstance(value, Mapping):
        pairs = sorted(canonical(key) + canonical(inner) for key, inner in value.items())
        return _framed("mapping", *pairs)
    if isinstance(value, Set):
        return _framed("set", *sorted(map(canonical, value)))
    if isinstance(value, (list, tuple)):
        return _framed("sequence", *map(canonical, value))
    if isinstance(value, (bytes, bytearray)):
        return _framed("bytes", bytes(value))
    return _framed(type(value).__qualname__, _ADDRESS.sub("", repr(value)).encode())


def _bytes(tensor: Tensor) -> np.ndarray:
    tensor = tensor.detach().cpu()
    if tensor.layout != torch.strided:
        tensor = tensor.to_dense()
    flat: np.ndarray = tensor.resolve_conj().resolve_neg().contiguous().reshape(-1).view(torch.uint8).numpy()
    return flat


def _framed(kind: str, *parts: bytes) -> bytes:
    """A kind and parts with their lengths, so that no two lists of parts read the same."""
    return f"{kind} {len(parts)}\0".encode() + b"".join(f"{len(part)}\0".encode() + part for part in parts)
