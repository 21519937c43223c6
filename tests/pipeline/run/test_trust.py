"""Networks of the folder that a command is given in: found there, or said to be hidden and by what."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from pipeline.run.trust import import_from_working_folder
from ssig.errors import UsageError


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return tmp_path


@pytest.mark.parametrize("module", ["pipeline", "jobs", "ssig", "types", "statistics"])
@pytest.mark.parametrize("is_package", [False, True])
def test_a_module_that_is_hidden_is_named_with_what_hides_it(module: str, is_package: bool, here: Path) -> None:
    file = here / module / "__init__.py" if is_package else here / f"{module}.py"
    file.parent.mkdir(exist_ok=True)
    file.write_text("def tiny(): ...\n")
    with pytest.raises(UsageError) as refused:
        import_from_working_folder("runs/a", f"{module}:tiny")
    assert refused.value.field == "model.name"
    assert str(file.parent if is_package else file) in refused.value.allowed
    assert f"my_{module}:tiny" in refused.value.allowed


def test_other_modules_are_imported_from_here(here: Path) -> None:
    (here / "my_networks.py").write_text("def tiny(): ...\n")
    import_from_working_folder("runs/a", "my_networks:tiny")
    import_from_working_folder("runs/a", "pipeline.shards.photographs:write_photographs")  # there is no such file here
    assert sys.path[-1] == str(here)
