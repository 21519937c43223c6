"""The names of metrics for people."""

from __future__ import annotations

from ssig import metrics
from ssig.registry import METRICS
from ssig.registry.titles import TITLES, title


def test_every_column_of_every_metric_has_a_title() -> None:
    assert metrics
    columns = {
        column for name in METRICS.names() for column in (*METRICS[name].columns, *METRICS[name].dataset_columns)
    }
    assert {column for column in columns if "_abs" not in column} == set(TITLES)


def test_titles_differ() -> None:
    assert len(set(TITLES.values())) == len(TITLES)


def test_the_order_of_the_magnitude_is_named_after_the_column() -> None:
    assert title("insertion_abs") == "Insertion AUC, by |map|"
    assert title("aic_abs_mean") == "AIC, mean curve, by |map|"


def test_a_metric_of_another_package_has_its_column_as_words() -> None:
    assert title("my_own_score") == "my own score"
    assert title("my_abs") == "my abs"
