"""``NAME:option=value,…`` as a name and its options."""

from __future__ import annotations

from typing import Any

import pytest

import ssig
from ssig.registry.choices import with_options


@pytest.mark.parametrize(
    ("text", "name", "options"),
    [
        ("ig", "ig", {}),
        ("ig:steps=64,rule=left", "ig", {"steps": 64, "rule": "left"}),
        ("ssig:low=.25,high=1e0,samples=auto", "ssig", {"low": 0.25, "high": 1.0, "samples": "auto"}),
        ("a:b=[1, 2.5],c=true,d=null,e='7'", "a", {"b": [1, 2.5], "c": True, "d": None, "e": "7"}),
        ("./mine.py:method:x=1", "./mine.py:method", {"x": 1}),
        ("a:b=nan,c={}", "a", {"b": "nan", "c": "{}"}),
    ],
)
def test_values_are_plain(text: str, name: str, options: dict[str, Any]) -> None:
    assert with_options("method", text) == (name, options)


@pytest.mark.parametrize("text", ["", "ig:steps=", "ig:steps=1,steps=2", "ig:name=2", "a:b"])
def test_slips_are_refused(text: str) -> None:
    with pytest.raises(ssig.UsageError, match=r"^methods: "):
        with_options("methods", text)
