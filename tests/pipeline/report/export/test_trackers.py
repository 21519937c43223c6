"""Entries of experiment trackers: the report's numbers, once; without the package, what to install."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pipeline.report.contents import contents
from pipeline.report.export.trackers import log, package
from pipeline.report.export.writing import opened
from pipeline.run.reader import open_run
from ssig.errors import UsageError


@pytest.mark.parametrize("name", ["mlflow", "wandb"])
def test_without_the_package_it_says_what_to_install(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UsageError, match=rf"pip install '\.\[{name}\]'") as refused:
        package(name)
    assert "\n" not in str(refused.value)


@pytest.fixture
def mlflow(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    pytest.importorskip("sqlalchemy", reason="MLflow's local store needs it")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.chdir(tmp_path)  # where it keeps the files of a local store
    return pytest.importorskip("mlflow")


def test_mlflow_gets_a_run_with_the_report_and_one_for_each_method(
    mlflow: Any, written_run: Any, tmp_path: Path, lines: list[str]
) -> None:
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    run = opened(str(written_run.path))
    where = log(run, "mlflow", uri, "maps", lines.append, again=False)
    client = mlflow.MlflowClient(tracking_uri=uri)
    number = client.get_experiment_by_name("maps").experiment_id
    logged = client.search_runs([number])
    whole = [each for each in logged if each.data.tags["ssig.part"] == "run"]
    assert [each.info.run_name for each in whole] == ["run"]
    assert whole[0].info.run_id in where
    files = {each.path for each in client.list_artifacts(whole[0].info.run_id, "report")}
    assert {"report/index.html", "report/report.json", "report/tables"} <= files
    methods = {each.info.run_name: each for each in logged if each not in whole}
    (model,) = contents(open_run(written_run.path)).models
    assert set(methods) == set(model.methods)
    for method, entry in methods.items():
        assert entry.data.tags["mlflow.parentRunId"] == whole[0].info.run_id
        assert entry.data.params["method.samples"] == "32"
        assert entry.data.params["metrics.insertion.steps"] == "28"
        estimate = model.comparison.means[method]["insertion"]
        logged_numbers = [entry.data.metrics[f"insertion/{end}"] for end in ("mean", "low", "high", "n")]
        assert logged_numbers == pytest.approx([estimate.mean, estimate.low, estimate.high, estimate.count])


def test_mlflow_gets_a_run_once(mlflow: Any, written_run: Any, tmp_path: Path, lines: list[str]) -> None:
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    run = opened(str(written_run.path))
    first = log(run, "mlflow", uri, "maps", lines.append, again=False)
    assert log(run, "mlflow", uri, "maps", lines.append, again=False) == first
    assert "logged already" in lines[-1]
    assert log(run, "mlflow", uri, "maps", lines.append, again=True) != first
    client = mlflow.MlflowClient(tracking_uri=uri)
    assert len(client.search_runs([client.get_experiment_by_name("maps").experiment_id])) == 3


def test_wandb_offline_gets_a_run_for_each_method(written_run: Any, tmp_path: Path) -> None:
    pytest.importorskip("wandb")
    code = (
        "import sys\n"
        "from pipeline.report.export.trackers import log\n"
        "from pipeline.report.export.writing import opened\n"
        "print(log(opened(sys.argv[1]), 'wandb', sys.argv[2], 'maps', print, again=False))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(written_run.path), str(tmp_path)],
        env={**os.environ, "WANDB_MODE": "offline", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "offline" in done.stdout
    assert len(list(tmp_path.glob("wandb/offline-run-*"))) == 3
