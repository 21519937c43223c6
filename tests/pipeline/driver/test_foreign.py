"""Methods, metrics and networks of others in real runs: an installed package and single files, on two actors."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from command_line import Cli, command_line

import ssig
from pipeline.checks.audit import audit
from pipeline.driver.attribute import attribute
from pipeline.run.reader import open_run
from ssig.errors import UsageError
from ssig.registry import METHODS, METRICS, PluginSource

Make = Callable[..., Any]
ROOT = Path(__file__).resolve().parents[3]
EXAMPLE = ROOT / "examples" / "my-method"

FILE = """
import networks

def mine(model, images, targets, baselines, generator, samples: int = 2):
    "Noisy gradient."
    import torch
    total = torch.zeros_like(images)
    for _ in range(samples):
        points = images + 0.1 * torch.randn(images.shape, generator=generator)
        points.requires_grad_()
        total += torch.autograd.grad(model(points).gather(1, targets[:, None]).sum(), points)[0]
    return (total / samples).abs().sum(dim=1)

def brightest(maps, share: float = 0.1):
    "Share of |map| in its brightest pixels."
    values = maps.abs().flatten(1)
    return values.topk(int(share * values.shape[1]), dim=1).values.sum(dim=1) / values.sum(dim=1)

brightest.__ssig_metric__ = {"better": "higher", "range": "[0, 1]"}
network = networks.tiny
"""
# Reads a run where none of its foreign code is: whole, audited, with a report.
READ = """
import sys
from pipeline.checks.audit import audit
from pipeline.report import build_report
from pipeline.run.reader import open_run
run = sys.argv[1]
print(audit(run).problems, open_run(run).metrics().num_rows, build_report(run))
assert not [name for name in sys.modules if name.startswith(("ssig_file_", "my_method"))]
"""


@pytest.fixture(autouse=True)
def adopted_of_this_test(monkeypatch: pytest.MonkeyPatch) -> None:
    for registry in (METHODS, METRICS):
        monkeypatch.setattr(registry, "_adopted", {})


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    return command_line(monkeypatch, capsys)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that `pip install --target` has put the example into."""
    folder = tmp_path_factory.mktemp("installed")
    source = shutil.copytree(EXAMPLE, tmp_path_factory.mktemp("source") / "my-method")
    offline = ["--no-deps", "--no-build-isolation", "--no-index", "--quiet", "--disable-pip-version-check"]
    subprocess.run([sys.executable, "-m", "pip", "install", *offline, "--target", folder, source], check=True)
    return folder


SMALL = (
    *("--set", "actors.num_cpus=1", "--set", "actors.num_gpus=0", "--set", "actors.micro_batch=4"),
    *("--set", "actors.min=2", "--set", "actors.max=2", "--set", "unit_size=2"),
)


def config_of(run: Path, method: str) -> dict[str, Any]:
    (path,) = run.glob(f"config/*@{method}.json")
    config: dict[str, Any] = json.loads(path.read_text())
    return config


def read_elsewhere(run: Path) -> str:
    """What a process says of a run that has none of its code."""
    command = [sys.executable, "-c", READ, str(run)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_an_installed_package(
    cli: Cli, installed: Path, make_shard: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(installed)
    shard, run = make_shard(count=8), tmp_path / "run"
    given = ("--shards", shard, "--model", "networks:tiny", "--out", run, *SMALL)
    mine = ("--method", "my-method:samples=2", "--method", "gradient", "--metric", "my_metric", "--metric", "gini")
    done = cli("attribute", *given, *mine)
    assert done.code == 0, done.err
    assert "my-method: 8 samples expected, 8 ok" in done.out
    assert audit(str(run)).problems == []
    config = config_of(run, "my-method")
    origin = {"distribution": "my-method", "version": "0.1.0", "object": "my_method.method:my_method"}
    assert config["method"]["origin"] == origin
    assert config["method"]["evaluations"] == 2
    assert config["foreign"]["my_metric"]["columns"] == {"my_metric": "higher"}
    assert "origin" not in config_of(run, "gradient")["method"]
    table = open_run(run).metrics().to_pandas()
    assert set(table[table.method == "my-method"].gradient_evaluations) == {2}
    assert table.my_metric.between(0.1, 1).all()

    # A later command that names another method goes on with this one, and its tables keep their columns.
    again = cli("attribute", *given, "--method", "ig:steps=2", "--metric", "my_metric", "--metric", "gini")
    assert again.code == 0, again.err
    assert "my-method: 8 samples expected, 8 ok" in again.out

    monkeypatch.undo()
    assert read_elsewhere(run).startswith("[] 24 ")
    report = (run / "report" / "report.md").read_text().replace("\\", "")
    assert "my-method 0.1.0" in report
    assert "The share of |map|" in report.replace("&#124;", "|")


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_single_files(cli: Cli, make_shard: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "code"
    folder.mkdir()
    file = folder / "mine.py"
    file.write_text(FILE)
    monkeypatch.chdir(folder)
    shard, run = make_shard(count=6), tmp_path / "run"
    given = ("--shards", shard, "--model", "./mine.py:network", "--out", run, *SMALL)
    mine = ("--method", "./mine.py:mine:samples=3", "--metric", "./mine.py:brightest")
    done = cli("attribute", *given, *mine)
    assert done.code == 0, done.err
    config = config_of(run, "mine")
    assert config["model_label"] == "network"
    assert config["model"]["name"] == "mine.py:network"
    digest = config["method"]["origin"]["sha256"]
    assert config["model"]["origin"]["sha256"] == config["foreign"]["brightest"]["origin"]["sha256"] == digest
    table = open_run(run).metrics().to_pandas()
    assert set(table.gradient_evaluations) == {3}
    assert table.brightest.between(0.1, 1).all()

    # Added later, with the network from where it was.
    added = cli("evaluate", run, "--metric", "./mine.py:brightest:share=0.2", "--name", "later", *SMALL[:10])
    assert added.code == 0, added.err

    # Nothing is left to do from another folder, and an edited file is another method.
    moved = folder.rename(tmp_path / "moved")
    monkeypatch.chdir(moved)
    assert cli("attribute", *given, *mine).code == 0
    (moved / "mine.py").write_text(FILE.replace("0.1 * torch", "0.2 * torch"))
    edited = cli("attribute", *given, *mine)
    assert edited.code == 2
    assert "method.origin.sha256" in edited.err
    gone = cli("evaluate", run, "--metric", "gini", *SMALL[:10])
    assert gone.code == 2
    assert "--trust ./mine.py:network" in gone.err
    other = cli("evaluate", run, "--metric", "gini", "--trust", "./mine.py:network", *SMALL[:10])
    assert other.code == 2
    assert "was run with code of" in other.err

    shutil.rmtree(moved)
    monkeypatch.chdir(tmp_path)
    assert read_elsewhere(run).startswith("[] 6 ")
    record = json.loads((run / "report" / "report.json").read_text())["models"][0]
    assert record["means"]["mine"]["brightest"]["count"] == 6
    assert "brightest@later" in record["means"]["mine"]


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_an_actor_with_another_version_ends_the_command(
    installed: Path, make_shard: Make, make_job: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(installed)
    job = make_job(make_shard(count=2), methods=["my-method"], metrics=[])
    METHODS["my-method"]
    newer = PluginSource("method", "my-method", "my-method", "9.9", "my_method.method:my_method")
    monkeypatch.setitem(METHODS._adopted, "my-method", (newer, METHODS["my-method"]))
    with pytest.raises(UsageError, match=r"my-method 9\.9 on every machine; .* has my-method 0\.1\.0"):
        attribute(job)


def test_metrics_may_call_a_plain_function_again(
    make_shard: Make, make_job: Make, work_off: Callable[..., Path], tmp_path: Path
) -> None:
    file = tmp_path / "mine.py"
    file.write_text(FILE)
    metrics = [{"name": "max_sensitivity", "samples": 2}, {"name": "random_logit"}]
    run = work_off(make_job(make_shard(count=3), methods=[f"{file}:mine"], metrics=metrics))
    table = open_run(run).metrics().to_pandas()
    assert table.status.tolist() == ["ok"] * 3
    assert table[["max_sensitivity", "random_logit"]].notna().all().all()


def test_the_tests_of_the_example_pass(installed: Path) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", os.devnull, EXAMPLE / "tests"]
    environment = {**os.environ, "PYTHONPATH": f"{installed}:{ROOT}"}
    done = subprocess.run(command, cwd=installed, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "3 passed" in done.stdout


def test_a_job_is_submitted_with_its_files(tmp_path: Path) -> None:
    import yaml

    from jobs.commands.upload import code_files, job_for_cluster

    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "mine.py").write_text(
        FILE.replace("import networks", "").replace("network = networks.tiny", "")
    )
    path = tmp_path / "job.yaml"
    job = {
        "dataset": {"shards": "/data/a.tar"},
        "methods": ["ig", {"name": "code/mine.py:mine", "samples": 3}],
        "output": {"path": "s3://bucket/run"},
    }
    path.write_text(yaml.safe_dump(job))
    sent = yaml.safe_load(job_for_cluster(path, None))
    assert sent["methods"] == ["ig", {"name": "./mine.py:mine", "samples": 3}]
    assert code_files(path) == [tmp_path / "code" / "mine.py"]


def test_the_library_is_typed() -> None:
    assert (Path(ssig.__file__).parent / "py.typed").is_file()
