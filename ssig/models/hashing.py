"""The identity of a network's weights: SHA-256 over its state dict, the same in every process and on every device."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Set
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

# The default `repr` of objects contains their memory address, which differs between processes.
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")


def hash_state(module: nn.Module) -> str:
    """SHA-256 in hex over a module's state dict: names, types, shapes and bytes.

    Other entries, from `get_extra_state`, are converted by `canonical`.
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
    """A unique byte string of a value: a container, tensor, array or plain value; for other types, of its `repr`.

    Bytes of pickle and `torch.save` are not unique: they depend on object identity and on the library's version.
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
    """A kind and parts with their lengths, so that different lists of parts give different bytes."""
    return f"{kind} {len(parts)}\0".encode() + b"".join(f"{len(part)}\0".encode() + part for part in parts)
