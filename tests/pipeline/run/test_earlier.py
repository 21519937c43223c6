"""Runs of 0.1.0: read, audited and reported as they are; whatever would add to them is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests_shards import members, write_tar

from pipeline.checks.audit import audit
from pipeline.checks.findings import Kind
from pipeline.checks.repair import repair
from pipeline.checks.status import status
from pipeline.driver.added_metrics import add_metrics
from pipeline.driver.attribute import attribute
from pipeline.job.configuration import load_evaluation
from pipeline.report import build_report
from pipeline.run.earlier import BEFORE, completed, option_names
from pipeline.run.reader import open_run
from pipeline.run.records import RefusedError

Make = Callable[..., Any]

DATA = Path(__file__).resolve().parents[2] / "data"
MODEL = "networks:tiny"
ADVICE = r"a run of ssig 0\.1\.0 \(schema_version 1\).*finish it with ssig 0\.1\.0, or choose a new output path$"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A copy of a finished run of 0.1.0: `ssig:samples=4` and `ig:steps=4` with `insertion:steps=4` and `roc_auc` on
    two shards of two images, the last of which cannot be decoded; `gini` was added later."""
    return Path(shutil.copytree(DATA / "run-0.1.0", tmp_path / "run"))


def contents(folder: Path) -> dict[str, bytes]:
    """Every file but those of the lease, which comes and goes."""
    files = {path.relative_to(folder): path for path in folder.rglob("*") if path.is_file()}
    return {str(name): path.read_bytes() for name, path in files.items() if name.parts[0] != ".lease"}


def test_it_is_audited_from_its_files_alone(run: Path) -> None:
    result = audit(str(run))
    assert result.problems == []
    counts = {"ok": 3, "undecodable": 1}
    titles = [f"{MODEL} / {method}{later}" for later in ("", " / evaluation gini") for method in ("ig", "ssig")]
    assert result.statuses == dict.fromkeys(titles, counts)
    assert status(str(run)).finished


def test_what_is_wrong_with_it_is_found(run: Path) -> None:
    for number, name in enumerate(("metrics", "attributions", "evaluations/gini")):
        path = sorted((run / name).glob("model=*/method=ig/*.parquet"))[0]
        path.write_bytes(path.read_bytes()[:-9])
        kinds = {finding.kind for finding in audit(str(run)).findings}
        assert kinds == {Kind.DAMAGED, Kind.UNFINISHED}, (number, name)
    (run / "evaluations" / "gini" / "notes.txt").write_text("?")
    assert Kind.FOREIGN in {finding.kind for finding in audit(str(run)).findings}


def test_its_numbers_and_maps_are_read(run: Path) -> None:
    opened = open_run(run)
    table = opened.metrics()
    assert table.num_rows == 8
    assert set(table["method"].to_pylist()) == {"ssig", "ig"}
    assert table["insertion"].null_count == 2
    counts = "select method, count(insertion), count(distinct model) from relation group by method order by method"
    assert opened.relation().query("relation", counts).fetchall() == [("ig", 3, 1), ("ssig", 3, 1)]
    assert opened.evaluation("gini")["gini"].null_count == 2
    maps = opened.dataset(MODEL, "ssig")
    values, row = maps[0]
    assert values.shape == (32, 32)
    assert (row["method"], row["status"], row["key"]) == ("ssig", "ok", "image0000")
    assert [key for _, key, _ in opened.maps(MODEL, "ig")] == ["image0000", "image0001", "image0002"]


def test_it_is_reported(run: Path) -> None:
    build_report(str(run))
    (model,) = json.loads((run / "report" / "report.json").read_text())["models"]
    assert model["means"]["ig"]["insertion"]["count"] == 3
    assert model["means"]["ig"]["gini"]["count"] == 3
    residuals = {effort["method"]: effort["residual_count"] for effort in model["efforts"]}
    assert residuals == {"ig": 3, "ssig": 0}
    assert all(effort["gradient_evaluations"] == 4 for effort in model["efforts"])


@pytest.mark.parametrize("command", ["resume", "add a method", "retry", "evaluate"])
def test_nothing_is_added_to_it(run: Path, tmp_path: Path, make_job: Make, command: str) -> None:
    broken = [(name, b"no image" if name == "image0003.jpg" else data) for name, data in members(2, 2)]
    shards = [write_tar(tmp_path / "a.tar", members(0, 2)), write_tar(tmp_path / "b.tar", broken)]
    before = contents(run)
    methods = ["gradient"] if command == "add a method" else [{"name": "ig", "steps": 4}]
    job = make_job(*shards, methods=methods, metrics=["roc_auc"], output__path=str(run), unit_size=64)
    calls: dict[str, Callable[[], object]] = {
        "evaluate": lambda: add_metrics(str(run), load_evaluation({"metrics": ["energy"]})),
        "retry": lambda: attribute(job, retry_failed=True),
    }
    with pytest.raises(RefusedError, match=ADVICE) as refused:
        calls.get(command, lambda: attribute(job))()
    assert "\n" not in str(refused.value)
    assert contents(run) == before


def test_a_repair_removes_nothing_that_only_0_1_0_could_do_again(run: Path) -> None:
    assert repair(str(run)).sound
    stray = run / "metrics" / "model=networks%3Atiny" / "method=ig" / "000009-000000-000002.parquet"
    stray.write_bytes(b"?")
    assert repair(str(run)).sound
    assert not stray.exists()
    damaged = sorted((run / "metrics").glob("*/method=ig/*.parquet"))[0]
    damaged.write_bytes(damaged.read_bytes()[:-9])
    before = contents(run)
    with pytest.raises(RefusedError, match=ADVICE):
        repair(str(run))
    assert contents(run) == before


def test_no_run_mixes_schemas(run: Path) -> None:
    (config,) = (run / "config").glob("*@ig.json")
    config.write_text(json.dumps({**json.loads(config.read_text()), "schema_version": 2}))
    with pytest.raises(RefusedError, match="no field"):  # what runs of schema 2 record
        audit(str(run))


def test_every_option_that_came_up_since_says_what_it_was_before() -> None:
    """An option that 0.1.0 lacked stands in `pipeline.run.earlier.BEFORE` with the value that changes nothing."""
    first = json.loads((DATA / "options-0.1.0.json").read_text())
    for kind, entries in first.items():
        for name, options in entries.items():
            assert option_names(kind, name) >= set(options), f"{kind}.{name}: an option is gone"
            new = option_names(kind, name) - set(options)
            assert new <= BEFORE[kind].keys(), f"{kind}.{name}: {sorted(new - BEFORE[kind].keys())}"


def test_records_are_read_with_all_options(monkeypatch: pytest.MonkeyPatch) -> None:
    before = {"metrics": {"area": "trapezoid"}, "methods": {"rule": "left"}}
    monkeypatch.setattr("pipeline.run.earlier.BEFORE", before)
    config = {
        "method": {"name": "ig", "options": {"steps": 4}},
        "metrics": {"insertion": {"steps": 4}, "roc_auc": {}, "deletion": {"area": "fraction"}, "unknown": {"a": 1}},
    }
    found = completed(config)
    assert found["method"]["options"] == {"steps": 4, "rule": "left"}
    assert found["metrics"] == {
        "insertion": {"steps": 4, "area": "trapezoid"},
        "roc_auc": {},
        "deletion": {"area": "fraction"},
        "unknown": {"a": 1},
    }
    assert completed(completed(config)) == found
    assert completed({"metrics": {}}) == {"metrics": {}}
