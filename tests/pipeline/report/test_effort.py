"""Sampling error, completeness and cost by method."""

from __future__ import annotations

import dataclasses
import json
import shutil

import numpy as np
import pytest

from pipeline.report import build_report
from pipeline.report.columns import Source
from pipeline.report.effort import costs, efforts, forward_share, in_gradients
from pipeline.report.measurements import gather
from pipeline.run.reader import open_run
from ssig.registry import METRICS

ASKED = ("insertion", "stability", "mprt", "retired")


def test_each_method_has_its_own_account(finished_run):
    run = open_run(finished_run.path)
    sampled, exact = efforts(run, gather(run, "small & quick"))
    assert sampled.standard_error.mean == pytest.approx(0.2)
    assert sampled.standard_error.count == 22
    assert (sampled.residual, sampled.residual_count) == (None, 0)
    assert exact.standard_error.count == 0
    assert exact.standard_error.mean is None
    residuals = finished_run.values["ig/50"]["completeness"]
    assert exact.residual == pytest.approx(np.nanmedian(residuals))
    assert exact.relative_residual == pytest.approx(np.nanmedian(residuals) / 8)
    assert exact.residual_count == 22
    assert sampled.gradient_evaluations == exact.gradient_evaluations == 32


def test_seconds_are_per_image_of_the_committed_units(finished_run):
    run = open_run(finished_run.path)
    sampled, exact = efforts(run, gather(run, "small & quick"))
    # Four units of 24 images in all, 2 s and 3 s of attribution a unit.
    assert sampled.seconds["attribute"] == pytest.approx(4 * 2.0 / 24)
    assert exact.seconds["attribute"] == pytest.approx(4 * 3.0 / 24)
    assert set(sampled.seconds) == {"decode", "attribute", "metrics", "write", "total"}


def test_units_whose_seconds_are_unknown_do_not_count(finished_run):
    """Their tables are those of an attempt that did not get to its commit."""
    run = open_run(finished_run.path)
    first = run.commits[0]
    committed = run.committed
    run.committed = lambda *labels: [
        dataclasses.replace(commit, seconds={}) if commit.unit == first.unit else commit
        for commit in committed(*labels)
    ]
    sampled, _ = efforts(run, gather(run, "small & quick"))
    assert sampled.seconds["attribute"] == pytest.approx(3 * 2.0 / (24 - first.rows))


def test_costs_tell_what_explains_again(finished_run, monkeypatch):
    run = open_run(finished_run.path)
    monkeypatch.setattr("pipeline.report.effort.sources", lambda run, model: {Source(name): {} for name in ASKED})
    registered = {name: METRICS[name] for name in METRICS.names()}
    monkeypatch.setattr("pipeline.report.columns.metric_of", lambda run, model, source: registered.get(source.metric))
    found = {cost.metric: (cost.forwards, cost.explanations) for cost in costs(run, gather(run, "small & quick"))}
    assert found["insertion"][0] > 0
    assert found["insertion"][1] == 0
    assert found["stability"] == (0, 2)
    assert found["mprt"][1] > 1
    assert found["retired"] == (None, None)
    page = (finished_run.path / "report" / "report.md").read_text()
    assert "| metric | forwards per map | explanations per map |" in page
    assert "charged to the first method or metric that needs it" in page


def test_forwards_are_counted_apart_and_converted_by_the_measured_share() -> None:
    gradients = {"ig": 32.0, "ssig": 32.0, "rise": 0.0, "both": 10.0, "random": 0.0, "counted": 5.0}
    forwards = {"ig": 0, "ssig": 0, "rise": 80, "both": 5, "random": 0, "counted": None}
    seconds = {"ig": 0.5, "ssig": 0.78, "rise": 0.64, "both": 9.0, "random": 9.0, "counted": 9.0}
    ratio = forward_share(gradients, forwards, seconds)
    assert ratio == pytest.approx((0.64 / 80) / (1.28 / 64))
    costs = {method: in_gradients(gradients[method], forwards[method], ratio) for method in gradients}
    expected = {"ig": 32.0, "ssig": 32.0, "rise": 80 * ratio, "both": 10 + 5 * ratio, "random": 0.0, "counted": None}
    assert costs == pytest.approx(expected)


@pytest.mark.parametrize("left", ["rise", "ig"])
def test_without_a_measured_share_only_gradients_are_a_cost(left: str) -> None:
    ratio = forward_share({"ig": 32.0, "rise": 0.0}, {"ig": 0, "rise": 80}, {left: 1.0})
    assert ratio is None
    assert in_gradients(32.0, 0, ratio) == 32
    assert in_gradients(0.0, 80, ratio) is None


def test_a_report_shows_forwards_where_a_method_takes_some(finished_run, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(finished_run.path, folder, ignore=shutil.ignore_patterns("report"))
    run = open_run(folder)
    assert [effort.forwards for effort in efforts(run, gather(run, "small & quick"))] == [0, 0]
    path = next((folder / "config").glob("*.json"))
    config = json.loads(path.read_text())
    config["method"]["forwards"] = 81
    path.write_text(json.dumps(config))
    run = open_run(folder)
    assert sorted(effort.forwards for effort in efforts(run, gather(run, "small & quick"))) == [0, 81]
    config["method"]["forwards"] = None  # as many as an image has segments
    path.write_text(json.dumps(config))
    unknown = open_run(folder)
    assert {effort.forwards for effort in efforts(unknown, gather(unknown, "small & quick"))} == {0, None}
    config["method"]["forwards"] = 81
    path.write_text(json.dumps(config))
    build_report(str(folder))
    page = (folder / "report" / "report.md").read_text()
    assert "| gradients per image | forwards per image | cost in gradients |" in page
    assert "forwards per image" not in (finished_run.path / "report" / "report.md").read_text()
