"""How many actors, of which size: from the cluster's resources and the job's wishes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.config import Actors
from ssig.errors import UsageError


@dataclass(frozen=True)
class Shape:
    """An actor's resources and the size of the pool; without a most it grows with the cluster."""

    num_gpus: float
    num_cpus: float
    least: int
    most: float

    @property
    def threads(self) -> int:
        return max(1, math.floor(self.num_cpus))


def shape(actors: Actors, nodes: Sequence[Mapping[str, float]]) -> Shape:
    """The actors' shape on a cluster.

    By default an actor has one GPU with its share of the node's cores; without GPUs it has all cores of a node.

    Args:
        actors: the job's wishes.
        nodes: resources of each node that is alive, such as ``{"CPU": 8, "GPU": 1}``.

    Raises:
        UsageError: the cluster has fewer GPUs or cores than the least number of actors needs.
    """
    gpus = sum(node.get("GPU", 0) for node in nodes)
    cores = sum(node.get("CPU", 0) for node in nodes)
    num_gpus = (1.0 if gpus else 0.0) if actors.num_gpus == "auto" else actors.num_gpus
    if num_gpus > gpus:
        raise UsageError("actors.num_gpus", num_gpus, f"at most {gpus:g}, the GPUs of the cluster")
    num_cpus = _share(nodes, num_gpus, actors) if actors.num_cpus == "auto" else actors.num_cpus
    if num_cpus > cores:
        raise UsageError("actors.num_cpus", num_cpus, f"at most {cores:g}, the cores of the cluster")
    fit = places(nodes, num_gpus, num_cpus)
    if actors.min > fit:
        needs = f"{num_gpus:g} GPUs and {num_cpus:g} cores each"
        raise UsageError("actors.min", actors.min, f"at most {fit}: more do not fit the cluster with {needs}")
    most = math.inf if actors.max == "auto" else actors.max
    if most < actors.min:
        raise UsageError("actors.max", most, f"at least actors.min ({actors.min})")
    return Shape(num_gpus, num_cpus, actors.min, most)


def places(nodes: Sequence[Mapping[str, float]], num_gpus: float, num_cpus: float) -> int:
    """How many actors of a size fit the nodes at once."""
    count = 0
    for node in nodes:
        by_cores = math.floor(node.get("CPU", 0) / num_cpus + 1e-9)
        by_gpus = math.floor(node.get("GPU", 0) / num_gpus + 1e-9) if num_gpus else by_cores
        count += min(by_cores, by_gpus)
    return count


def _share(nodes: Sequence[Mapping[str, float]], num_gpus: float, actors: Actors) -> float:
    """Cores of an actor so that as many as asked for fit, or one a GPU, or one a node."""
    if num_gpus:
        usable = [node for node in nodes if node.get("GPU", 0) >= num_gpus]
        shares = [node.get("CPU", 0) / math.floor(node["GPU"] / num_gpus) for node in usable]
    else:
        wanted = actors.min if actors.max == "auto" else actors.max
        each = math.ceil(wanted / max(1, len(nodes)))
        shares = [node.get("CPU", 0) / each for node in nodes if node.get("CPU", 0) >= 1]
    return float(max(1, math.floor(min(shares, default=1))))
