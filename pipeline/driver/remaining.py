"""What a run still has to do: the units that have no commit under one label or another."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.driver.schedule import Work
from pipeline.run.commit import _own_commits
from pipeline.run.labels import Label
from pipeline.shards.manifest import Manifest
from pipeline.storage.base import Storage


def units_to_do(storage: Storage, manifest: Manifest, labels: Sequence[Label]) -> list[Work]:
    """Manifest minus commits: each unit with the labels it is not done under.

    Raises:
        RefusedError: a commit is of another configuration than its label: no worker would do its unit again.
    """
    done = {label.method: {commit.unit for commit in _own_commits(storage, label)} for label in labels}
    works = []
    for unit in manifest.units():
        missing = tuple(label.method for label in labels if unit.id not in done[label.method])
        if missing:
            works.append(Work(unit.id, missing, unit.stop - unit.start))
    return works
