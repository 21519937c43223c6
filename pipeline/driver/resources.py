"""How many actors, of which size: from the cluster's resources and the job's wishes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from pipeline.job.sections import Actors
from ssig.errors import UsageError

# How Ray names the resource of a node with a type of accelerator, and how much of it an actor takes.
ACCELERATOR, MARK = "accelerator_type:", 0.001
# Memory that an actor on the CPU may need: libraries, a replica, micro-batches and two units of images and maps.
REPLICA_BYTES = 3 * 2**30
TO_WAIT = (
    "to wait for nodes that an autoscaler adds, give both actors.max and actors.num_gpus as numbers "
    "(--set actors.max=2 --set actors.num_gpus=0), or actors.wait in seconds (--set actors.wait=600), or keep a node "
    "alive (min_workers: 1)"
)


@dataclass(frozen=True)
class Shape:
    """An actor's resources and the size of the pool; where `most` is infinite, the pool grows with the cluster.

    Attributes:
        wait: seconds to wait for a node with a place for an actor; None where there is one from the beginning.
        accelerator: type of the accelerator that an actor's node must have; None for any.
        fills: whether an actor computes with its share of its node's cores where that is more than `num_cpus`.
        metrics, metrics_cpus: how many actors without a GPU only measure, and the cores of each.
    """

    num_gpus: float
    num_cpus: float
    least: int
    most: float
    wait: float | None = None
    accelerator: str | None = None
    fills: bool = False
    metrics: int = 0
    metrics_cpus: float = 1.0

    def beside(self, nodes: Sequence[Mapping[str, float]]) -> list[dict[str, float]]:
        """What nodes have for actors that make maps."""
        return spared(nodes, self.metrics, self.metrics_cpus)

    @property
    def marks(self) -> dict[str, float]:
        """What Ray calls the type of an accelerator, as a resource of which an actor takes next to nothing."""
        return {} if self.accelerator is None else {f"{ACCELERATOR}{self.accelerator}": MARK}

    @property
    def threads(self) -> int:
        return max(1, math.floor(self.num_cpus))


def shape(
    actors: Actors,
    nodes: Sequence[Mapping[str, float]],
    grows: bool = False,
    coming: Mapping[str, float] = MappingProxyType({}),
) -> Shape:
    """The actors' shape on a cluster.

    By default an actor has one GPU with its share of the node's cores. Without GPUs it has one core, or more where the
    node's memory does not hold so many replicas: threads of one actor wait for each other, actors do not.

    Args:
        actors: the job's wishes.
        nodes: resources of each node that is alive, such as ``{"CPU": 8, "GPU": 1}``.
        grows: whether nodes may come. Then the job's numbers are requested even if they do not fit today:
            actors that wait for a place are what makes an autoscaler add nodes.
        coming: the most of each resource that an autoscaler says it adds up to. What it has is requested too, as is
            everything where the job says how long to wait.

    Raises:
        UsageError: the cluster has fewer GPUs or cores than the least number of actors needs.
    """
    left = spared(nodes, actors.metrics, actors.metrics_cpus)
    usable = [node for node in left if fits_type(node, actors.accelerator_type)]
    gpus, cores = (sum(node.get(name, 0) for node in usable) for name in ("GPU", "CPU"))
    wants_gpu = actors.device != "cpu" and (gpus > 0 or actors.device == "cuda" or coming.get("GPU", 0) > 0)
    num_gpus = float(wants_gpu) if actors.num_gpus == "auto" else actors.num_gpus
    num_cpus = _share(usable, num_gpus, actors) if actors.num_cpus == "auto" else actors.num_cpus
    fit = places(usable, num_gpus, num_cpus)
    fills = actors.num_cpus == "auto" and num_gpus > 0
    most = math.inf if actors.max == "auto" else actors.max
    found = Shape(
        num_gpus,
        num_cpus,
        actors.min,
        most,
        None,
        actors.accelerator_type,
        fills,
        actors.metrics,
        actors.metrics_cpus,
    )
    has_numbers = actors.max != "auto" and actors.num_gpus != "auto"
    is_told = has_numbers or "wait" in actors.model_fields_set
    comes = coming.get("GPU", 0) >= num_gpus and coming.get("CPU", 0) >= num_cpus
    if grows and (is_told or (coming and comes)):
        if most < actors.min:
            raise UsageError("actors.max", actors.max, f"at least actors.min ({actors.min})")
        return replace(found, wait=actors.wait)
    if actors.metrics:
        _check_metrics_fit(actors, nodes, found, f"; {TO_WAIT}" if grows else "")
    _check_fits(actors, found, {"GPU": gpus, "CPU": cores}, fit, f"; {TO_WAIT}" if grows else "")
    return found


def _check_metrics_fit(actors: Actors, nodes: Sequence[Mapping[str, float]], found: Shape, later: str) -> None:
    """Refuses actors for metrics that a cluster has no room for, or that leave none for the actors that make maps."""
    size = f"{actors.metrics_cpus:g} cores each (actors.metrics_cpus)"
    room = places(nodes, 0, actors.metrics_cpus)
    if actors.metrics > room:
        raise UsageError("actors.metrics", actors.metrics, f"at most {room}: more do not fit with {size}{later}")
    usable, left = (
        [node for node in some if fits_type(node, found.accelerator)] for some in (nodes, found.beside(nodes))
    )
    needed = places(usable, found.num_gpus, found.num_cpus) >= actors.min
    if needed and places(left, found.num_gpus, found.num_cpus) < actors.min:
        allowed = f"fewer: with {size} they leave no cores for {actors.min} actors that make maps{later}"
        raise UsageError("actors.metrics", actors.metrics, allowed)


def _check_fits(actors: Actors, found: Shape, has: Mapping[str, float], fit: int, later: str) -> None:
    """Refuses what a cluster does not have.

    Args:
        actors: the job's wishes.
        found: the shape that they make.
        has: GPUs and cores of the cluster.
        fit: how many actors fit it.
        later: how to wait for more, where that may help.
    """
    if found.accelerator is not None and fit == 0:
        raise UsageError(
            "actors.accelerator_type", found.accelerator, f"the type of a node that has room for an actor{later}"
        )
    if found.num_gpus > has["GPU"] and actors.num_gpus == "auto":
        raise UsageError("actors.device", actors.device, f"cpu or auto: the cluster has no GPU{later}")
    if found.num_gpus > has["GPU"]:
        allowed = f"at most {has['GPU']:g}, the GPUs of the cluster{later}"
        raise UsageError("actors.num_gpus", found.num_gpus, allowed)
    if found.num_cpus > has["CPU"]:
        allowed = f"at most {has['CPU']:g}, the cores of the cluster{later}"
        raise UsageError("actors.num_cpus", found.num_cpus, allowed)
    if actors.min > fit:
        needs = f"{found.num_gpus:g} GPUs and {found.num_cpus:g} cores each"
        raise UsageError("actors.min", actors.min, f"at most {fit}: more do not fit the cluster with {needs}{later}")
    if found.most < actors.min:
        raise UsageError("actors.max", found.most, f"at least actors.min ({actors.min})")


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
        by_gpus = _by_gpus(node, num_gpus) if num_gpus else by_cores
        count += min(by_cores, by_gpus)
    return count


def spared(nodes: Sequence[Mapping[str, float]], count: int, num_cpus: float) -> list[dict[str, float]]:
    """Nodes without the cores of some actors that have no GPU.

    Args:
        nodes: resources of each node.
        count: how many actors; those that fit no node are left out.
        num_cpus: of each. Nodes without GPUs come first, then those with most cores left.
    """
    left = [dict(node) for node in nodes]
    for _ in range(count):
        fitting = [node for node in left if node.get("CPU", 0) >= num_cpus - 1e-9]
        if not fitting:
            break
        node = max(fitting, key=lambda node: (not node.get("GPU", 0), node["CPU"]))
        node["CPU"] -= num_cpus
    return left


def fits_type(node: Mapping[str, float], accelerator: str | None) -> bool:
    """Whether a node has accelerators of a type; None for any."""
    return accelerator is None or node.get(f"{ACCELERATOR}{accelerator}", 0) > 0


def threads_on(node: Mapping[str, float], num_gpus: float, least: int) -> int:
    """Threads of an actor with a GPU on a node: the share of its cores, so that no other kind of node sets it.

    Args:
        node: its resources.
        num_gpus: of the actor.
        least: what the actor takes of every node.
    """
    actors_there = _by_gpus(node, num_gpus) if num_gpus else 0
    return max(least, math.floor(node.get("CPU", 0) / actors_there)) if actors_there else least


def _by_gpus(node: Mapping[str, float], num_gpus: float) -> int:
    """How many actors the GPUs of a node hold: Ray lets none have parts of two GPUs."""
    gpus = node.get("GPU", 0)
    if num_gpus >= 1:
        return math.floor(gpus / num_gpus + 1e-9)
    return math.floor(gpus + 1e-9) * math.floor(1 / num_gpus + 1e-9) + math.floor(gpus % 1 / num_gpus + 1e-9)


def wording(count: float, thing: str) -> str:
    """An amount of a resource, such as ``1 CPU`` or ``2 GPUs``."""
    return f"{count:g} {thing}" + ("" if count <= 1 else "s")


def _share(nodes: Sequence[Mapping[str, float]], num_gpus: float, actors: Actors) -> float:
    """Cores of an actor: its GPU's share, or what lets as many actors as asked for, or as memory holds, fit a node."""
    if num_gpus:
        usable = [node for node in nodes if node.get("GPU", 0) >= num_gpus]
        shares = [node.get("CPU", 0) / _by_gpus(node, num_gpus) for node in usable]
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
