"""Named points of the protocol at which tests let a process fail.

The product only names the points: a run calls `point`, which does nothing. Tests set `hook` in the processes that they
start (`tests/support/fault_actions.py`). No environment variable, file or option sets it.
"""

from __future__ import annotations

from collections.abc import Callable

POINTS = {
    "driver-started": "the driver has its job",
    "after-lease": "the lease is held",
    "before-run-record": "the shards are looked up, the run is not yet recorded",
    "after-run-record": "the run is recorded, its labels are not",
    "after-part": "the samples of one more shard are recorded",
    "before-manifest": "all shards are listed",
    "after-manifest": "the manifest is stored, not yet sealed",
    "after-seal": "the manifest is sealed, its parts are not removed",
    "after-labels": "the labels are recorded",
    "after-order": "a unit was handed to an actor",
    "after-event": "an actor's answer was heard",
    "before-report": "the units are done",
    "after-report": "the report is written",
    "before-read": "a worker has a unit",
    "after-read": "its samples are decoded and predicted",
    "after-attribute": "its maps are computed",
    "after-maps": "its maps are published under every label, and another worker is to measure them",
    "before-measuring": "a worker has a unit whose maps another has published",
    "before-stage": "a table is about to be written",
    "after-write": "it is written, not synced",
    "after-fsync": "it is synced",
    "before-publish": "it is checked and about to get its name",
    "after-link": "a file has its name, its folder is not synced",
    "after-publish": "a table has its name",
    "after-label": "the tables of one label of a batch have their names, those of the others may not",
    "before-commit": "all tables that the commit names have their names",
    "after-commit": "the unit is done under a label, or under all of a batch",
    "before-take-back": "a batch's unit is to be done again, and the other labels have commits of their own",
    "after-take-back": "a commit is removed, its tables are not",
    "before-replace": "a file that may be replaced is written, not yet named",
    "after-replace": "it is named",
    "before-layout": "a compaction is about to begin, `run.json` does not say so yet",
    "after-layout": "`run.json` says so",
    "after-compaction-part": "a part is written, checked and staged",
    "before-compaction-record": "all parts of a table are staged, no record names them",
    "after-compaction-record": "the record names them",
    "before-exchange": "the folder that replaces the table's is filled",
    "half-exchanged": "the table's folder is renamed away, its successor not yet in",
    "after-exchange": "the parts are in the table's folder, its unit files beside it",
    "after-unit-files": "the unit files are deleted from an object store, the parts not yet in their place",
    "after-switch": "the table is switched, what was staged is not removed",
}

# Called with the name of the point and with the unit or file that the process works on.
hook: Callable[[str, str], None] | None = None


def point(name: str, about: str = "") -> None:
    """Passes a point.

    Args:
        name: one of `POINTS`.
        about: the unit, file or run that the process works on.
    """
    if hook is not None:
        hook(name, about)
