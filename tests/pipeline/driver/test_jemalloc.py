"""Actors on the CPU run on jemalloc where it is to be had, and give memory back through it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.driver.actor import remote_class
from pipeline.driver.jemalloc import SETTINGS, preloaded
from pipeline.unit.memory import memory

LIBRARY = "libjemalloc"

pytestmark = pytest.mark.skipif(
    not preloaded({}) or memory() is None, reason="this Ray brings no jemalloc, or this system has no /proc"
)

GIVES_BACK = """
import torch
from pipeline.unit.memory import memory
from ssig.acceleration.allocator import keep_memory, return_memory

keep_memory()
blocks = [torch.ones(10**7) for _ in range(10)]
del blocks
kept = memory().resident
return_memory()
print(kept - memory().resident)
"""


class Here:
    """Says which libraries its process holds."""

    def libraries(self) -> str:
        return Path("/proc/self/maps").read_text()


def test_the_users_own_choice_is_left_alone() -> None:
    assert preloaded({"LD_PRELOAD": "libother.so"}) == {}
    assert preloaded({"LD_PRELOAD": ""}) == {}
    assert preloaded({})["MALLOC_CONF"] == SETTINGS
    assert preloaded({"MALLOC_CONF": "narenas:2"})["MALLOC_CONF"] == "narenas:2"


def test_memory_is_kept_until_it_is_given_back() -> None:
    environment = {**os.environ, **preloaded({})}
    done = subprocess.run([sys.executable, "-c", GIVES_BACK], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 3e8  # of 400 MB


@pytest.mark.ray
@pytest.mark.parametrize(("num_gpus", "has_it"), [(0, True), (1, False)])
def test_actors_without_a_gpu_have_it(ray_cluster: None, num_gpus: float, has_it: bool) -> None:
    import ray

    actor = remote_class(Here, 1, num_gpus).remote()
    assert (LIBRARY in ray.get(actor.libraries.remote())) == has_it
    ray.kill(actor)
