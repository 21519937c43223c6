"""The start of the command: a file of the user that hides a package is named; `ssig` alone opens a run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import ssig

ROOT = Path(__file__).resolve().parents[2]


def python(*arguments: str, path: Path | str = "", cwd: Path = ROOT, **more: str) -> subprocess.CompletedProcess[str]:
    """Python with `path` before the project on its module search path."""
    found = os.pathsep.join([str(path), str(ROOT)] if path else [str(ROOT)])
    environment = {**os.environ, "PYTHONPATH": found, **more}
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("package", ["jobs", "pipeline"])
@pytest.mark.parametrize("kind", ["file", "package", "folder"])
def test_a_file_that_hides_a_package_is_named_in_one_line(package: str, kind: str, tmp_path: Path) -> None:
    if kind == "file":
        named = tmp_path / f"{package}.py"
        named.write_text("x = 1\n")
    else:
        named = tmp_path / package
        named.mkdir()
        (named / "__init__.py").write_text("")
    # A folder without __init__.py hides nothing from a path that comes later.
    if kind == "folder":
        (named / "__init__.py").unlink()
    done = python("-m", "ssig", "methods", "ssig", path=tmp_path, cwd=Path("/"))
    if kind == "folder":
        assert done.returncode == 0, done.stderr
        return
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert str(named) in line
    assert "rename it" in line


def test_open_run_names_the_file_that_hides_the_pipeline(tmp_path: Path) -> None:
    (tmp_path / "pipeline.py").write_text("x = 1\n")
    done = python("-c", "import ssig; ssig.open_run('anywhere')", path=tmp_path, cwd=Path("/"))
    assert f"ImportError: {tmp_path}/pipeline.py hides" in done.stderr


def test_open_run_says_what_to_install(tmp_path: Path) -> None:
    """Where only the library is there, as in an environment without Arrow."""
    code = "import sys; sys.modules['pyarrow'] = None; import ssig; ssig.open_run('anywhere')"
    done = python("-c", code, cwd=tmp_path)
    assert "ImportError: ssig.open_run needs pyarrow" in done.stderr
    assert "pip install" in done.stderr


def test_open_run_refuses_what_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(ssig.UsageError, match=r"run\.json"):
        ssig.open_run(tmp_path)


def test_every_public_name_is_there() -> None:
    assert all(getattr(ssig, name) is not None for name in ssig.__all__)
    assert set(ssig.__all__) <= set(dir(ssig))
    with pytest.raises(AttributeError, match="nothing"):
        _ = ssig.nothing
