"""The method that others are compared with, and the order in which methods stand."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from pipeline.driver.attribute import attribute
from pipeline.report import build_report, report_is_current
from pipeline.report.reference import ordered_methods, reference_method
from pipeline.run.reader import open_run
from ssig.errors import UsageError

Make = Callable[..., Any]
MODEL = "small & quick"


def configured(fake: Any, change: Callable[[dict[str, Any]], object]) -> None:
    """Changes the configuration of every label."""
    for path in (fake.path / "config").iterdir():
        config = json.loads(path.read_text())
        change(config)
        path.write_text(json.dumps(config))


def record(run: Path) -> dict[str, Any]:
    report: dict[str, Any] = json.loads((run / "report" / "report.json").read_text())
    return report


def test_methods_stand_in_the_order_of_the_user(run_of: Make) -> None:
    fake = run_of("smoothgrad", "ig", "gradient")
    assert ordered_methods(open_run(fake.path), MODEL) == ("smoothgrad", "ig", "gradient")
    build_report(str(fake.path))
    (model,) = record(fake.path)["models"]
    assert model["methods"] == ["smoothgrad", "ig", "gradient"]
    assert model["reference"] == "smoothgrad"
    page = (fake.path / "report" / "index.html").read_text()
    assert "attributed to the pixels by smoothgrad, ig, gradient" in page


def test_labels_without_a_position_follow_by_name(run_of: Make) -> None:
    fake = run_of("smoothgrad", "ig", "gradient")
    configured(fake, lambda config: config.pop("position") if config["method_label"] != "smoothgrad" else None)
    assert ordered_methods(open_run(fake.path), MODEL) == ("smoothgrad", "gradient", "ig")
    configured(fake, lambda config: config.pop("position", None))
    assert ordered_methods(open_run(fake.path), MODEL) == ("gradient", "ig", "smoothgrad")


@pytest.mark.parametrize(
    ("labels", "reference"),
    [
        (("centre", "gradient"), "gradient"),  # of these, the alphabet's first is a control
        (("ig", "ssig"), "ig"),  # ours is no better than the user's first
        (("random", "sobel"), "random"),
    ],
)
def test_the_first_method_that_explains_is_the_reference(
    run_of: Make, labels: tuple[str, ...], reference: str
) -> None:
    fake = run_of(*labels)
    assert reference_method(open_run(fake.path), MODEL) == reference
    configured(fake, lambda config: config.pop("position"))
    assert reference_method(open_run(fake.path), MODEL) == reference


def test_the_reference_that_was_asked_for_is_kept_until_another_is_named(fake_run: Any) -> None:
    run = str(fake_run.path)
    build_report(run)
    assert record(fake_run.path)["reference"] is None
    assert not report_is_current(open_run(run), "ig/50")
    build_report(run, "ig/50")
    (model,) = record(fake_run.path)["models"]
    assert (model["reference"], model["methods"]) == ("ig/50", ["ssig", "ig/50"])
    assert list(model["differences"]) == ["ssig"]
    assert "report: {reference: ig/50}" in model["provenance"]["jobs"][0]
    page = (fake_run.path / "report" / "index.html").read_text()
    assert "Paired difference to ig/50" in page
    assert report_is_current(open_run(run), "ig/50")
    assert report_is_current(open_run(run))
    build_report(run)
    assert record(fake_run.path)["reference"] == "ig/50"
    build_report(run, "ssig")
    assert record(fake_run.path)["models"][0]["reference"] == "ssig"


def test_a_reference_that_is_no_label_is_refused_with_the_labels(fake_run: Any) -> None:
    with pytest.raises(
        UsageError, match=r"--reference: found 'sssig'; did you mean ssig\? allowed: one of ssig, ig/50"
    ):
        build_report(str(fake_run.path), "sssig")
    assert not (fake_run.path / "report").exists()


def test_the_command_takes_a_reference(fake_run: Any) -> None:
    from jobs.cli import app

    result = CliRunner().invoke(app, ["report", str(fake_run.path), "--reference", "ig/50"])
    assert result.exit_code == 0, result.output
    assert record(fake_run.path)["models"][0]["reference"] == "ig/50"


def test_a_job_names_its_reference(make_shard: Make, make_job: Make, work_off: Make, tmp_path: Path) -> None:
    shard = make_shard(count=3)
    with pytest.raises(
        UsageError, match=r"report\.reference: found 'igg'; did you mean ig\? allowed: one of ssig, ig"
    ):
        attribute(make_job(shard, report__reference="igg"))
    assert not (tmp_path / "run").exists()
    job = make_job(shard, report__reference="ig")
    run = work_off(job)
    # Nothing is left to do but the report, which is the job's.
    assert attribute(job).exit_code == 0
    assert record(run)["models"][0]["reference"] == "ig"
    attribute(make_job(shard))
    assert record(run)["models"][0]["reference"] == "ig"
    attribute(make_job(shard, report__reference="ssig"))
    assert record(run)["models"][0]["reference"] == "ssig"
    # A job of one method may be compared with another of the run.
    attribute(make_job(shard, methods=[{"name": "ig", "steps": 4}], report__reference="ssig"))
    assert record(run)["models"][0]["reference"] == "ssig"
