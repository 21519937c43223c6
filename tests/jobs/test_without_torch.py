"""What needs no network is answered without importing torch, which takes seconds and 500 MB."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SLOW = (
    *("torch", "torchvision", "timm", "ray", "scipy", "sklearn", "skimage", "matplotlib"),
    *("numpy", "PIL", "pyarrow", "duckdb", "webdataset", "jinja2"),
)
# Tells who imports one of them first: the innermost file of ours on the stack.
WATCH = f"""
import sys, traceback
class Watch:
    def find_spec(self, name, path=None, target=None):
        # `missing` asks whether a package is there, and imports nothing.
        if name in {SLOW!r} and not any(frame.name == "missing" for frame in traceback.extract_stack()):
            ours = [f"{{frame.filename}}:{{frame.lineno}}" for frame in traceback.extract_stack()
                    if frame.filename.startswith({str(ROOT)!r})]
            print(f"IMPORTED {{name}} by {{ours[-1] if ours else 'a library'}}", file=sys.stderr)
sys.meta_path.insert(0, Watch())
from ssig.__main__ import main
main()
"""


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--help"], 0),
        (["--version"], 0),
        (["-h"], 0),
        (["attribute", "--help"], 0),
        (["init"], 0),
        (["metrics"], 0),
        (["methods"], 0),
        (["methods", "ig", "--json"], 0),
        (["metrics", "--json"], 0),
        (["metrics", "deltion"], 2),
        (["nonsense"], 2),
        (["attribute"], 2),
        (["attribute", "--shards", "a.tar", "--out", "run", "--method", "sigg"], 2),
        (["attribute", "--shards", "a.tar", "--out", "run", "--method", "ig:stepz=3"], 2),
        (["attribute", "--shards", "a.tar", "--out", "run", "--method", "ig", "--metric", "deletion:steps=0"], 2),
        (["attribute", "--shards", "a.tar", "--out", "run", "--precision", "fp8"], 2),
        (["attribute", "--nonsense"], 2),
        (["attribute", "--shards", "missing.tar", "--out", "run"], 2),
        (["attribute", "--shards", "missing-{0..3}.tar", "--out", "run", "--method", "ig"], 2),
        (["attribute", "--shards", "a.tar", "--out", "run", "--set", "limt=3"], 2),
        (["attribute", "missing.yaml"], 2),
        (["attribute", "--images", "missing", "--out", "run", "--method", "ig"], 2),
        (["attribute", "--images", ".", "--labels", "missing.csv", "--out", "run", "--method", "ig"], 2),
        (["pack", "missing", "--out", "shards"], 2),
        (["pack", ".", "--masks", "missing", "--out", "shards"], 2),
        (["browse", "run"], 2),
        (["submit", "missing.yaml", "--address", "http://127.0.0.1:8265"], 2),
        (["paper", "--shards", "missing.tar", "--out", "figures"], 2),
        (["paper", "--target", "labl", "--out", "figures"], 2),
        (["demo", "--nonsense"], 2),
        (["bench", "nonsense"], 2),
        (["evaluate", "run", "--metric", "deltion"], 2),
        (["evaluate", "run", "--metric", "deletion"], 2),
        (["report", "run"], 2),
        (["status", "run"], 2),
        (["audit", "run"], 2),
    ],
)
def test_it_is_answered_without_slow_imports(arguments: list[str], code: int, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WATCH, *arguments],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert [line for line in done.stderr.splitlines() if line.startswith("IMPORTED")] == []
    assert done.returncode == code, done.stderr


def test_an_import_of_torch_is_noticed(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WATCH.replace("main()\n", "import ssig.methods\n")],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "IMPORTED torch by " in done.stderr
    assert f"{ROOT}/ssig/" in done.stderr


def test_completion_imports_nothing_slow(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WATCH.replace("main()\n", "sys.argv[0] = 'ssig'\nmain()\n")],
        cwd=tmp_path,
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "_SSIG_COMPLETE": "complete_bash",
            "COMP_WORDS": "ssig attribute --method guided",
            "COMP_CWORD": "3",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.split() == ["guided-ig"]
    assert [line for line in done.stderr.splitlines() if line.startswith("IMPORTED")] == []
