"""The Ray actor, one replica pinned to its device, and the pool of them.

`max_restarts=0, max_task_retries=0`: Ray's own retries would hide which call died. Two calls run at once, so that one
unit is read or written while another is on the device.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import ray
import torch
from ray.exceptions import RayActorError, RayTaskError

from pipeline.plan import Label
from pipeline.replicas import cache_folder, known_sizes, remember_sizes
from pipeline.schedule import Failure, Order
from pipeline.storage import open_storage
from pipeline.tasks import Done, Task
from pipeline.telemetry import memory
from pipeline.worker import Worker
from pipeline.writer import DamagedTableError
from ssig.models import ModelState, restore
from ssig.optimise import Compile
from ssig.ready import ready_replica

CALLS_AT_ONCE = 2
STATUS = "status"  # the concurrency group of calls that are answered while others are at work


class AttributionActor:
    """Loads its replica once, from weights in the object store.

    Args:
        state: the exported network.
        labels: the run's labels by method label.
        run: URL or path of the run.
        seed: of the run.
        micro_batch: points evaluated at once, or None for the fastest.
        compile: how the network is compiled (`ssig.optimise`).
        threads: CPU threads of this actor.
        path: where the driver imports from: a `module:callable` network may be there.
    """

    def __init__(
        self,
        state: ModelState,
        labels: Mapping[str, Label],
        run: str,
        seed: int,
        micro_batch: int | None,
        compile: Compile,
        threads: int,
        path: Sequence[str] = (),
    ) -> None:
        sys.path.extend(entry for entry in path if entry not in sys.path)
        torch.set_num_threads(threads)
        # Logical GPUs on a machine without CUDA compute on the CPU.
        on_gpu = bool(ray.get_gpu_ids()) and torch.cuda.is_available()
        model = restore(state, device="cuda" if on_gpu else "cpu")
        sizes = known_sizes(cache_folder())
        replica = ready_replica(model, micro_batch=micro_batch, compile=compile, sizes=sizes)
        remember_sizes(cache_folder(), sizes)
        self.run = run
        self.worker = Worker(replica, labels, run, seed)

    def ready(self) -> dict[str, Any]:
        """Where this actor is; returns when the replica is loaded."""
        context = ray.get_runtime_context()
        replica = self.worker.device.replica
        held = memory()
        return {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "node": context.get_node_id(),
            "gpus": [str(gpu) for gpu in ray.get_gpu_ids()],
            "device": str(replica.device),
            "micro_batch": replica.micro_batch,
            "threads": torch.get_num_threads(),
            "resident_bytes": held.resident if held else None,
        }

    def sees(self, name: str) -> bool:
        """Whether a file that the driver has just written is here too."""
        return open_storage(self.run).entry(name) is not None

    def under_way(self) -> float:
        """How many maps are computed but not committed."""
        return self.worker.under_way

    def process(self, task: Task) -> Done:
        return self.worker.process(task)

    def probe(self, task: Task) -> None:
        self.worker.probe(task)


def remote_class(actor: type, num_cpus: float, num_gpus: float) -> Any:
    """`AttributionActor`, or a class that answers the same calls, as a remote class with its resources."""
    remote: Any = ray.remote(concurrency_groups={STATUS: 1})  # type: ignore[call-overload]
    return remote(actor).options(
        num_cpus=num_cpus,
        num_gpus=num_gpus,
        max_restarts=0,
        max_task_retries=0,
        max_concurrency=CALLS_AT_ONCE,
    )


@dataclass(eq=False)
class Member:
    """An actor of the pool: `info` once it is ready, and what it has in flight."""

    name: str
    handle: Any
    starting: Any
    info: dict[str, Any] | None = None
    under_way: float = 0.0
    asking: Any = None
    in_flight: dict[Any, Order] = field(default_factory=dict)

    @property
    def room(self) -> int:
        """How many more orders it takes; none while one of them must be alone."""
        if self.info is None or any(order.alone for order in self.in_flight.values()):
            return 0
        return CALLS_AT_ONCE - len(self.in_flight)


@dataclass(frozen=True)
class Event:
    """What the pool saw: an actor became `ready`, was `lost`, or an order came back `done` or `failed`."""

    kind: Literal["ready", "lost", "done", "failed"]
    member: Member
    order: Order | None = None
    done: Done | None = None
    failure: Failure | None = None
    reason: str = ""


class Pool:
    """The actors of a run.

    Args:
        create: starts one actor and returns its handle.
    """

    def __init__(self, create: Callable[[], Any]) -> None:
        self._create = create
        self._started = 0
        self.members: list[Member] = []

    def start(self) -> Member:
        """Starts one more actor; a `ready` or `lost` event follows."""
        handle = self._create()
        self._started += 1
        member = Member(f"actor-{self._started}", handle, handle.ready.remote())
        self.members.append(member)
        return member

    def send(self, member: Member, order: Order, task: Task) -> None:
        """Hands an order to an actor."""
        call = member.handle.process if order.probe is None else member.handle.probe
        member.in_flight[call.remote(task)] = order

    def wait(self, seconds: float) -> list[Event]:
        """What happened, waiting at most so long for the first event."""
        owners = {ref: member for member in self.members for ref in member.in_flight}
        owners.update({member.starting: member for member in self.members if member.info is None})
        if not owners:
            return []
        ray.wait(list(owners), num_returns=1, timeout=seconds)
        events: list[Event] = []
        for ref in _answered(owners):
            if owners[ref] in self.members:
                events += self._event(owners[ref], ref)
        return events

    def ask(self) -> float:
        """Maps that are computed but not committed, as the actors said last; asks those that have answered again."""
        asked = {member.asking: member for member in self.members if member.asking is not None}
        for ref in _answered(asked):
            try:
                asked[ref].under_way = ray.get(ref)
            except RayActorError:
                asked[ref].under_way = 0.0  # `wait` hears of its death
            asked[ref].asking = None
        for member in self.members:
            if member.asking is None and member.info is not None:
                member.asking = member.handle.under_way.options(concurrency_group=STATUS).remote()
        return sum(member.under_way for member in self.members)

    def stop(self) -> None:
        """Ends every actor at once."""
        for member in self.members:
            ray.kill(member.handle)
        self.members.clear()

    def _event(self, member: Member, ref: Any) -> list[Event]:
        order = member.in_flight.get(ref)
        try:
            value = ray.get(ref)
        except RayActorError as error:
            return self._lost(member, _first_line(error))
        except RayTaskError as error:
            cause = error.cause if isinstance(error.cause, Exception) else error
            reason = f"{type(cause).__name__}: {_first_line(cause)}"
            if order is None:
                return self._lost(member, reason)
            del member.in_flight[ref]
            is_storage = isinstance(cause, (OSError, DamagedTableError))
            return [Event("failed", member, order, None, Failure.STORAGE if is_storage else Failure.RAISED, reason)]
        if order is None:
            member.info = value
            return [Event("ready", member)]
        del member.in_flight[ref]
        return [Event("done", member, order, value)]

    def _lost(self, member: Member, reason: str) -> list[Event]:
        """The events of a dead actor: its own, and one for each order that it was charged with."""
        self.members.remove(member)
        ray.kill(member.handle)
        orders = list(member.in_flight.values())
        failed = [Event("failed", member, order, None, Failure.DIED, f"the actor died: {reason}") for order in orders]
        return [Event("lost", member, reason=reason), *failed]


def _answered(refs: Iterable[Any]) -> list[Any]:
    """Those of some results that are there."""
    waiting = list(refs)
    answered: list[Any] = ray.wait(waiting, num_returns=len(waiting), timeout=0)[0] if waiting else []
    return answered


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
