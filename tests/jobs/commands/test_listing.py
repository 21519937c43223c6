"""What other packages bring is one line of a listing, and is imported only when it is named."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

SUPPORT = Path(__file__).resolve().parents[2] / "support"
sys.path.insert(0, str(SUPPORT))

from command_line import Cli, command_line  # noqa: E402


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    return command_line(monkeypatch, capsys)


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a module that installed metadata name, and that leaves a mark when it is imported."""
    folder = tmp_path / "my_methods-1.2.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: my-methods\nVersion: 1.2\n")
    (folder / "entry_points.txt").write_text("[ssig.methods]\nbroken = broken_module_of_a_test:method\n")
    (tmp_path / "broken_module_of_a_test.py").write_text("raise RuntimeError('imported\\nand broken')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    return "broken_module_of_a_test"


def test_it_is_listed_with_its_package_and_not_imported(cli: Cli, package: str) -> None:
    listing = cli("methods")
    assert listing.code == 0
    assert "broken (from my-methods 1.2): `ssig methods broken` shows its options" in listing.out.splitlines()
    assert {"name": "broken", "package": "my-methods", "version": "1.2", "options": [], "presets": {}} in json.loads(
        cli("methods", "--json").out
    )
    assert "broken" not in cli("methods", "--markdown").out
    assert "broken" not in cli("metrics").out
    assert cli("--help").code == 0
    assert package not in sys.modules


@pytest.mark.usefixtures("package")
def test_a_broken_one_is_one_line(cli: Cli) -> None:
    told = cli("methods", "broken")
    assert told.code == 2
    assert told.err.startswith("error: method: found 'broken'; ")
    assert "importing it from my-methods 1.2 failed" in told.err
    assert told.err.count("\n") == 1
