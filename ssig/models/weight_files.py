"""Suffixes of weight files; a separate module, because importing the reader takes seconds."""

from __future__ import annotations

SAFETENSORS = ".safetensors"
SUFFIXES = (".pt", ".pth", ".pth.tar", ".ckpt", ".bin", SAFETENSORS)


def is_weight_file(name: str) -> bool:
    """Whether a name has the suffix of a weight file."""
    return name.lower().endswith(SUFFIXES)
