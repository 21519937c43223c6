"""The rows of a run as arrays: paired by image, with every status and every reason counted."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np

from pipeline.report.accounts import accounts
from pipeline.report.columns import Column, Source, headed
from pipeline.report.measurements import gather, lists
from pipeline.run.reader import open_run

MODEL = "small & quick"


def test_rows_of_all_methods_meet_at_the_same_image(finished_run):
    found = gather(open_run(finished_run.path), MODEL)
    assert found.methods == ("ssig", "ig/50")
    assert found.expected == 24
    for number, method in enumerate(found.methods):
        for position, column in enumerate(found.columns):
            expected = finished_run.values[method][column.name].astype(np.float32)
            np.testing.assert_array_equal(found.values.of_method(number, position), expected, err_msg=column.name)


def test_uncommitted_files_count_for_nothing(finished_run):
    found = gather(open_run(finished_run.path), MODEL)
    expected = Counter(sample.status for sample in finished_run.samples)
    assert found.statuses == {"ssig": expected, "ig/50": expected}
    assert sum(expected.values()) == found.expected


def test_failures_are_listed_once_with_their_methods(finished_run):
    failures = gather(open_run(finished_run.path), MODEL).failures
    assert [(item.key, item.status, item.methods) for item in failures] == [
        ("photo_0003", "undecodable", ("ssig", "ig/50")),
        ("photo_0005", "no_label", ("ssig", "ig/50")),
    ]


def test_a_missing_unit_is_counted_as_not_done(fake_run):
    next((fake_run.path / "commits").rglob("method=ssig/000001-000008-000012.json")).unlink()
    found = gather(open_run(fake_run.path), MODEL)
    assert found.statuses["ssig"].total() == 20
    account = next(row for row in accounts(found) if row.column == "insertion" and "ssig" in row.methods)
    assert account.kept == 18
    assert dict(account.reasons) == {"unit not done": 4, "sample undecodable": 1, "sample no_label": 1}


def test_every_image_is_kept_or_has_a_reason(finished_run):
    found = gather(open_run(finished_run.path), MODEL)
    for row in accounts(found):
        assert row.kept + row.excluded == found.expected
        assert sum(count for _, count in row.reasons) == row.excluded
        assert "no reason recorded" not in dict(row.reasons)
    completeness = {row.methods: dict(row.reasons) for row in accounts(found) if row.column == "completeness"}
    assert completeness[("ssig",)]["method has no completeness residual"] == 22
    assert ("ig/50",) in completeness


def test_every_column_with_numbers_has_an_account(finished_run):
    found = gather(open_run(finished_run.path), MODEL)
    with_account = {row.column for row in accounts(found)}
    assert with_account >= {found.columns[index].name for index in (*found.headlines, *found.further)}
    assert {"insertion", "insertion_abs", "completeness_relative"} <= with_account


def test_the_headline_is_the_first_column_that_was_computed():
    source = Source("insertion")
    columns = tuple(Column(name, name, source, "higher", headline=not number) for number, name in enumerate("abc"))
    holding = np.zeros(3, bool)
    assert [one.headline for one in headed(columns, holding)] == [True, False, False]
    holding[1:] = True
    assert [one.headline for one in headed(columns, holding)] == [False, True, False]


def test_headlines_are_the_first_column_of_each_metric(finished_run):
    found = gather(open_run(finished_run.path), MODEL)
    names = [found.columns[index].name for index in found.headlines]
    assert names == ["insertion", "deletion", "insertion_deletion_gap", "completeness", "roc_auc", "pointing"]
    assert {column.name: column.sign for column in found.columns}["deletion"] == -1


def test_a_metric_that_the_registry_forgot_has_no_direction(fake_run):
    for path in (fake_run.path / "config").iterdir():
        config = json.loads(path.read_text())
        config["metrics"] = {"retired": {}, **config["metrics"]}
        path.write_text(json.dumps(config))
    column = gather(open_run(fake_run.path), MODEL).columns[-1]
    assert (column.name, column.direction, column.sign) == ("retired", "none", 0)


def test_curves_are_null_where_the_sample_failed(finished_run):
    values = lists(open_run(finished_run.path), MODEL, "ssig", "insertion_curve")
    assert values.shape == (24, 29)
    np.testing.assert_array_equal(np.isfinite(values).all(axis=1), finished_run.ok)
    assert lists(open_run(finished_run.path), MODEL, "ssig", "no_such_curve").shape == (24, 0)
