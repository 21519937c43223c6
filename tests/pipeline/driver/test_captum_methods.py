"""A run with classes of Captum and with a method over noise: finished, audited, and gone on with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.checks.audit import audit
from pipeline.driver.attribute import attribute
from pipeline.report.provenance import provenance
from pipeline.run.reader import open_run
from pipeline.run.revisions import is_current
from ssig.errors import UsageError

Make = Callable[..., Any]


def test_a_run_with_captum_and_over(make_shard: Make, make_job: Make, tmp_path: Path) -> None:
    shard = make_shard(count=3)
    methods = [
        {"name": "captum:DeepLift"},
        {"name": "captum:DeepLiftShap", "pool": 2},
        {"name": "captum:Lime", "features": "grid-2", "label": "lime"},
        {"name": "ig", "steps": 2, "over": "noise", "over_samples": 3, "label": "smooth"},
        {"name": "ig", "steps": 2},
        {
            **{"name": "xrai", "label": "regions", "base": "captum:Lime", "baselines": "one"},
            "base_options": "features=grid-2; n_samples=6; over=uniform; over_samples=2",
        },
        {"name": "captum:Saliency", "over": "noise", "over_samples": 3, "label": "smooth saliency"},
    ]
    job = make_job(shard, methods=methods, actors__executor="local", metrics=["completeness"])
    attribute(job)
    run = open_run(str(tmp_path / "run"))
    recorded = {method: config["method"] for (_, method), config in run.config.items()}
    assert recorded["captum:DeepLift"]["origin"]["distribution"] == "captum"
    assert recorded["captum:DeepLift"]["evaluations"] == 2
    assert recorded["captum:DeepLiftShap"]["evaluations"] == 4
    assert recorded["smooth"]["evaluations"] == 6
    assert recorded["smooth"]["options"]["over_samples"] == 3
    assert not [name for name in recorded["ig"]["options"] if name.startswith("over")]
    captum = {name: recorded["captum:DeepLift"]["origin"][name] for name in ("distribution", "version")}
    assert recorded["regions"]["base_origins"] == {"captum:Lime": {**captum, "object": "captum.attr:Lime"}}
    assert (recorded["regions"]["evaluations"], recorded["regions"]["forwards"]) == (0, 2 * (6 + 1))
    assert recorded["smooth saliency"]["origin"] == {**captum, "object": "captum.attr:Saliency"}
    assert (recorded["smooth saliency"]["evaluations"], recorded["smooth saliency"]["forwards"]) == (3, 3)
    assert recorded["lime"]["forwards"] == 25
    (model,) = {model for model, _ in run.config}
    names = [method.name for method in provenance(run, model).methods]
    assert f"xrai, of captum:Lime (captum {captum['version']})" in names
    config = run.config[model, "regions"]
    assert is_current(config)
    other = {**config["method"], "base_origins": {"captum:Lime": {**captum, "version": "0"}}}
    assert not is_current({**config, "method": other})
    assert audit(str(tmp_path / "run")).problems == []
    attribute(job)  # nothing is left to do, and nothing differs


def test_a_class_without_rules_is_refused_before_any_unit(make_shard: Make, make_job: Make, tmp_path: Path) -> None:
    shard = make_shard(count=1)
    job = make_job(shard, methods=[{"name": "captum:GuidedBackprop"}], actors__executor="local")
    with pytest.raises(UsageError, match="no ReLU module"):
        attribute(job)
    assert not list((tmp_path / "run").rglob("*.parquet"))
