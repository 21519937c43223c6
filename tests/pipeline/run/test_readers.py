"""The readers that people use, each called in its plainest way on the folders of a run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from tests_shards import members

from pipeline.job.configuration import load_evaluation
from pipeline.run import schema
from pipeline.run.layout import folder, reads_as_value
from pipeline.run.reader import open_run
from pipeline.run.records import RefusedError
from pipeline.shards.manifest_table import MANIFEST
from ssig.errors import UsageError
from ssig.registry import METRICS

Make = Callable[..., Any]
Rows = list[dict[str, Any]]

MODEL = "net/ä:v1.0"
METHODS = ("a:b/c.d", "ig 50% (x)+,~")

# By name, how a person reads a folder of Parquet files whose names hold the labels.
READERS: dict[str, Callable[[str], Rows]] = {
    "pyarrow.dataset, hive": lambda path: ds.dataset(path, partitioning="hive").to_table().to_pylist(),
    "pyarrow.parquet": lambda path: pq.read_table(path).to_pylist(),
    "pandas": lambda path: pd.read_parquet(path).to_dict("records"),  # type: ignore[return-value]
    "polars": lambda path: pl.scan_parquet(path).collect().to_dicts(),
    "polars, at once": lambda path: pl.read_parquet(path).to_dicts(),
    "duckdb": lambda path: duckdb.sql(f"from '{path}/**/*.parquet'").to_arrow_table().to_pylist(),
}


@pytest.fixture(scope="module")
def runs() -> dict[str, Path]:
    """Runs by how they store maps: two labels, one of them with fewer metrics, and a sample that cannot be read."""
    return {}


@pytest.fixture
def run_of(runs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory, make_job: Make, work_off: Make) -> Make:
    def make(maps: str = "float16") -> Path:
        if maps not in runs:
            place = tmp_path_factory.mktemp(maps)
            files = [(name, b"none" if name == "image0001.jpg" else data) for name, data in members(0, 3)]
            from tests_shards import write_tar

            shard = write_tar(place / "a.tar", files)
            fields = {"model__label": MODEL, "output__maps": maps, "output__path": str(place / "run")}
            first = {"name": "gradient", "label": METHODS[0]}
            work_off(make_job(shard, methods=[first], metrics=["roc_auc", "gini"], **fields))
            second = {"name": "gradient-x-input", "label": METHODS[1]}
            runs[maps] = work_off(make_job(shard, methods=[second], metrics=["gini"], **fields))
        return runs[maps]

    return make


@pytest.mark.parametrize("maps", ["float16", "float32", "none"])
@pytest.mark.parametrize("table", ["metrics", "attributions"])
@pytest.mark.parametrize("reader", READERS)
def test_every_reader_sees_every_row_with_its_labels(run_of: Make, reader: str, table: str, maps: str) -> None:
    rows = READERS[reader](f"{run_of(maps)}/{table}")
    assert sorted((row["method"], row["key"]) for row in rows) == sorted(
        (method, f"image{number:04d}") for method in METHODS for number in range(3)
    )
    assert {row["model"] for row in rows} == {MODEL}
    found = {(row["method"], row["key"]): row for row in rows}
    assert found[METHODS[0], "image0000"]["status"] == "ok"
    assert found[METHODS[0], "image0001"]["status"] == "undecodable"


@pytest.mark.parametrize("reader", READERS)
def test_every_reader_sees_every_column(run_of: Make, reader: str) -> None:
    rows = READERS[reader](f"{run_of()}/metrics")
    assert set(rows[0]) == {*schema.metrics_schema([METRICS["roc_auc"], METRICS["gini"]]).names, *schema.KEYS}
    found = {(row["method"], row["key"]): row for row in rows}
    assert 0 <= found[METHODS[0], "image0000"]["roc_auc"] <= 1
    assert pd.isna(found[METHODS[1], "image0000"]["roc_auc"])
    assert 0 <= found[METHODS[1], "image0000"]["gini"] < 1


@pytest.mark.parametrize("table", ["metrics", "attributions"])
def test_without_hive_the_rows_are_read_without_labels(run_of: Make, table: str) -> None:
    found = ds.dataset(f"{run_of()}/{table}").to_table()
    assert len(found) == 6
    assert not set(schema.KEYS) & set(found.column_names)


def test_what_is_not_asked_for_says_so(run_of: Make) -> None:
    rows = open_run(run_of()).metrics().to_pylist()
    reasons = {row["method"]: dict(row["excluded"]) for row in rows if row["key"] == "image0000"}
    assert reasons == {METHODS[0]: {}, METHODS[1]: {"roc_auc": "not asked for under this label"}}


def test_an_audit_of_numbers_need_not_open_the_maps(run_of: Make) -> None:
    """What the metrics say of the attribution is what the attributions say."""
    columns = {name: f"m.{name} is not distinct from a.{source} as {name}" for name, source in schema.SHARED.items()}
    tables = (f"'{run_of()}/{table}/**/*.parquet'" for table in ("metrics", "attributions"))
    joined = "{} m join {} a using (model, method, shard, key)".format(*tables)
    rows = duckdb.sql(
        f"select m.class_name, m.target, m.status, {', '.join(columns.values())} from {joined}"
    ).fetchall()
    assert len(rows) == 6
    for class_name, target, status, *same in rows:
        assert all(same)
        assert (class_name, target is None) == ((f"class {target}", False) if status == "ok" else (None, True))


def test_a_label_with_more_metrics_than_the_run_is_sent_to_evaluate(
    make_shard: Make, make_job: Make, work_off: Make
) -> None:
    shard = make_shard(count=2)
    run = work_off(make_job(shard, methods=["gradient"], metrics=["gini"]))
    before = sorted(run.rglob("*"))
    with pytest.raises(RefusedError, match=r"asks for energy, (?s:.*)have gini: .*ssig evaluate RUN --metric energy"):
        work_off(make_job(shard, methods=["ig"], metrics=["gini", "energy"]))
    with pytest.raises(RefusedError, match=r"output\.maps: recorded \"float16\", asked for \"float32\""):
        work_off(make_job(shard, methods=["ig"], metrics=["gini"], output__maps="float32"))
    assert sorted(run.rglob("*")) == before


AWKWARD = [
    "a:b",
    "a/b",
    "a.b",
    "..",
    "a b",
    "50%",
    "%20",
    "a+b",
    "a=b",
    "ä",
    "[1]",
    "{a,b}",
    "*",
    "?",
    "a\\b",
    "'",
    '"',
]
AWKWARD += [
    "#",
    "&",
    "on",
    "yes",
    "t",
    "1x",
    "v1",
    "ig-4",
    "steps=4",
    "4 steps",
    "2024-model",
    "1.2.3-beta",
    "_a",
    ".a",
]


def test_awkward_labels_come_back_as_they_are(tmp_path: Path) -> None:
    for label in AWKWARD:
        assert not reads_as_value(label)
        place = tmp_path / folder(label, label)
        place.mkdir(parents=True)
        pq.write_table(pa.table({"key": ["k"]}), place / "000000-000000-000001.parquet")
    for name, read in READERS.items():
        rows = read(str(tmp_path))
        assert sorted(row["method"] for row in rows) == sorted(AWKWARD), name
        assert sorted(row["model"] for row in rows) == sorted(AWKWARD), name


NO_TEXT = [
    "4",
    "-4",
    "+4",
    "4.5",
    ".5",
    "4.",
    "1e3",
    "1.5E-3",
    "0x10",
    "0b11",
    "1_000",
    "1,000",
    " 4",
    "٤",
    "1d",
    "4L",
]
NO_TEXT += [
    "nan",
    "NaN",
    "inf",
    "-Infinity",
    "true",
    "False",
    "null",
    "NULL",
    "None",
    "~",
    "__HIVE_DEFAULT_PARTITION__",
]
NO_TEXT += ["2024-01-01", "2024-1-1", "2024/01/01", "01.02.2024", "2024-01-01T10:00:00Z", "2024-01-01 10:00", "10:00"]
NO_TEXT += ["1.2.3", "epoch", "20240101"]


@pytest.mark.parametrize("label", NO_TEXT)
def test_labels_that_read_as_something_else_are_refused(make_shard: Make, make_job: Make, label: str) -> None:
    shard = make_shard(count=1)
    with pytest.raises(UsageError, match=r"methods\.label.*reads as text"):
        make_job(shard, methods=[{"name": "ig", "label": label}])
    with pytest.raises(UsageError, match=r"model\.label.*reads as text"):
        make_job(shard, model__label=label)
    with pytest.raises(UsageError, match=r"name.*reads as text"):
        load_evaluation({"metrics": ["gini"], "name": label})


def test_every_text_that_duckdb_takes_for_a_number_or_date_is_refused() -> None:
    """DuckDB tries these three types on the folders; it is tried here on random texts of what such are made of."""
    generator = np.random.default_rng(0)
    letters = np.array(list("00112345678999-+./:_eExbTZ afinty"))
    texts = ["".join(generator.choice(letters, generator.integers(1, 11))) for _ in range(20_000)]
    dates = [f"{a}{s}{b}{s}{c}" for a, b, c in generator.integers(1, 40, (500, 3)).tolist() for s in "-/. "]
    pool = pa.table({"text": [*texts, *dates, *NO_TEXT, *AWKWARD]})  # noqa: F841  read by name
    kinds = " or ".join(f"try_cast(text as {kind}) is not null" for kind in ("bigint", "date", "timestamp"))
    taken = [text for (text,) in duckdb.sql(f"select text from pool where {kinds}").fetchall()]
    assert len(taken) > 500
    assert [text for text in taken if not reads_as_value(text)] == []


def spark_reads(kind: pa.DataType) -> bool:
    """Whether Spark has a type for a Parquet column that Arrow writes of this type; it has none for half floats."""
    if isinstance(kind, pa.BaseExtensionType):
        return spark_reads(kind.storage_type)
    if pa.types.is_map(kind):
        return spark_reads(kind.key_type) and spark_reads(kind.item_type)
    if pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind):
        return spark_reads(kind.value_type)
    return kind in (pa.int32(), pa.int64(), pa.float32(), pa.float64(), pa.string(), pa.bool_())


def test_spark_reads_all_metrics_and_maps_of_float32() -> None:
    def unread(table: pa.Schema) -> list[str]:
        return [field.name for field in table if not spark_reads(field.type) or set(" ,;{}()\n\t=") & set(field.name)]

    assert unread(schema.metrics_schema(METRICS)) == []
    assert unread(schema.attributions_schema((3, 32, 32), "float32", channels=True)) == []
    assert unread(schema.attributions_schema((3, 32, 32), "float16", channels=True)) == ["map", "values"]


def test_every_column_has_a_name_of_its_own_and_says_what_it_holds(run_of: Make) -> None:
    tables = (
        MANIFEST,
        schema.metrics_schema(METRICS),
        *(schema.attributions_schema((3, 32, 32), maps, channels=True) for maps in ("none", "float16", "float32")),
    )
    for table in tables:
        assert len(set(table.names)) == len(table.names)
        assert not set(table.names) & set(schema.KEYS)
        told = schema.descriptions(table)
        assert [name for name in table.names if not told.get(name, "").strip()] == []
    written = {"manifest.parquet": MANIFEST}
    for name in ("metrics", "attributions"):
        path = next((run_of() / name).rglob("*.parquet")).relative_to(run_of())
        is_metrics = name == "metrics"
        written[path.as_posix()] = (
            schema.metrics_schema([METRICS["roc_auc"], METRICS["gini"]])
            if is_metrics
            else schema.attributions_schema((3, 32, 32), "float16", channels=False)
        )
    for path, expected in written.items():
        assert schema.descriptions(pq.read_schema(run_of() / path)) == schema.descriptions(expected)


def test_the_description_of_a_metric_is_that_of_the_registry() -> None:
    told = schema.descriptions(schema.metrics_schema([METRICS["deletion"]]))
    spec = METRICS["deletion"]
    assert told["deletion"] == f"{spec.definition}; lower is better; range {spec.range}"
    assert "|map|" in told["deletion_abs"]
    assert "lower is better" in told["deletion_abs"]
