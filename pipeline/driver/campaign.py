"""The steps of every command that does units: place -> lease -> plan -> loop -> report."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pipeline.driver.dispatch import Agenda, Dispatch
from pipeline.driver.ending import Summary, finish
from pipeline.driver.place import Place, place_of
from pipeline.driver.progress import Listener, Progress
from pipeline.driver.resources import Shape
from pipeline.driver.schedule import Work
from pipeline.driver.worker_setup import worker_setup
from pipeline.job.configuration import Actors
from pipeline.run.deletion import forget_given_up
from pipeline.run.directory import RunDirectory
from pipeline.run.labels import Label
from pipeline.run.lease import Lease
from pipeline.storage import fault_points
from pipeline.unit.setup import WorkerSetup
from ssig.models import Model


@dataclass(frozen=True)
class Plan:
    """What a command does in a run: the labels that are recorded, and the units to do."""

    labels: Sequence[Label]
    works: Sequence[Work]


@dataclass(frozen=True)
class Campaign:
    """The work of one command on a run.

    Attributes:
        directory: the run.
        model: the network.
        seed: of the run.
        actors: how the work is spread.
        listener: receives progress.
        progress: the state that the listener receives.
        reference: the method that the report compares with; None for the present report's, or the default.
    """

    directory: RunDirectory
    model: Model
    seed: int
    actors: Actors
    listener: Listener
    progress: Progress
    reference: str | None = None

    def run(self, plan: Callable[[Lease, Place], Plan]) -> Summary:
        """Does the units of a plan and writes the run's report anew.

        Args:
            plan: records what is frozen, and says what there is to do, in a place. It is called while the lease is
                held, since another driver may have begun after the directory was looked at.

        Raises:
            UsageError, RefusedError, LeaseHeldError: before any work.
            RunError: the run could not go on.
        """
        directory, storage = self.directory, self.directory.storage
        with place_of(self.actors, self._tell_phase) as place, Lease(storage) as lease:
            fault_points.point("after-lease", storage.root)
            planned = plan(lease, place)
            forget_given_up(storage, (work.unit for work in planned.works))
            proven = directory.proven(planned.labels)
            agenda = Agenda(storage, directory.manifest, planned.works, proven, self.actors.unit_timeout)
            executor = place.executor(self._setup(planned.labels, place.size))
            dispatch = Dispatch(agenda, executor, place.size, lease, self.listener, self.progress)
            dispatch.run()
            ending = dispatch.ending
            return finish(directory, planned.labels, self.listener, self.progress, ending, self.reference)

    def _setup(self, labels: Sequence[Label], size: Shape) -> WorkerSetup:
        return worker_setup(self.model, labels, self.directory.root, self.seed, self.actors, size)

    def _tell_phase(self, phase: str) -> None:
        self.progress.phase = phase
        self.listener(self.progress, None)
