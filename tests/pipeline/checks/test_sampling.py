"""A random sample of a run's units bounds the share of those that are damaged."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from scipy.stats import binom

from pipeline.checks.audit import audit
from pipeline.checks.findings import Kind
from pipeline.checks.sampling import Sample, upper_bound
from pipeline.driver.synthetic import SyntheticRun, write_synthetic_run

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "support"))

import tampering as t
from command_line import Cli, command_line


@pytest.fixture
def run(tmp_path: Path) -> Path:
    wanted = SyntheticRun(images=40, methods=["ig", "gradient"], metrics=["gini"], unit_size=2, side=2)
    return Path(write_synthetic_run(tmp_path, wanted).root)


def test_the_bound_is_that_of_clopper_and_pearson() -> None:
    for count, units in ((0, 10), (0, 300), (2, 100), (9, 10)):
        bound = upper_bound(count, units)
        assert binom.cdf(count, units, bound) == pytest.approx(0.05, abs=1e-9)
    assert upper_bound(0, 300) == pytest.approx(3 / 300, rel=0.01)  # the rule of three
    assert upper_bound(5, 5) == 1.0


def test_a_sample_depends_on_its_seed_alone() -> None:
    units = [str(number) for number in range(1000)]
    first = Sample(50, seed=3).chosen(units)
    assert first == Sample(50, seed=3).chosen(units) == sorted(first, key=int)
    assert first != Sample(50, seed=4).chosen(units)
    assert Sample(2000).chosen(units) == units


def test_of_a_sound_run_a_sample_says_how_much_may_be_damaged(run: Path) -> None:
    result = audit(str(run), sample=Sample(5))
    assert result.ok
    assert result.sample is not None
    assert (result.sample.units, result.sample.of, result.sample.damaged) == (5, 20, 0)
    assert result.sample.bound == pytest.approx(1 - 0.05 ** (1 / 5))
    assert {label: sum(counts.values()) for label, counts in result.statuses.items()} == {
        "synthetic / gradient": 10,
        "synthetic / ig": 10,
    }
    (commit, *_) = t.commits(run)
    commit.unlink()
    assert [finding.kind for finding in audit(str(run), sample=Sample(5)).findings] == [Kind.UNFINISHED] * 2


def test_damage_in_the_sample_is_found_and_counted(run: Path) -> None:
    for path in run.glob("metrics/*/method=ig/*.parquet"):
        path.write_bytes(path.read_bytes()[:-9])
    result = audit(str(run), sample=Sample(4, seed=1))
    assert result.sample is not None
    assert (result.sample.damaged, result.sample.bound) == (4, 1.0)
    assert {finding.kind for finding in result.findings} == {Kind.DAMAGED}
    whole = audit(str(run), sample=Sample(100))
    assert whole.sample is not None
    assert (whole.sample.damaged, whole.sample.bound) == (20, 1.0)
    assert "all committed units" in whole.sample.sentence


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    return command_line(monkeypatch, capsys, "audit")


def test_the_command_says_the_bound_in_a_sentence(run: Path, cli: Cli) -> None:
    said = cli(run, "--sample", "5", "--seed", "2")
    assert said.code == 0
    assert "0 of 5 examined units are damaged, chosen at random of 20 (seed 2)" in said.out
    assert "with 95 % confidence at most 45.07% of all committed units are" in said.out
    record = json.loads(cli(run, "--sample", "5", "--json").out)
    assert record["sample"]["units"] == 5
    refused = cli(run, "--sample", "5", "--repair")
    assert refused.code == 2
    assert "--repair" in refused.err


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_tasks_on_a_cluster_find_the_same(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pipeline.driver import audit_tasks

    monkeypatch.setattr(audit_tasks, "UNITS_A_TASK", 3)
    t.flip_a_byte(run)
    t.commits(run)[4].unlink()
    with audit_tasks.examine_on_cluster() as examine:
        assert audit(str(run), examine) == audit(str(run))
