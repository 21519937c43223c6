"""What every command that does units goes through, once: place -> lease -> plan -> loop -> report."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pipeline import fault_points
from pipeline.driver.dispatch import Agenda, Dispatch
from pipeline.driver.ending import Summary, finish
from pipeline.driver.place import place_of
from pipeline.driver.progress import Listener, Progress
from pipeline.driver.resources import Shape
from pipeline.driver.schedule import Work
from pipeline.job.configuration import Actors
from pipeline.run.commit import proven_labels
from pipeline.run.deletion import forget_given_up
from pipeline.run.labels import Label
from pipeline.run.lease import Lease
from pipeline.shards.manifest import Manifest
from pipeline.storage.base import Storage
from pipeline.unit.setup import WorkerSetup
from ssig.models import Model, export


@dataclass(frozen=True)
class Plan:
    """What a command does in a run: the run's manifest, the labels that are recorded, and the units to do."""

    manifest: Manifest
    labels: Sequence[Label]
    works: Sequence[Work]


@dataclass(frozen=True)
class Campaign:
    """The work of one command on a run.

    Attributes:
        storage: the run.
        model: the network.
        seed: of the run.
        actors: how the work is spread.
        listener: told of progress.
        progress: what it is told.
        reference: the method that the report compares with; None for that of the report that is there, or the default.
    """

    storage: Storage
    model: Model
    seed: int
    actors: Actors
    listener: Listener
    progress: Progress
    reference: str | None = None

    def run(self, plan: Callable[[Lease], Plan]) -> Summary:
        """Does the units of a plan and writes the run's report anew.

        Args:
            plan: records what is frozen, and says what there is to do. It is called while the lease is held, since
                another driver may have begun after the directory was looked at.

        Raises:
            UsageError, RefusedError, LeaseHeldError: before any work.
            RunError: the run could not go on.
        """
        with place_of(self.actors, self._tell_phase) as place, Lease(self.storage) as lease:
            fault_points.point("after-lease", self.storage.root)
            planned = plan(lease)
            forget_given_up(self.storage, (work.unit for work in planned.works))
            proven = proven_labels(self.storage, planned.labels)
            agenda = Agenda(self.storage, planned.manifest, planned.works, proven, self.actors.unit_timeout)
            executor = place.executor(self._setup(planned.labels, place.size))
            dispatch = Dispatch(agenda, executor, place.size, lease, self.listener, self.progress)
            dispatch.run()
            ending = dispatch.ending
            told = self.listener, self.progress
            return finish(self.storage, planned.manifest, planned.labels, *told, ending, self.reference)

    def _setup(self, labels: Sequence[Label], size: Shape) -> WorkerSetup:
        return WorkerSetup(
            state=export(self.model),
            labels={label.method: label for label in labels},
            run=self.storage.root,
            seed=self.seed,
            micro_batch=None if self.actors.micro_batch == "auto" else self.actors.micro_batch,
            compile=self.actors.compile,
            threads=size.threads,
            path=tuple(sys.path),
        )

    def _tell_phase(self, phase: str) -> None:
        self.progress.phase = phase
        self.listener(self.progress, None)
