"""Reading a run from its files: only committed units count, and maps come back as they were stored."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from urllib.parse import quote

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from pipeline.report.positions import Positions
from pipeline.run.reader import open_run
from pipeline.run.schema import attributions_schema, metrics_schema
from pipeline.shards.manifest_table import MANIFEST
from pipeline.storage.fields import SCHEMA_VERSION
from ssig.errors import UsageError
from ssig.registry import METRICS

MODEL, METHODS = "net/ä", ("ssig", "ig 50%")
UNITS = {"000000-000000-000003": range(3), "000000-000003-000005": range(3, 5)}
FAILED, SIDE = 1, 4


def maps(method: str) -> np.ndarray:
    """(5, SIDE, SIDE) maps far below the range of float16."""
    return 1e-6 * np.random.default_rng(METHODS.index(method)).normal(size=(5, SIDE, SIDE)).astype(np.float32)


def write_json(path: Path, record: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record))


def common(unit: str, number: int, method: str) -> dict[str, object]:
    ok = number != FAILED
    known = {"predicted": 1, "target": 1, "probability": 0.5, "width": 8, "height": 8, "crop": [0.0, 0.0, 8.0, 8.0]}
    return {
        **{"unit": unit, "shard": "a.tar", "index": number, "key": f"k{number}", "label": 1},
        **(known if ok else dict.fromkeys(known)),
        **{"status": "ok" if ok else "undecodable"},
        **{"error": None if ok else "no image", "schema_version": SCHEMA_VERSION, "excluded": []},
    }


def attributions(unit: str, method: str, stored: str) -> pa.Table:
    numbers = list(UNITS[unit])
    schema = attributions_schema((3, SIDE, SIDE), stored, channels=False)
    rows = [{**common(unit, number, method), "gradient_evaluations": 32, "score": 1.0} for number in numbers]
    tensors = [name for name in schema.names if name.startswith("map")]
    plain = pa.schema([field for field in schema if field.name not in tensors])
    table = pa.Table.from_pylist(rows, plain)
    if stored == "none":
        return table.cast(schema)
    chosen = maps(method)[numbers]
    scale = np.abs(chosen).max(axis=(1, 2))
    cells = [
        (values / top).astype(np.float16).ravel() if number != FAILED else None
        for number, values, top in zip(numbers, chosen, scale, strict=True)
    ]
    storage = pa.array(cells, pa.list_(pa.float16(), SIDE * SIDE))
    columns = {name: table[name] for name in plain.names}
    columns["map"] = pa.ExtensionArray.from_storage(schema.field("map").type, storage)
    columns["map_scale"] = pa.array(scale, mask=np.array([number == FAILED for number in numbers]))
    return pa.table([columns[name] for name in schema.names], schema=schema)


def metrics(unit: str, method: str) -> pa.Table:
    # Only the first method has deletion: the union of the columns is what a reader sees.
    names = ["insertion", "deletion"] if method == METHODS[0] else ["insertion"]
    schema = metrics_schema([METRICS[name] for name in names])
    rows = [
        {**common(unit, number, method), **dict.fromkeys(names, number / 10 if number != FAILED else None)}
        for number in UNITS[unit]
    ]
    return pa.Table.from_pylist(rows, schema)


def write_run(path: Path, stored: str = "float16") -> Path:
    path.mkdir(parents=True)
    write_json(path / "run.json", {"dataset": {"shards": []}, "seed": 0, "unknown": True})
    manifest = [
        {"unit": unit, "shard": "a.tar", "index": number, "key": f"k{number}", "status": "ok", "members": []}
        for unit, numbers in UNITS.items()
        for number in numbers
    ]
    pq.write_table(pa.Table.from_pylist(manifest, MANIFEST), path / "manifest.parquet")
    for method in METHODS:
        label = f"model={quote(MODEL, safe='')}/method={quote(method, safe='')}"
        config = {"model_label": MODEL, "method_label": method, "fingerprint": f"of {method}"}
        write_json(path / "config" / f"{quote(method, safe='')}.json", config)
        for unit, numbers in UNITS.items():
            tables = {"attributions": attributions(unit, method, stored), "metrics": metrics(unit, method)}
            for kind, table in tables.items():
                (path / kind / label).mkdir(parents=True, exist_ok=True)
                pq.write_table(table, path / kind / label / f"{unit}.parquet")
            failed = int(FAILED in numbers)
            commit = {
                **{"unit": unit, "fingerprint": f"of {method}", "rows": len(numbers)},
                "statuses": {"ok": len(numbers) - failed, "undecodable": failed},
                "files": {f"{kind}/{label}/{unit}.parquet": {} for kind in tables},
                "seconds": {},
            }
            write_json(path / "commits" / label / f"{unit}.json", commit)
    return path


def commit_file(run: Path, method: str, unit: str) -> Path:
    return run / "commits" / f"model={quote(MODEL, safe='')}" / f"method={quote(method, safe='')}" / f"{unit}.json"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_run(tmp_path / "run")


def test_labels_are_decoded_and_every_row_is_there_once(run: Path) -> None:
    opened = open_run(run)
    table = opened.metrics()
    assert list(opened.config) == [(MODEL, method) for method in sorted(METHODS)]
    assert table.num_rows == 10
    assert set(table["method"].to_pylist()) == set(METHODS)
    assert table.filter(pa.compute.equal(table["method"], METHODS[1]))["deletion"].null_count == 5


@pytest.mark.parametrize("method", METHODS)
def test_maps_come_back_scaled(run: Path, method: str) -> None:
    found = {key: values for _, key, values in open_run(run).maps(MODEL, method)}
    assert sorted(found) == ["k0", "k2", "k3", "k4"]
    for key, values in found.items():
        truth = maps(method)[int(key[1:])]
        assert values.dtype == np.float32
        assert np.linalg.norm(values - truth) <= 1e-3 * np.linalg.norm(truth)


def test_a_unit_without_a_commit_of_this_configuration_is_not_there(run: Path) -> None:
    first, second = UNITS
    commit_file(run, "ssig", first).unlink()
    stale = commit_file(run, "ig 50%", second)
    stale.write_text(json.dumps({**json.loads(stale.read_text()), "fingerprint": "another"}))
    opened = open_run(run)
    assert [commit.unit for commit in opened.committed(MODEL, "ssig")] == [second]
    assert opened.metrics().num_rows == 5
    assert [key for _, key, _ in opened.maps(MODEL, "ssig")] == ["k3", "k4"]
    assert opened.relation().aggregate("count(*)").fetchall() == [(5,)]


def test_images_keep_their_order_beyond_a_million_in_one_shard(run: Path) -> None:
    """As text, unit 1000000 comes before unit 999999."""
    table = pq.read_table(run / "manifest.parquet").slice(0, 2)
    numbers = {"unit": ["000000-999999-1000000", "000000-1000000-1000001"], "index": [999_999, 1_000_000]}
    for name, values in numbers.items():
        column = table.schema.get_field_index(name)
        table = table.set_column(column, table.schema.field(column), pa.array(values, table.schema.field(column).type))
    pq.write_table(table, run / "manifest.parquet")
    manifest = open_run(run).manifest
    assert manifest["index"].to_pylist() == numbers["index"]
    assert Positions(manifest.to_batches()).of(table).tolist() == [0, 1]


def test_relation_holds_the_same_rows(run: Path) -> None:
    connection = duckdb.connect()
    relation = open_run(run).relation(connection)
    query = "select method, count(insertion), avg(insertion) from relation group by method order by method"
    assert relation.query("relation", query).fetchall() == [
        ("ig 50%", 4, pytest.approx(0.225)),
        ("ssig", 4, pytest.approx(0.225)),
    ]


def test_a_run_without_commits_is_an_empty_table(run: Path) -> None:
    for path in list((run / "commits").rglob("*.json")):
        path.unlink()
    opened = open_run(run)
    assert opened.metrics().num_rows == 0
    assert opened.relation().aggregate("count(*)").fetchall() == [(0,)]
    assert len(opened.dataset(MODEL, "ssig")) == 0


def test_dataset_reads_any_position_and_holds_few_units(run: Path) -> None:
    dataset = open_run(run).dataset(MODEL, "ssig", cached_units=1)
    expected = [(key, values) for _, key, values in open_run(run).maps(MODEL, "ssig")]
    assert len(dataset) == 4
    for position in (3, 0, 2, 1, -1):
        values, row = dataset[position]
        assert (row["key"], row["status"]) == (expected[position][0], "ok")
        assert row["insertion"] == pytest.approx(int(row["key"][1:]) / 10)
        assert "map" not in row
        assert torch.equal(values, torch.from_numpy(expected[position][1]))
        assert len(dataset._cache) == 1
    with pytest.raises(IndexError):
        dataset[4]


def test_dataset_travels_to_loader_processes(run: Path) -> None:
    dataset = open_run(run).dataset(MODEL, "ssig")
    before = dataset[0]
    copied = pickle.loads(pickle.dumps(dataset))
    assert len(copied._cache) == 0
    assert torch.equal(copied[0][0], before[0])


def test_a_returned_map_is_the_callers_own(run: Path) -> None:
    dataset = open_run(run).dataset(MODEL, "ssig")
    dataset[0][0].zero_()
    assert dataset[0][0].abs().sum() > 0


def test_digest_changes_with_a_commit_and_not_with_other_files(run: Path) -> None:
    before = open_run(run).digest
    (run / "report").mkdir()
    (run / "report" / "index.html").write_text("x")
    assert open_run(run).digest == before
    commit_file(run, "ssig", next(iter(UNITS))).unlink()
    assert open_run(run).digest != before


def test_what_is_not_there_is_named(run: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="run"):
        open_run(tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()
    with pytest.raises(UsageError, match=r"run\.json"):
        open_run(tmp_path)
    opened = open_run(run)
    with pytest.raises(UsageError, match="model"):
        next(opened.maps("other", "ssig"))
    with pytest.raises(UsageError, match="method"):
        opened.dataset(MODEL, "other")


def test_a_run_without_maps_says_so(tmp_path: Path) -> None:
    opened = open_run(write_run(tmp_path / "run", stored="none"))
    with pytest.raises(UsageError, match=r"output\.maps"):
        next(opened.maps(MODEL, "ssig"))
    with pytest.raises(UsageError, match=r"output\.maps"):
        opened.dataset(MODEL, "ssig")[0]


def test_damage_is_a_usage_error(run: Path) -> None:
    commit_file(run, "ssig", next(iter(UNITS))).write_text("{")
    with pytest.raises(UsageError, match="commits/"):
        open_run(run)
    commit_file(run, "ssig", next(iter(UNITS))).write_text('{"rows": 3}')
    with pytest.raises(UsageError, match="commit record"):
        open_run(run)


def test_a_committed_file_that_is_gone_is_a_usage_error(run: Path) -> None:
    next((run / "metrics").rglob("*.parquet")).unlink()
    with pytest.raises(UsageError, match="audit"):
        open_run(run).metrics()
