"""What all tests share: one thread per process, and the real images where they are at hand."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

# Before torch is imported: with one thread, sums have one order and tests on few cores do not fight for them.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]
# Modules for tests lie apart: beside tests/ssig and tests/pipeline they would hide the packages of those names.
SUPPORT = ROOT / "tests" / "support"

torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))


@pytest.fixture(scope="session")
def dev_shards() -> list[Path]:
    """Shards of real ImageNet images, in order of name; ``SSIG_DEV_SHARDS`` names their folder."""
    folder = Path(os.environ.get("SSIG_DEV_SHARDS", ROOT.parent / "shared" / "imagenet"))
    shards = sorted(folder.glob("*.tar"))
    if not shards:
        pytest.skip(f"no development shards in {folder} (SSIG_DEV_SHARDS)")
    return shards


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of a browser; without one the tests are skipped, or fail if ``SSIG_TEST_BROWSER`` is ``required``."""
    paths = [path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))]
    if not paths and os.environ.get("SSIG_TEST_BROWSER") == "required":
        pytest.fail("no chromium and no google-chrome in PATH")
    if not paths:
        pytest.skip("no chromium and no google-chrome in PATH")
    return paths[0]


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    """A local Ray with two cores and four logical GPUs, shared by all tests."""
    import ray

    sys.path.insert(0, str(SUPPORT))
    # A cluster of its own, whatever else runs on this machine.
    quiet = {"include_dashboard": False, "log_to_driver": False, "logging_level": "ERROR"}
    ray.init("local", num_cpus=2, num_gpus=4, **quiet)
    yield
    ray.shutdown()
    sys.path.remove(str(SUPPORT))


@pytest.fixture(autouse=True, scope="session")
def rounding() -> Iterator[None]:
    """With ``SSIG_TEST_ROUNDING=other``, networks of this process round as on another machine."""
    if os.environ.get("SSIG_TEST_ROUNDING") != "other":
        yield
        return
    sys.path.insert(0, str(SUPPORT))
    from other_kernels import round_otherwise

    handle = round_otherwise()
    yield
    handle.remove()
