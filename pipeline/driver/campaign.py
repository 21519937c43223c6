"""The steps of every command that does units: place -> lease -> plan -> loop -> report."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pipeline.driver.compacting import Choice, compact_at_end
from pipeline.driver.dispatch import Agenda, Dispatch
from pipeline.driver.ending import Summary, finish
from pipeline.driver.listing import Listing, Surveys
from pipeline.driver.place import Place, place_of
from pipeline.driver.progress import Listener, Progress
from pipeline.driver.resources import Shape
from pipeline.driver.schedule import Work
from pipeline.driver.worker_setup import worker_setup
from pipeline.job.sections import Actors
from pipeline.run.deletion import forget_given_up
from pipeline.run.directory import RunDirectory
from pipeline.run.forms import BATCH_COMMITS, has_form, name_form
from pipeline.run.labels import Label
from pipeline.run.lease import Lease
from pipeline.storage import fault_points
from pipeline.unit.attributor import needs_references
from pipeline.unit.setup import WorkerSetup
from ssig.models import Model

# How long all shards may take to be listed before the first units are done.
FIRST_SECONDS = 2.0


@dataclass(frozen=True)
class Plan:
    """What a command does in a run: the labels that are recorded, and the units to do.

    `listing` gives more units, where the shards are not all listed.
    """

    labels: Sequence[Label]
    works: Sequence[Work]
    listing: Listing | None = None


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
        compact: which tables are compacted at the end.
    """

    directory: RunDirectory
    model: Model
    seed: int
    actors: Actors
    listener: Listener
    progress: Progress
    reference: str | None = None
    compact: Choice = "auto"

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
            if planned.works or planned.listing is not None:
                self._name_form(lease)
            forget_given_up(storage, (work.unit for work in planned.works))
            proven = directory.proven(planned.labels)
            batches = directory.batches(planned.labels)
            works, listing = list(planned.works), planned.listing
            if listing is not None:
                works += self._listed(listing, place.surveys, planned.labels)
            manifest = directory.manifest if listing is None else listing.manifest
            agenda = Agenda(storage, manifest, works, proven, self.actors.unit_timeout, batches, listing)
            executor = place.executor(self._setup(planned.labels, place.size))
            dispatch = Dispatch(agenda, executor, place.size, lease, self.listener, self.progress)
            dispatch.run()
            ending = dispatch.ending
            if not ending.interrupted:
                compact_at_end(directory, lease, self.compact, self.listener, self.progress)
            return finish(directory, planned.labels, self.listener, self.progress, ending, self.reference)

    def _listed(self, listing: Listing, surveys: Surveys, labels: Sequence[Label]) -> list[Work]:
        """Begins to list the shards; the units that are known at once, or all where a method needs to know them."""
        self._tell_phase("listing the shards")
        listing.start(surveys)
        try:
            listing.wait(FIRST_SECONDS)
            works = listing.take()
            while needs_references(labels) and not listing.is_over:
                self.progress.listed = listing.listed
                self.listener(self.progress, None)
                listing.wait(FIRST_SECONDS)
                works += listing.take()
        except BaseException:  # a signal, or what listing raised
            listing.stop()
            raise
        self.progress.listed = listing.listed
        return works

    def _name_form(self, lease: Lease) -> None:
        """Says in `run.json` that commits of batches follow, in a run that was begun before there were any."""
        document = self.directory.opened()
        if not has_form(document, BATCH_COMMITS):
            lease.verify()
            name_form(self.directory.storage, document, BATCH_COMMITS)
            self.directory.refresh()

    def _setup(self, labels: Sequence[Label], size: Shape) -> WorkerSetup:
        return worker_setup(self.model, labels, self.directory.root, self.seed, self.actors, size)

    def _tell_phase(self, phase: str) -> None:
        self.progress.phase = phase
        self.listener(self.progress, None)
