"""The tidy table: every number once, as the run and the report have it."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from small_runs import do_units

from pipeline.report.contents import contents
from pipeline.report.export import table as tables
from pipeline.report.export.columns import OPTIONS
from pipeline.report.export.writing import Wanted, export, opened
from pipeline.run.reader import open_run


def exported(run: object, to: Path, form: str, lines: list[str], **options: bool) -> pd.DataFrame:
    files = export(opened(str(run)), str(to), Wanted(form, **options), lines.append)
    assert [path.name for path in files] == ["columns.csv", "methods.csv", f"metrics.{form}"]
    return pd.read_parquet(files[2]) if form == "parquet" else pd.read_csv(files[2])


def test_a_row_for_each_model_method_image_and_number(written_run: Any, tmp_path: Path, lines: list[str]) -> None:
    frame = exported(written_run.path, tmp_path / "out", "parquet", lines)
    assert not frame.duplicated(["model", "method", "shard", "index", "column"]).any()
    assert frame.groupby("method", observed=True)["key"].nunique().tolist() == [24, 24]
    for method, columns in written_run.values.items():
        for name, values in columns.items():
            rows = frame[(frame["method"] == method) & (frame["column"] == name)]
            stored = np.where(np.isfinite(values), values, np.nan).astype(np.float32)
            np.testing.assert_allclose(rows["value"].to_numpy(), stored, rtol=1e-6)


def test_its_means_are_those_of_the_report(written_run: Any, tmp_path: Path, lines: list[str]) -> None:
    frame = exported(written_run.path, tmp_path / "out", "csv", lines)
    means = frame.groupby(["method", "column"])["value"].agg(["mean", "count"])
    for model in contents(open_run(written_run.path)).models:
        for method, row in model.comparison.means.items():
            for name, estimate in row.items():
                mean, count = means.loc[method, name]
                assert count == estimate.count
                assert estimate.mean is None or mean == pytest.approx(estimate.mean, rel=1e-5)


def test_a_row_says_what_it_is_about(written_run: Any, tmp_path: Path, lines: list[str]) -> None:
    frame = exported(written_run.path, tmp_path / "out", "parquet", lines)
    row = frame[(frame["key"] == "photo_0001") & (frame["column"] == "insertion") & (frame["method"] == "ssig")]
    (record,) = row.to_dict("records")
    assert (record["label"], record["label_name"], record["status"]) == (1, "<b>goldfish</b>", "ok")
    assert (record["metric"], record["direction"]) == ("insertion", "higher")
    assert json.loads(record["method_options"]) == {
        **{"name": "ssig", "readout": "sum-abs", "baseline": "mean", "samples": 32}
    }
    assert json.loads(record["metric_options"])["steps"] == 28
    assert json.loads(record["model_options"])["score"] == "logit"
    broken = frame[(frame["key"] == "photo_0003") & (frame["column"] == "insertion")]
    assert set(broken["status"]) == {"undecodable"}
    assert broken["value"].isna().all()
    excluded = frame[(frame["column"] == "completeness") & (frame["method"] == "ssig") & (frame["status"] == "ok")]
    assert set(excluded["excluded"]) == {"method has no completeness residual"}
    assert lines[0].startswith("warning: N = 22 of 24 images (22 ok, 1 undecodable, 1 no_label): every method")


def test_wide_has_a_row_per_image_and_describes_its_columns(
    written_run: Any, tmp_path: Path, lines: list[str]
) -> None:
    frame = exported(written_run.path, tmp_path / "out", "parquet", lines, wide=True)
    assert len(frame) == 48
    schema = pq.read_schema(tmp_path / "out" / "metrics.parquet")
    about = schema.field("insertion").metadata
    assert b"higher is better" in about[b"description"]
    assert about[b"unit"].startswith(b"[0, 1]")
    assert json.loads(about[b"options"])["steps"] == 28
    assert schema.field("width").metadata[b"unit"] == b"pixels"
    assert all(field.metadata[b"description"] for field in schema)
    assert not [field.name for field in schema if "list" in str(field.type)]
    reasons = frame[(frame["method"] == "ssig") & (frame["key"] == "photo_0004")]["excluded"].item()
    assert "completeness" in json.loads(reasons)


def test_what_is_left_out_is_named_where_it_is(written_run: Any, tmp_path: Path, lines: list[str]) -> None:
    exported(written_run.path, tmp_path / "out", "csv", lines)
    with (tmp_path / "out" / "columns.csv").open(newline="") as file:
        listed = {row["column"]: row for row in csv.DictReader(file)}
    assert "RUN/metrics/model=M/method=X/UNIT.parquet" in listed["insertion_curve"]["description"]
    assert "RUN/attributions/" in listed["map"]["description"]
    assert all(row["description"] for row in listed.values())
    with (tmp_path / "out" / "metrics.csv").open(newline="") as file:
        header = next(csv.reader(file))
    assert not set(OPTIONS) & set(header)
    with (tmp_path / "out" / "methods.csv").open(newline="") as file:
        options = {row["method"]: json.loads(row["method_options"]) for row in csv.DictReader(file)}
    assert options["ssig"]["samples"] == 32


def test_a_run_of_an_earlier_version_with_an_evaluation(earlier_run: Path, tmp_path: Path, lines: list[str]) -> None:
    frame = exported(earlier_run, tmp_path / "out", "parquet", lines)
    added = frame[frame["evaluation"] == "gini"]
    assert set(added["column"]) == {"gini", "seconds_gini"}
    run = open_run(earlier_run)
    for method in ("ig", "ssig"):
        rows = run.evaluation("gini").to_pandas()
        expected = rows[(rows["method"] == method)].sort_values(["shard", "index"])["gini"]
        added_rows = added[(added["method"] == method) & (added["column"] == "gini")].sort_values(["shard", "index"])
        np.testing.assert_allclose(added_rows["value"], expected.astype(float), rtol=1e-6)


def test_a_run_that_is_not_done_is_exported_with_a_warning(
    make_shard: Any, make_job: Any, tmp_path: Path, lines: list[str]
) -> None:
    path = do_units(make_job(make_shard(count=8), metrics=["completeness"]), limit=1)
    frame = exported(path, tmp_path / "out", "parquet", lines)
    assert frame["key"].nunique() == 4
    assert "N = 4 of 8 images (4 ok, 4 not done)" in lines[0]


def test_large_runs_are_written_group_by_group(
    written_run: Any, tmp_path: Path, lines: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = exported(written_run.path, tmp_path / "whole", "parquet", lines)
    monkeypatch.setattr(tables, "_GROUP_ROWS", 100)
    cut = exported(written_run.path, tmp_path / "cut", "parquet", lines)
    assert pq.ParquetFile(tmp_path / "cut" / "metrics.parquet").num_row_groups > 3
    pd.testing.assert_frame_equal(whole.astype(str), cut.astype(str))
