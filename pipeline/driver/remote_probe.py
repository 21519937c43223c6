"""A probe on a node of the cluster, in a worker of the size that the job's actors have."""

from __future__ import annotations

import sys
from typing import Any

import ray
import torch
from ray.exceptions import GetTimeoutError, RayError, RayTaskError

from pipeline.driver.actor import reason_of
from pipeline.driver.jemalloc import preloaded
from pipeline.driver.resources import Shape
from pipeline.plan.device import Probed, ProbeError, probe_here
from pipeline.plan.probe import ProbeData
from pipeline.unit.placement import device_for
from pipeline.unit.setup import WorkerSetup
from ssig.errors import UsageError

# A node is there, so loading and tuning the network and the images themselves are all that it waits for.
_PATIENCE_SECONDS = 900.0


def probe_there(setup: WorkerSetup, data: ProbeData, *, size: Shape, seconds: float) -> Probed:
    """Probes a device of the cluster with one worker.

    Args:
        setup: what the worker is made from.
        data: the images.
        size: of the job's actors.
        seconds: that the timed images should take.

    Raises:
        UsageError: the worker cannot start.
        ProbeError: it failed, or no node has a place for it.
    """
    environment = preloaded() if size.num_gpus == 0 else {}
    # Its process ends with the call, and with it what it holds of the device.
    remote: Any = ray.remote(max_calls=1)(_probe)
    task = remote.options(
        num_cpus=size.num_cpus,
        num_gpus=size.num_gpus,
        max_retries=0,
        runtime_env={"env_vars": environment} if environment else None,
    )
    answer = task.remote(setup, data, seconds)
    try:
        probed: Probed = ray.get(answer, timeout=(size.wait or 0.0) + _PATIENCE_SECONDS)
    except RayTaskError as error:
        if isinstance(error.cause, UsageError):
            raise error.cause from None
        raise ProbeError(reason_of(error)) from None
    except GetTimeoutError:
        ray.cancel(answer, force=True)
        raise ProbeError("no node had a place for it in time") from None
    except RayError as error:
        raise ProbeError(reason_of(error)) from None
    return probed


def _probe(setup: WorkerSetup, data: ProbeData, seconds: float) -> Probed:
    sys.path.extend(entry for entry in setup.path if entry not in sys.path)
    setup.activate()
    on_gpu = device_for(setup.device, has_gpu=bool(ray.get_gpu_ids())) != "cpu"
    torch.set_num_threads(setup.threads)
    return probe_here(setup, data, on_gpu=on_gpu, seconds=seconds)
