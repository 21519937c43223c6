"""Paired differences of two runs: on the images that both have, with no more verdicts than the tests allow."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from pipeline.report.compare.contents import Comparison, as_json, compare
from pipeline.run.reader import open_run


@pytest.fixture(scope="module")
def comparison(two_runs: tuple[Path, Path]) -> Comparison:
    first, second = map(str, two_runs)
    return compare((first, second))[0]


def column(path: Path, method: str, name: str) -> np.ndarray:
    """A stored number of each image, in order of the manifest."""
    frame = open_run(path).metrics().to_pandas()
    frame = frame[frame["method"] == method].sort_values(["shard", "index"])
    return frame[name].to_numpy(dtype=np.float64)


def test_a_difference_is_the_mean_of_second_minus_first(comparison: Comparison, two_runs: tuple[Path, Path]) -> None:
    seen = 0
    for row in comparison.rows:
        a, b = (column(path, row.pair.method, row.column.stored) for path in two_runs)
        both = np.isfinite(a) & np.isfinite(b)
        assert row.difference.count == row.first.count == row.second.count == both.sum()
        assert row.difference.mean == pytest.approx((b - a)[both].mean(), abs=1e-6)
        assert row.first.mean == pytest.approx(a[both].mean(), rel=1e-5)
        assert row.second.mean == pytest.approx(b[both].mean(), rel=1e-5)
        if not row.column.share and (b - a)[both].std() > 1e-3:
            low, high = stats.ttest_1samp((b - a)[both], 0).confidence_interval()
            assert (row.difference.low, row.difference.high) == pytest.approx((low, high), abs=1e-5)
            seen += 1
    assert seen


def test_only_what_changed_is_called_better(comparison: Comparison) -> None:
    verdicts = {
        (row.pair.method, row.column.name): row.difference.verdict for row in comparison.rows if row.difference.verdict
    }
    assert verdicts == {
        ("ig/50", "insertion"): "better",
        ("ig/50", "deletion"): "better",
        ("ig/50", "insertion_deletion_gap"): "better",
    }
    assert comparison.summary.startswith(f"B is better in 3 and worse in 0 of {comparison.tested} comparisons;")


def test_further_numbers_and_few_images_are_not_tested(comparison: Comparison) -> None:
    assert all(row.difference.p is None and not row.difference.verdict for row in comparison.further)
    assert comparison.tested == sum(row.difference.p is not None for row in comparison.headlines)


def test_what_one_run_has_alone_is_listed(comparison: Comparison) -> None:
    assert [text for text in comparison.lacking if "only in B" in text] == ["small & quick / <b>new</b>: only in B"]


@pytest.fixture
def changed_run(two_runs: tuple[Path, Path], tmp_path: Path) -> Callable[..., Path]:
    """A copy of the second run in which every configuration has been changed."""

    def make(change: Callable[[dict[str, Any]], None]) -> Path:
        path = tmp_path / "changed"
        shutil.copytree(two_runs[1], path)
        for file in (path / "config").iterdir():
            config = json.loads(file.read_text())
            change(config)
            file.write_text(json.dumps(config))
        return path

    return make


def test_options_that_differ_are_named(two_runs: tuple[Path, Path], changed_run: Callable[..., Path]) -> None:
    def change(config: dict[str, Any]) -> None:
        config["method"]["options"]["samples"] = 64

    path = changed_run(change)
    (option,) = compare((str(two_runs[0]), str(path)), most=0)[0].options
    assert (option.name, option.first, option.second) == ("method.options.samples", 32, 64)
    assert option.methods == ("ssig", "ig/50")


def test_numbers_that_were_measured_otherwise_get_no_verdict(
    two_runs: tuple[Path, Path], changed_run: Callable[..., Path]
) -> None:
    def change(config: dict[str, Any]) -> None:
        config["metrics"]["insertion"]["steps"] = 7

    path = changed_run(change)
    comparison, runs = compare((str(two_runs[0]), str(path)), most=0)
    rows = {(row.pair.method, row.column.name): row for row in comparison.rows}
    row = rows["ig/50", "insertion"]
    assert row.not_tested == "measured with other options: steps"
    assert (row.difference.p, row.difference.verdict) == (None, "")
    assert rows["ig/50", "deletion"].difference.verdict == "better"
    records = as_json(comparison, runs)["differences"]
    assert [record["not_tested"] for record in records if record["column"] == "insertion"] == [row.not_tested] * 2


def test_a_metric_of_one_run_alone_is_listed_and_no_option(
    two_runs: tuple[Path, Path], changed_run: Callable[..., Path]
) -> None:
    def change(config: dict[str, Any]) -> None:
        del config["metrics"]["completeness"]

    path = changed_run(change)
    comparison = compare((str(two_runs[0]), str(path)), most=0)[0]
    assert comparison.options == []
    assert "small & quick: completeness only in A" in comparison.lacking


def test_other_networks_and_classes_are_said_beforehand(
    two_runs: tuple[Path, Path], changed_run: Callable[..., Path], comparison: Comparison
) -> None:
    def change(config: dict[str, Any]) -> None:
        config["model"]["weights_hash"] = "f" * 16

    path = changed_run(change)
    other = compare((str(two_runs[0]), str(path)), most=2)[0]
    assert comparison.notes == []
    assert other.notes[0].startswith("The networks differ")


def test_where_nothing_differs_that_is_the_sentence(two_runs: tuple[Path, Path], tmp_path: Path) -> None:
    path = tmp_path / "again"
    shutil.copytree(two_runs[0], path)
    comparison = compare((str(two_runs[0]), str(path)), most=4)[0]
    assert comparison.summary.startswith(f"None of {comparison.tested} comparisons tells the two runs apart (24 ")
    assert comparison.tested > 0
    for maps in comparison.maps:
        assert maps.quantiles == pytest.approx((1, 1, 1))
