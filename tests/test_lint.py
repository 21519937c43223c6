"""The linters fire: one planted violation for each family of rules that the project selects."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
CONFIG = ROOT / "pyproject.toml"

# family -> (code, a file that breaks it)
PLANTED = {
    "E": ("E711", "import sys\n\nprint(sys.argv == None)\n"),
    "F": ("F401", "import os\n"),
    "I": ("I001", "import sys\nimport ast\n\nprint(sys, ast)\n"),
    "UP": ("UP035", "from typing import List\n\nprint(List[int])\n"),
    "B": ("B006", "def f(x=[]):\n    return x\n"),
    "C4": ("C405", "print(set([1]))\n"),
    "SIM": ("SIM103", "def f(x):\n    if x:\n        return True\n    else:\n        return False\n"),
    "RUF": ("RUF005", "x = [2]\nprint([1] + x)\n"),
    "PT": ("PT011", "import pytest\n\n\ndef test_f():\n    with pytest.raises(ValueError):\n        int('x')\n"),
    "N": ("N802", "def Bad():\n    pass\n"),
}


def ruff(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ruff", *map(str, arguments), "--config", str(CONFIG), "--no-cache"]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)


def test_every_selected_family_has_a_planted_violation() -> None:
    selected = tomllib.loads(CONFIG.read_text())["tool"]["ruff"]["lint"]["select"]
    assert sorted(PLANTED) == sorted(selected)


@pytest.mark.parametrize("family", PLANTED)
def test_ruff_fires_on_each_family(family: str, tmp_path: Path) -> None:
    planted = tmp_path / "planted.py"
    code, source = PLANTED[family]
    planted.write_text(source)
    result = ruff("check", "--output-format=json", planted)
    assert result.returncode == 1
    assert code in {violation["code"] for violation in json.loads(result.stdout)}


def test_ruff_fires_on_a_long_line_and_on_formatting(tmp_path: Path) -> None:
    planted = tmp_path / "planted.py"
    planted.write_text("x = '" + "a" * 120 + "'\n")
    assert "E501" in ruff("check", planted).stdout
    assert ruff("format", "--check", planted).returncode == 1


def test_ruff_passes_clean_code(tmp_path: Path) -> None:
    clean = tmp_path / "clean.py"
    clean.write_text('"""A module."""\n\nx = 1\n')
    assert ruff("check", clean).returncode == 0
    assert ruff("format", "--check", clean).returncode == 0


def test_mypy_fires_on_an_untyped_function(tmp_path: Path) -> None:
    planted = tmp_path / "planted.py"
    planted.write_text("def f(x):\n    return x\n")
    command = [sys.executable, "-m", "mypy", "--config-file", str(CONFIG), "--cache-dir", str(tmp_path), str(planted)]
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert result.returncode == 1
    assert "[no-untyped-def]" in result.stdout
