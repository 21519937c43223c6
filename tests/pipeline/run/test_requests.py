"""What a driver and `ssig status` ask of the storage: each commit once, many at a time, and little of it is kept."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pipeline.checks.status import status
from pipeline.driver.remaining import units_to_do
from pipeline.driver.synthetic import SyntheticRun, write_synthetic_run
from pipeline.run.directory import RunDirectory
from pipeline.run.layout import COMMITS
from pipeline.storage.base import Entry
from pipeline.storage.local import LocalStorage
from pipeline.storage.many import IN_FLIGHT, in_order

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "support"))

from tampering import commits as commits_of

METHODS = ["ig", "gradient", "agi"]
UNITS = 150


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A run of many units under three labels, of which one unit is not done."""
    wanted = SyntheticRun(images=UNITS * 2, methods=METHODS, metrics=["gini"], unit_size=2, side=2)
    root = write_synthetic_run(tmp_path_factory.mktemp("synthetic"), wanted).root
    commits_of(Path(root))[7].unlink()
    return root


class Slow(LocalStorage):
    """A disk that answers late, and counts what is asked and how much of it at once."""

    def __init__(self, folder: str, seconds: float = 0.0) -> None:
        super().__init__(folder)
        self.reads: Counter[str] = Counter()
        self.listings: Counter[str] = Counter()
        self.at_once = self.most = 0
        self._seconds = seconds
        self._lock = threading.Lock()

    @contextmanager
    def _request(self) -> Iterator[None]:
        with self._lock:
            self.at_once += 1
            self.most = max(self.most, self.at_once)
        time.sleep(self._seconds)
        yield
        with self._lock:
            self.at_once -= 1

    def read(self, name: str) -> bytes:
        with self._request():
            self.reads[name] += 1
            return super().read(name)

    def list(self, prefix: str = "") -> Iterator[Entry]:
        self.listings[prefix] += 1
        return super().list(prefix)


def test_a_resumed_driver_lists_once_and_reads_each_commit_once_many_at_a_time(run: str) -> None:
    storage = Slow(run, seconds=0.01)
    directory = RunDirectory(storage)
    works = units_to_do(directory, directory.labels)
    assert [(work.labels, work.size) for work in works] == [(("agi", "gradient", "ig"), 2)]
    directory.proven(directory.labels)
    directory.batches(directory.labels)
    directory.statuses(directory.labels)
    directory.digest()
    reads = {name: count for name, count in storage.reads.items() if name.startswith(f"{COMMITS}/")}
    assert (len(reads), set(reads.values())) == (UNITS - 1, {1})
    assert set(storage.listings.values()) == {1}
    assert "evaluations" not in storage.listings  # its tables may be many, and no record is among them
    assert 16 < storage.most <= IN_FLIGHT
    directory.refresh()  # as a driver does once it has the lease
    assert len(units_to_do(directory, directory.labels)) == 1
    assert set(storage.reads.values()) == {1}


# In a process of its own, where nobody else keeps records or allocates.
KEEP = """
import gc, json, sys, tracemalloc
from pipeline.driver.remaining import units_to_do
from pipeline.run import committed
from pipeline.run.directory import RunDirectory
from pipeline.run.records import CommitRecord
from pipeline.storage.local import LocalStorage
committed.KEPT_FILES = 0
directory = RunDirectory(LocalStorage(sys.argv[1]))
labels = directory.labels
list(directory.manifest.units())
gc.collect()
tracemalloc.start()
before = tracemalloc.get_traced_memory()[0]
works = units_to_do(directory, labels)
gc.collect()
grown = tracemalloc.get_traced_memory()[0] - before
tracemalloc.stop()
print(json.dumps([len(works), grown, sum(type(thing) is CommitRecord for thing in gc.get_objects())]))
"""


def test_a_driver_keeps_no_records_and_little_of_each(run: str) -> None:
    done = subprocess.run([sys.executable, "-c", KEEP, run], capture_output=True, text=True, check=True)
    works, grown, records = json.loads(done.stdout)
    assert (works, records) == (1, 0)
    assert grown / UNITS < commits_of(Path(run))[0].stat().st_size / 2


def test_the_status_reads_each_record_once(run: str) -> None:
    storage = Slow(run)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipeline.checks.status.open_storage", lambda url: storage)
        state = status(run)
    assert [(label.units_done, label.units) for label in state.labels] == [(UNITS - 1, UNITS)] * 3
    assert set(storage.reads.values()) == {1}
    assert sum(name.startswith(f"{COMMITS}/") for name in storage.reads) == UNITS - 1
    assert set(storage.listings.values()) == {1}


ASK = """
import json, sys
from jobs import cli
try:
    sys.argv = ["ssig", "status", sys.argv[1], "--json"]
    cli.main()
except SystemExit:
    pass
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules} & {"torch", "ray", "duckdb", "scipy"})))
"""


def test_the_status_loads_neither_torch_nor_ray(run: str) -> None:
    done = subprocess.run([sys.executable, "-c", ASK, run], capture_output=True, text=True, check=True)
    printed = done.stdout.strip().splitlines()
    assert json.loads(printed[-1]) == [], done.stderr
    assert '"units_done"' in done.stdout


def test_results_come_in_order_and_few_are_ahead() -> None:
    asked: list[int] = []

    def items() -> Iterator[int]:
        for number in range(500):
            asked.append(number)
            yield number

    results = in_order(lambda number: number * number, items(), in_flight=4)
    assert next(results) == 0
    assert len(asked) < 20
    assert list(results) == [number * number for number in range(1, 500)]
    assert list(in_order(str, [])) == []
    assert list(in_order(str, [1])) == ["1"]
    with pytest.raises(ZeroDivisionError):
        list(in_order(lambda number: 1 // number, [3, 2, 1, 0, 1]))
