"""Names of the files that weights are kept in; apart from their reader, which takes seconds to import."""

from __future__ import annotations

SAFETENSORS = ".safetensors"
SUFFIXES = (".pt", ".pth", ".pth.tar", ".ckpt", ".bin", SAFETENSORS)


def is_weight_file(name: str) -> bool:
    """Whether a name ends as that of a file of weights does."""
    return name.lower().endswith(SUFFIXES)
