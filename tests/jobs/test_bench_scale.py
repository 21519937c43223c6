"""The benchmark of large runs: what is asked of storage is counted, and the model is a line through two sizes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.bench import scale
from jobs.bench.scale.data import COLUMNS, large_shards, methods, metrics, write_data, write_large_shards
from jobs.bench.scale.delayed import BUCKET, DelayedStorage, Requests, opener
from jobs.bench.scale.duckdb_files import SCHEME, Files
from jobs.bench.scale.first_version import before
from jobs.bench.scale.model import Cost, at, cost
from jobs.bench.scale.steps import STEPS, measured
from pipeline.driver.admission import check_shards
from pipeline.run.directory import RunDirectory
from pipeline.shards import manifest
from pipeline.storage import open_storage, opened_by
from pipeline.storage.base import is_object_url
from ssig.errors import UsageError
from ssig.registry import METRICS

LABELS, IMAGES = 2, 200


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scale")
    write_data(folder, IMAGES, LABELS)
    return folder


def test_every_request_is_counted_with_its_bytes(tmp_path: Path) -> None:
    requests = Requests(delay=0.0)
    with opened_by(opener(tmp_path, requests)):
        storage = open_storage(f"{BUCKET}/a")
        assert is_object_url(storage.root)
        assert storage.create("b/c", b"1234")
        assert not storage.create("b/c", b"5")
        storage.put("d", b"12")
        assert storage.read("b/c") == b"1234"
        assert storage.read_range("b/c", 1, 2) == b"23"
        with storage.open("b/c") as file:
            assert file.read() == b"1234"
        assert [entry.name for entry in storage.list()] == ["b/c", "d"]
        storage.copy("b/c", "d")
        storage.delete("d")
        assert storage.entry("d") is None
    assert (tmp_path / "a" / "b" / "c").read_bytes() == b"1234"
    assert dict(requests.counts) == {"put": 3, "get": 3, "head": 2, "list": 1, "copy": 1, "delete": 1}
    assert (requests.read, requests.written) == (4 + 2 + 4, 4 + 1 + 2)
    assert not isinstance(open_storage(tmp_path), DelayedStorage)


def test_a_run_is_the_same_through_late_storage(data: Path) -> None:
    with opened_by(opener(data, Requests(0.0))):
        directory = RunDirectory(open_storage(f"{BUCKET}/run"))
        check_shards(directory)
        works = directory.remaining(directory.labels)
    # The last of 4 units is left undone under every label.
    assert [(unit.start, set(found)) for unit, found in works] == [(192, set(methods(LABELS)))]
    assert sum(len(METRICS[name].columns) for name in metrics()) >= COLUMNS


@pytest.mark.parametrize(
    ("step", "folders"), [("report", ("metrics", "commits")), ("audit", ("metrics", "attributions", "commits"))]
)
def test_each_table_and_each_commit_is_asked_for_once(
    data: Path, step: str, folders: Sequence[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    for call in ("read", "open", "read_range", "entry"):
        plain = getattr(DelayedStorage, call)

        def counted(storage: DelayedStorage, name: str, *rest: Any, plain: Any = plain) -> Any:
            asked.append(name)
            return plain(storage, name, *rest)

        monkeypatch.setattr(DelayedStorage, call, counted)
    measured(step, data, delay=0.0)
    for folder in folders:
        names = [name for name in asked if name.startswith(f"{folder}/")]
        files = 3 if folder == "commits" else 3 * LABELS  # the last of 4 units is not committed
        assert len(names) == len(set(names)) == files, folder


@pytest.mark.parametrize("step", STEPS)
def test_a_step_says_what_it_took(data: Path, step: str) -> None:
    found = measured(step, data, delay=0.001)
    assert found["step"] == step
    assert found["seconds"] > 0
    assert found["requests"] >= 1
    assert 0 < found["waited_seconds"] <= found["seconds"]
    if step.startswith("duckdb"):
        assert found["rows"] == LABELS * IMAGES
        assert found["files"] == (8 if step == "duckdb" else LABELS)
    if step == "manifest":
        assert found["images"] == 1000 * large_shards(IMAGES)
        assert found["first_unit_seconds"] < found["seconds"]
    if step == "resume":
        assert found["units_left"] == 1


def test_threads_of_duckdb_read_one_file_without_disturbing_each_other(tmp_path: Path) -> None:
    table = pa.table({"row": range(40_000)})
    (tmp_path / "run" / "metrics").mkdir(parents=True)
    pq.write_table(table, tmp_path / "run" / "metrics" / "part.parquet", row_group_size=1000)
    with opened_by(opener(tmp_path, Requests(0.002))), duckdb.connect() as connection:
        connection.execute("set threads = 4")
        connection.register_filesystem(Files(open_storage(f"{BUCKET}/run")))
        query = f"select count(*), sum(row) from '{SCHEME}://metrics/**/*.parquet'"
        assert connection.execute(query).fetchall() == [(40_000, 40_000 * 39_999 // 2)]


def test_large_shards_take_no_room_and_are_whole(tmp_path: Path) -> None:
    write_large_shards(tmp_path, 2)
    shards = sorted(tmp_path.iterdir())
    assert shards[0].stat().st_size > 139e6
    assert sum(path.stat().st_blocks for path in shards[:1]) * 512 < 20e6
    built = manifest.build([str(shards[1])], 64)
    assert (len(built), built.quarantine) == (1000, ())
    assert built.rows("000000-000064-000128")[0].label == 64


def test_two_sizes_give_the_line() -> None:
    smaller, larger = Cost(10, 100, 0.2, 1.0, 0.5, 500.0), Cost(20, 300, 0.3, 1.5, 0.5, 500.0)
    found = at(1000, (100, 200), smaller, larger)
    assert asdict(found) == {**asdict(found), "requests": 100, "bytes_read": 1900, "processor": 0.5}
    assert (found.waiting, found.computing, found.peak_bytes) == (pytest.approx(1.1), pytest.approx(5.5), None)
    assert at(10**6, (10**5, 2 * 10**5), smaller, replace(larger, peak_bytes=600.0)).peak_bytes == 1400
    record = found.record(delay=0.02)
    assert record["seconds"] == pytest.approx(1.1 + 5.5)
    assert record["in_flight"] == pytest.approx(100 * 0.02 / 1.1)
    assert at(1000, (100, 200), larger, smaller) == replace(smaller, peak_bytes=None)  # nothing falls with the size
    taken = {"requests": 50, "bytes_read": 7, "seconds": 3.0, "waited_seconds": 1.0}
    assert cost({**taken, "processor_seconds": 4.0, "peak_bytes": 9}) == Cost(50, 7, 1.0, 2.0, 4.0, 9)


def test_version_0_1_0_is_on_the_line_of_its_own_sizes() -> None:
    found = before(1_281_167, 5, delay=0.02)
    assert set(found) <= set(STEPS)
    assert found["audit"].seconds / 3600 == pytest.approx(2.8, rel=0.02)
    assert found["commits"].requests == pytest.approx(102_500, rel=0.01)  # one for each unit and label
    small, late = before(12_812, 10, delay=0.02)["report"], before(12_812, 5, delay=0.04)["report"]
    assert small.requests == pytest.approx(2 * 13_343)
    assert (late.waiting, late.computing) == (pytest.approx(2 * 250.75), pytest.approx(28.25))
    listed = before(650_000, 10, delay=0.02)["manifest"]
    assert listed.requests == pytest.approx(23_400)  # shards, however many labels


def test_lines_fit_in_eighty_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    def taken(images: int, *_: Any) -> dict[str, dict[str, Any]]:
        counted = {"requests": images, "bytes_read": 1e5 * images, "waited_seconds": 0.1, "processor_seconds": 3.0}
        return {step: {"step": step, "seconds": 2.0, "peak_bytes": 8e8, **counted} for step in STEPS}

    monkeypatch.setattr(scale, "_measured", taken)
    record = scale.measure(share=0.01)
    assert record["measured_images"] == [12_812 // 4, 12_812]
    shown = scale.lines(record)
    assert max(map(len, shown)) <= 80
    assert [line[:13].strip() for line in shown[4 : 4 + len(STEPS)]] == list(STEPS)
    assert scale.measure(images=500, share=1)["measured_images"] == [500]


def test_a_share_that_is_none_or_does_not_fit_is_refused() -> None:
    for share in (0, 1.5):
        with pytest.raises(UsageError, match="--share"):
            scale.measure(share=share)
    with pytest.raises(UsageError, match="fit in"):
        scale.measure(images=10**9, share=1)


def test_the_folder_is_made_or_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scale, "_measured", lambda *_: {})
    scale.measure(images=500, share=1, folder=tmp_path / "new" / "folder")
    assert (tmp_path / "new" / "folder").is_dir()
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UsageError, match=r"--folder: found .*file.*a folder to write into"):
        scale.measure(images=500, share=1, folder=tmp_path / "file")


def test_only_the_steps_that_are_asked_for_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    assert scale.chosen(None) == STEPS
    assert scale.chosen("report, resume") == ("resume", "report")
    assert scale.chosen("report after") == ("compact", "report after")
    with pytest.raises(UsageError, match=r"--only: found 'reports'.*manifest"):
        scale.measure(only="reports")


@pytest.mark.slow
def test_a_small_run_is_measured_from_end_to_end(tmp_path: Path) -> None:
    record = scale.measure(images=200, labels=1, delay_ms=1, share=1, folder=tmp_path)
    steps = {step["step"]: step for step in record["steps"]}
    assert list(steps) == list(STEPS)
    assert steps["manifest"]["measured"]["images"] == 1000 * large_shards(200)
    assert {name for name, step in steps.items() if step["before"] is None} <= {
        "compact",
        "report after",
        "duckdb after",
    }
    assert "version 0.1.0" in "\n".join(scale.lines(record))
    assert not list(tmp_path.iterdir())
