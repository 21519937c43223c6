"""Checkpoints that are foreign, damaged or hostile: none runs code, and each is refused in one line that names it.

What `test_checkpoint.py` has is not repeated: missing, unexpected and misshapen entries, truncation, whole modules.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import tarfile
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from ssig.errors import ModelError
from ssig.models import checkpoint


def network() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4, 2))


class Trap:
    """Unpickled, it makes a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (str(self.folder),)


def saved(content: object, **options: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, **options)
    return buffer.getvalue()


STATE = dict(network().state_dict())
WHOLE = saved(STATE)


def safetensors(header: object, size: int | None = None, data: bytes = b"") -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text) if size is None else size) + text + data


def a_zip_that_climbs() -> bytes:
    buffer = io.BytesIO(WHOLE)
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.writestr("../../climbed", "x")
    return buffer.getvalue()


def a_tar() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("../climbed"), io.BytesIO())
    return buffer.getvalue()


def nested(levels: int) -> dict[str, Any]:
    content: dict[str, Any] = dict(STATE)
    for level in range(levels):
        content = {("state_dict", "model")[level % 2]: content}
    return content


TENSOR = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
CASES: dict[str, tuple[str, Callable[[Path], bytes], str]] = {
    "code": ("a.pt", lambda folder: saved(Trap(folder / "sprung")), r"holds pickled code \(\w+\.mkdir\)"),
    "code beside tensors": (
        "a.pth",
        lambda folder: saved({**STATE, "x": Trap(folder / "sprung")}),
        r"holds pickled code \(\w+\.mkdir\)",
    ),
    "code in a name": (
        "a.pt",
        lambda folder: saved({**STATE, (Trap(folder / "sprung"),): torch.zeros(1)}),
        r"holds pickled code",
    ),
    "a bare pickle": ("a.pt", lambda folder: pickle.dumps(Trap(folder / "sprung")), r"no checkpoint|pickled code"),
    "code, the old format": (
        "a.pth",
        lambda folder: saved(Trap(folder / "sprung"), _use_new_zipfile_serialization=False),
        r"holds pickled code",
    ),
    "code as safetensors": ("a.safetensors", lambda folder: saved(Trap(folder / "sprung")), "no checkpoint"),
    "safetensors as pt": ("a.pt", lambda _: safetensors({"x": TENSOR}, data=bytes(8)), "no checkpoint"),
    "an array": ("a.pt", lambda _: saved({"x": np.zeros(3)}), r"holds pickled code \(numpy"),
    "names that are numbers": (
        "a.pt",
        lambda _: saved({1: torch.zeros(1), **STATE}),
        r"names that are no text: 1 \(int\)",
    ),
    "a list": ("a.pt", lambda _: saved(list(STATE.values())), "holds a list and no state dict"),
    "text": ("a.pt", lambda _: saved("weights"), "holds a str and no state dict"),
    "nothing": ("a.pt", lambda _: saved(None), "holds a NoneType and no state dict"),
    "nested too deep": ("a.pt", lambda _: saved(nested(6)), r"entries that are no tensors: \w+ \(dict\)"),
    "another network": (
        "a.pt",
        lambda _: saved(dict(nn.LSTM(3, 4).state_dict())),
        r"missing: 0\.weight, .* and 1 more; unexpected: weight_ih_l0, .* and 1 more$",
    ),
    "one shape": (
        "a.pt",
        lambda _: saved({**STATE, "2.weight": torch.zeros(2, 5)}),
        r"differing shapes: 2\.weight \(2, 5\) where the network has \(2, 4\)$",
    ),
    "sparse": ("a.pt", lambda _: saved({**STATE, "2.bias": torch.zeros(2).to_sparse()}), r"does not fit|is damaged"),
    "a zip of nothing": ("a.pt", lambda _: b"PK\x05\x06" + bytes(18), "no checkpoint"),
    "a tar": ("a.pt", lambda _: a_tar(), r"is in torch's old \.tar format"),
    "a zip that climbs": ("a.pt", lambda _: a_zip_that_climbs(), "no checkpoint"),
    "a header of 2^63 bytes": ("a.safetensors", lambda _: safetensors({}, 2**63), "no checkpoint"),
    "a header past the end": ("a.safetensors", lambda _: safetensors({}, 10_000), "no checkpoint"),
    "no header": ("a.safetensors", lambda _: safetensors([]), "no checkpoint"),
    "data past the end": ("a.safetensors", lambda _: safetensors({"x": TENSOR}), "no checkpoint"),
    "a terabyte": (
        "a.safetensors",
        lambda _: safetensors({"x": {**TENSOR, "shape": [2**38], "data_offsets": [0, 2**40]}}),
        "no checkpoint",
    ),
    "shape and data that differ": (
        "a.safetensors",
        lambda _: safetensors({"x": {**TENSOR, "shape": [9]}}, data=bytes(8)),
        "no checkpoint",
    ),
    "an empty safetensors": ("a.safetensors", lambda _: safetensors({}), "holds a dict and no state dict"),
}


@pytest.mark.parametrize("name", CASES)
def test_a_bad_checkpoint_is_one_line_and_runs_nothing(name: str, tmp_path: Path) -> None:
    file, make, message = CASES[name]
    folder = tmp_path / "deep" / "er"
    folder.mkdir(parents=True)
    path = folder / file
    path.write_bytes(make(tmp_path))
    with pytest.raises(ModelError, match=message) as caught:
        checkpoint.load_into(network(), checkpoint.read(path), path)
    assert str(caught.value).startswith(f"checkpoint {path}")
    assert "\n" not in str(caught.value)
    assert "weights_only" not in str(caught.value)
    assert [found for found in tmp_path.rglob("*") if found.is_file()] == [path]
    assert not (tmp_path / "sprung").exists()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    start=st.integers(0, len(WHOLE)),
    noise=st.binary(max_size=60),
    suffix=st.sampled_from([".pt", ".safetensors"]),
)
def test_changed_bytes_are_a_state_or_a_model_error(start: int, noise: bytes, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes(WHOLE[:start] + noise + WHOLE[start + len(noise) :])
    with suppress(ModelError):
        checkpoint.load_into(network(), checkpoint.read(path), path)
