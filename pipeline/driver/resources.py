"""How many actors, of which size: from the cluster's resources and the job's wishes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.job.sections import Actors
from ssig.errors import UsageError

# Memory that an actor on the CPU may need: libraries, a replica, micro-batches and two units of images and maps.
REPLICA_BYTES = 3 * 2**30
TO_WAIT = (
    "to wait for nodes that an autoscaler adds, give both actors.max and actors.num_gpus as numbers "
    "(--set actors.max=2 --set actors.num_gpus=0), or keep a node alive (min_workers: 1)"
)


@dataclass(frozen=True)
class Shape:
    """An actor's resources and the size of the pool; where `most` is infinite, the pool grows with the cluster.

    Attributes:
        wait: seconds to wait for a node with a place for an actor; None where there is one from the beginning.
    """

    num_gpus: float
    num_cpus: float
    least: int
    most: float
    wait: float | None = None

    @property
    def threads(self) -> int:
        return max(1, math.floor(self.num_cpus))


def shape(actors: Actors, nodes: Sequence[Mapping[str, float]], grows: bool = False) -> Shape:
    """The actors' shape on a cluster.

    By default an actor has one GPU with its share of the node's cores. Without GPUs it has one core, or more where the
    node's memory does not hold so many replicas: threads of one actor wait for each other, actors do not.

    Args:
        actors: the job's wishes.
        nodes: resources of each node that is alive, such as ``{"CPU": 8, "GPU": 1}``.
        grows: whether nodes may come. Then the job's numbers are requested even if they do not fit today:
            actors that wait for a place are what makes an autoscaler add nodes.

    Raises:
        UsageError: the cluster has fewer GPUs or cores than the least number of actors needs.
    """
    gpus = sum(node.get("GPU", 0) for node in nodes)
    cores = sum(node.get("CPU", 0) for node in nodes)
    wants_gpu = actors.device != "cpu" and (gpus > 0 or actors.device == "cuda")
    num_gpus = float(wants_gpu) if actors.num_gpus == "auto" else actors.num_gpus
    num_cpus = _share(nodes, num_gpus, actors) if actors.num_cpus == "auto" else actors.num_cpus
    fit = places(nodes, num_gpus, num_cpus)
    if grows and actors.max != "auto" and actors.num_gpus != "auto":
        if actors.max < actors.min:
            raise UsageError("actors.max", actors.max, f"at least actors.min ({actors.min})")
        return Shape(num_gpus, num_cpus, actors.min, actors.max, actors.wait)
    later = f"; {TO_WAIT}" if grows else ""
    if num_gpus > gpus and actors.num_gpus == "auto":
        raise UsageError("actors.device", actors.device, f"cpu or auto: the cluster has no GPU{later}")
    if num_gpus > gpus:
        raise UsageError("actors.num_gpus", num_gpus, f"at most {gpus:g}, the GPUs of the cluster{later}")
    if num_cpus > cores:
        raise UsageError("actors.num_cpus", num_cpus, f"at most {cores:g}, the cores of the cluster{later}")
    if actors.min > fit:
        needs = f"{num_gpus:g} GPUs and {num_cpus:g} cores each"
        raise UsageError("actors.min", actors.min, f"at most {fit}: more do not fit the cluster with {needs}{later}")
    most = math.inf if actors.max == "auto" else actors.max
    if most < actors.min:
        raise UsageError("actors.max", most, f"at least actors.min ({actors.min})")
    return Shape(num_gpus, num_cpus, actors.min, most)


def local_shape(actors: Actors, *, on_gpu: bool, threads: int) -> Shape:
    """The one worker of a command without Ray.

    Args:
        actors: the job's wishes.
        on_gpu: whether it computes on a GPU.
        threads: CPU threads that it computes with by default.

    Raises:
        UsageError: the job asks for what one process does not have.
    """
    if actors.min > 1:
        raise UsageError("actors.min", actors.min, "1 with actors.executor=local; --set actors.executor=ray for more")
    num_gpus = float(on_gpu) if actors.num_gpus == "auto" else actors.num_gpus
    return Shape(num_gpus, threads if actors.num_cpus == "auto" else actors.num_cpus, 1, 1)


def places(nodes: Sequence[Mapping[str, float]], num_gpus: float, num_cpus: float) -> int:
    """How many actors of a size fit the nodes at once."""
    count = 0
    for node in nodes:
        by_cores = math.floor(node.get("CPU", 0) / num_cpus + 1e-9)
        by_gpus = math.floor(node.get("GPU", 0) / num_gpus + 1e-9) if num_gpus else by_cores
        count += min(by_cores, by_gpus)
    return count


def wording(count: float, thing: str) -> str:
    """An amount of a resource, such as ``1 CPU`` or ``2 GPUs``."""
    return f"{count:g} {thing}" + ("" if count <= 1 else "s")


def _share(nodes: Sequence[Mapping[str, float]], num_gpus: float, actors: Actors) -> float:
    """Cores of an actor: its GPU's share, or what lets as many actors as asked for, or as memory holds, fit a node."""
    if num_gpus:
        usable = [node for node in nodes if node.get("GPU", 0) >= num_gpus]
        shares = [node.get("CPU", 0) / math.floor(node["GPU"] / num_gpus) for node in usable]
    else:
        usable = [node for node in nodes if node.get("CPU", 0) >= 1]
        shares = [node["CPU"] / _actors_of(node, actors, len(usable)) for node in usable]
    return float(max(1, math.floor(min(shares, default=1))))


def _actors_of(node: Mapping[str, float], actors: Actors, nodes: int) -> int:
    """How many actors a node without GPUs should hold."""
    if actors.max != "auto":
        return math.ceil(actors.max / nodes)
    by_memory = math.floor(node["memory"] / REPLICA_BYTES) if "memory" in node else node["CPU"]
    return max(1, math.ceil(actors.min / nodes), min(int(node["CPU"]), int(by_memory)))
