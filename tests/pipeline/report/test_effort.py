"""Sampling error, completeness and cost by method."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.report.columns import Source
from pipeline.report.effort import costs, efforts
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
