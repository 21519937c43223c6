"""Whole jobs: resume, additions, refusals, faults in data and networks; with Ray actors where these matter."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest
from tests_shards import members

from pipeline.checks.audit import audit
from pipeline.checks.status import status
from pipeline.driver.attribute import attribute
from pipeline.driver.executor import RunError
from pipeline.run.records import RefusedError
from ssig.errors import ModelError, UsageError

Make = Callable[..., Any]

ON_RAY = {"actors__executor": "ray"}


@pytest.fixture
def make_job(make_job: Make) -> Make:
    """A job that is done in this process, unless it says otherwise."""
    return lambda *shards, **overrides: make_job(*shards, **{"actors__executor": "local", **overrides})


@pytest.fixture(autouse=True)
def cluster_where_marked(request: pytest.FixtureRequest) -> None:
    """The cluster, for the cases of a test that need Ray."""
    if request.node.get_closest_marker("ray") is not None:
        request.getfixturevalue("ray_cluster")


def snapshot(run: Path) -> dict[str, tuple[int, bytes]]:
    """Every file of a run but its logs: modification time and content."""
    files = (path for path in run.rglob("*") if path.is_file() and "logs" not in path.parts)
    return {str(path.relative_to(run)): (path.stat().st_mtime_ns, path.read_bytes()) for path in files}


def rows_of(run: Path, columns: str) -> list[tuple[Any, ...]]:
    return duckdb.sql(f"select {columns} from '{run}/metrics/**/*.parquet' order by method, shard, index").fetchall()


def test_a_run_resumes_grows_and_refuses_changes(make_shard: Make, make_job: Make, tmp_path: Path) -> None:
    shard, run = make_shard(count=10), tmp_path / "run"
    first = attribute(make_job(shard))
    assert (first.exit_code, first.units_to_do, first.units_done, first.expected) == (0, 3, 3, 10)
    assert first.statuses == {"ssig": {"ok": 10}, "ig": {"ok": 10}}
    assert first.report is not None
    assert Path(first.report).is_file()
    assert audit(str(run)).problems == []
    before = snapshot(run)

    again = attribute(make_job(shard))
    assert (again.exit_code, again.units_to_do) == (0, 0)
    assert snapshot(run) == before

    more = [{"name": "ssig", "samples": 4}, {"name": "ig", "steps": 4}, "gradient"]
    added = attribute(make_job(shard, methods=more))
    assert (added.exit_code, added.units_to_do) == (0, 3)
    after = snapshot(run)
    new = {name for name in after if name not in before}
    commits = {name for name in new if name.startswith("commits/")}
    assert len(commits) == 3  # of a batch of its own
    assert new - commits == {
        name.replace("method=ig", "method=gradient").replace("@ig", "@gradient")
        for name in before
        if "ig" in name and "report" not in name and "ssig" not in name
    }
    assert all(after[name] == before[name] for name in before if not name.startswith("report/"))
    assert audit(str(run)).ok

    alone = attribute(make_job(shard, methods=["gradient"]))  # adds, never removes
    assert alone.units_to_do == 0
    assert set(alone.statuses) == {"ssig", "ig", "gradient"}

    with pytest.raises(RefusedError, match=r"method\.options\.steps: recorded 4, asked for 5"):
        attribute(make_job(shard, methods=[{"name": "ig", "steps": 5}]))
    with pytest.raises(RefusedError, match=r"metrics\.insertion"):
        attribute(make_job(shard, metrics=["roc_auc"]))
    with pytest.raises(RefusedError, match=r"seed: recorded 0, asked for 1"):
        attribute(make_job(shard, seed=1))
    with pytest.raises(RefusedError, match=r"unit_size: recorded 4, asked for 5"):
        attribute(make_job(shard, unit_size=5))
    with pytest.raises(RefusedError, match=r"dataset\.limit: recorded nothing, asked for 3"):
        attribute(make_job(shard, dataset__limit=3))
    with pytest.raises(RefusedError, match=r"dataset\.shards"):
        attribute(make_job(shard, make_shard("b.tar")))
    make_shard(count=10, first=1)  # the same name with other content
    with pytest.raises(RefusedError, match=r"a\.tar"):
        attribute(make_job(shard))
    assert snapshot(run) == after


def test_a_changed_option_lives_beside_the_old_under_its_own_label(make_shard: Make, make_job: Make) -> None:
    shard = make_shard(count=2)
    attribute(make_job(shard, methods=[{"name": "ig", "steps": 4}]))
    both = attribute(make_job(shard, methods=[{"name": "ig", "steps": 5, "label": "ig-5"}]))
    assert set(both.statuses) == {"ig", "ig-5"}


@pytest.mark.parametrize(
    "overrides",
    [
        pytest.param({**ON_RAY, "actors__max": 2}, marks=pytest.mark.ray),
        pytest.param({**ON_RAY, "actors__num_gpus": 1, "actors__device": "cpu"}, marks=pytest.mark.ray),
        {"unit_size": 3},
    ],
)
def test_layout_changes_no_number(make_shard: Make, make_job: Make, tmp_path: Path, overrides: dict[str, Any]) -> None:
    shard = make_shard(count=9)
    columns = "method, key, label, predicted, status, insertion, deletion, roc_auc, probability"
    expected = attribute(make_job(shard))  # in this process
    found = attribute(make_job(shard, output__path=str(tmp_path / "other"), **overrides))
    assert found.exit_code == 0
    for one, other in zip(rows_of(Path(expected.run), columns), rows_of(Path(found.run), columns), strict=True):
        assert one[:5] == other[:5]
        assert one[5:] == pytest.approx(other[5:], abs=1e-3)


def cut(name: str) -> Callable[[bytes], bytes]:
    """Ends a tar on a member border, inside a header, or inside a payload, near its end."""

    def apply(data: bytes) -> bytes:
        last = data.rindex(b"image0005.jpg")
        return data[: {"border": last, "header": last + 200, "payload": last + 600}[name]]

    return apply


@pytest.mark.parametrize("where", ["border", "header", "payload"])
def test_faults_in_data_are_rows_and_records(make_shard: Make, make_job: Make, tmp_path: Path, where: str) -> None:
    from tests_shards import members

    files = members(0, 6)
    names = [name for name, _ in files]
    files[names.index("image0001.jpg")] = ("image0001.jpg", files[0][1][:300])
    files = [file for file in files if file[0] != "image0002.cls"]
    files.insert(9, files[0])
    shard = make_shard(files=files)
    shard.write_bytes(cut(where)(shard.read_bytes()))
    summary = attribute(make_job(shard))
    assert summary.exit_code == 3
    rows = {(key, state): error for key, state, error in rows_of(tmp_path / "run", "key, status, error")}
    assert ("image0000", "ok") in rows
    assert "image0001" in rows["image0001", "undecodable"]
    assert "image0002" in rows["image0002", "no_label"]
    assert "image0000" in rows["image0000", "duplicate"]
    records = [json.loads(path.read_text()) for path in (tmp_path / "run" / "quarantine").iterdir()]
    assert {"duplicate", "truncated"} <= {record["kind"] for record in records}
    assert all(record["shard"] == "a.tar" and record["reason"] for record in records)
    assert any(record["offset"] for record in records if record["kind"] == "truncated")
    if where == "payload":
        assert ("image0005", "truncated") in rows
    result = audit(str(tmp_path / "run"))
    assert result.problems == []
    assert all(sum(counts.values()) == result.expected for counts in result.statuses.values())


@pytest.mark.parametrize(
    ("network", "executor"),
    [("raises_on_white", "local"), pytest.param("dies_on_white", "ray", marks=pytest.mark.ray)],
)
def test_a_poison_image_is_bisected_down_to(
    make_shard: Make, make_job: Make, tmp_path: Path, network: str, executor: str
) -> None:
    from tests_shards import members

    shard = make_shard(files=members(0, 4, white=1))
    given = {"model__name": f"networks:{network}", "methods": ["gradient"], "unit_size": 2}
    summary = attribute(make_job(shard, **given, actors__executor=executor))
    assert summary.exit_code == 3
    assert summary.statuses == {"gradient": {"ok": 3, "quarantined": 1}}
    (bad,) = [row for row in rows_of(tmp_path / "run", "key, status, error") if row[1] != "ok"]
    assert bad[0] == "image0001"
    assert "too bright" in bad[2] or "died" in bad[2]
    (record,) = [json.loads(path.read_text()) for path in (tmp_path / "run" / "quarantine").iterdir()]
    assert (record["key"], record["kind"]) == ("image0001", "poison")
    assert audit(str(tmp_path / "run")).ok
    assert status(str(tmp_path / "run")).quarantined == 1


def test_maps_that_are_not_finite_are_rows(make_shard: Make, make_job: Make, tmp_path: Path) -> None:
    from tests_shards import members

    shard = make_shard(files=members(0, 4, white=1))
    summary = attribute(make_job(shard, model__name="networks:gives_nan_on_white", methods=["gradient"]))
    assert summary.exit_code == 3
    assert summary.statuses == {"gradient": {"ok": 3, "nonfinite": 1}}
    assert audit(str(tmp_path / "run")).ok


def test_a_broken_network_stops_the_run(make_shard: Make, make_job: Make) -> None:
    with pytest.raises(RunError, match="this network is broken"):
        attribute(make_job(make_shard(count=8), model__name="networks:raises_on_photographs"))


def test_a_network_that_never_works_is_refused_before_any_work(
    make_shard: Make, make_job: Make, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match="this network is broken"):
        attribute(make_job(make_shard(count=8), model__name="networks:always_raises"))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("method", "field"),
    [
        ({"name": "grad-cam", "layer": "body.nowhere"}, "methods.grad-cam.layer"),
        ({"name": "grad-cam", "layer": "body.5", "label": "flat"}, "methods.flat.layer"),
        ("ssig-attention", "methods.ssig-attention"),
    ],
)
def test_a_method_that_the_network_cannot_run_is_refused_before_any_work(
    make_shard: Make, make_job: Make, tmp_path: Path, method: Any, field: str
) -> None:
    run = tmp_path / "run"
    with pytest.raises(UsageError) as refused:
        attribute(make_job(make_shard(count=4), methods=["gradient", method], metrics=[]))
    assert refused.value.field == field
    assert not run.exists()


def test_a_method_that_cannot_run_leaves_a_run_as_it_is(make_shard: Make, make_job: Make, tmp_path: Path) -> None:
    shard = make_shard(count=4)
    assert attribute(make_job(shard, methods=["gradient"], metrics=[])).exit_code == 0
    before = snapshot(tmp_path / "run")
    with pytest.raises(UsageError, match="ssig-attention"):
        attribute(make_job(shard, methods=["gradient", "ssig-attention"], metrics=[]))
    assert snapshot(tmp_path / "run") == before


@pytest.mark.ray
def test_actors_that_cannot_start_say_why_in_message_and_log(make_shard: Make, make_job: Make, tmp_path: Path) -> None:
    job = make_job(
        make_shard(count=4), model__name="networks:only_in_the_driver", methods=["gradient"], metrics=[], **ON_RAY
    )
    with pytest.raises(RunError, match=r"3 actors in a row failed to start: ModelError: .*not in this process"):
        attribute(job)
    (log,) = (tmp_path / "run" / "logs").glob("*.jsonl")
    lost = [line for line in map(json.loads, log.read_text().splitlines()) if line["event"] == "actor lost"]
    assert len(lost) == 3
    assert all("not in this process" in line["reason"] and "ray::" not in line["reason"] for line in lost)


def test_failed_units_are_done_again_when_asked(make_shard: Make, make_job: Make, tmp_path: Path) -> None:
    from tests_shards import members

    shard = make_shard(files=members(0, 8, white=5))
    job = make_job(shard, model__name="networks:raises_on_white", methods=["gradient"])
    attribute(job)
    again = attribute(job, retry_failed=True)
    assert (again.units_to_do, again.exit_code) == (1, 3)
    assert audit(str(tmp_path / "run")).ok


def test_a_report_that_cannot_be_made_is_no_wrong_use(make_shard: Make, make_job: Make, work_off: Make) -> None:
    job = make_job(make_shard())
    table = next((work_off(job) / "metrics").rglob("*.parquet"))
    whole = table.read_bytes()
    table.write_bytes(whole[:100])
    told: list[str | None] = []
    first = attribute(job, lambda progress, message: told.append(message))
    assert (first.exit_code, first.report, first.units_to_do) == (1, None, 0)
    assert any(str(table.name) in message for message in told if message)
    table.write_bytes(whole)
    again = attribute(job)
    assert again.exit_code == 0
    assert again.report is not None


@pytest.mark.parametrize(
    ("overrides", "error", "message"),
    [
        ({"model__name": "timm:resnet1"}, UsageError, "resnet18"),
        ({"model__name": "timm:resnet18"}, ModelError, "resnet18"),
        ({"model__target": 8}, UsageError, "below 8"),
        ({"actors__num_gpus": 1}, UsageError, r"actors\.device: .*CUDA cannot be used on"),
        (
            {"actors__device": "cuda", "actors__num_gpus": "auto"},
            UsageError,
            r"actors\.device: .*CUDA cannot be used on",
        ),
        ({"actors__device": "cuda", "actors__num_gpus": 0}, UsageError, r"actors\.num_gpus: found 0; .*=cpu$"),
        ({"dataset__shards": ["missing.tar"]}, UsageError, r"missing\.tar"),
    ],
)
def test_what_cannot_work_is_refused_before_any_work(
    make_shard: Make, make_job: Make, tmp_path: Path, overrides: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        attribute(make_job(make_shard(), **overrides))
    assert not (tmp_path / "run" / "run.json").exists()


@pytest.mark.ray
@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"actors__num_gpus": 1}, r"actors\.device: .*CUDA cannot be used on"),
        ({"actors__min": 3}, "at most 2"),
    ],
)
def test_what_a_cluster_cannot_do_is_refused_before_any_work(
    make_shard: Make, make_job: Make, tmp_path: Path, overrides: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        attribute(make_job(make_shard(), **ON_RAY, **overrides))
    assert not (tmp_path / "run" / "run.json").exists()


def test_a_directory_that_is_no_run_is_left_alone(make_shard: Make, make_job: Make, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.tex").write_text("x")
    with pytest.raises(UsageError, match=r"thesis\.tex"):
        attribute(make_job(make_shard()))
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["thesis.tex"]


def test_a_missing_label_matters_only_where_it_is_the_target(make_shard: Make, make_job: Make, tmp_path: Path) -> None:
    from tests_shards import members

    shard = make_shard(files=[file for file in members(0, 3) if not file[0].endswith("1.cls")])
    assert attribute(make_job(shard)).statuses["ig"] == {"ok": 2, "no_label": 1}
    other = make_job(shard, model__target="predicted", output__path=str(tmp_path / "b"))
    assert attribute(other).statuses["ig"] == {"ok": 3}
    given = make_job(shard, model__target=3, output__path=str(tmp_path / "c"))
    assert attribute(given).exit_code == 0
    assert Counter(target for (target,) in rows_of(tmp_path / "c", "target")) == {3: 6}


@pytest.mark.ray
def test_all_json_of_a_run_is_what_a_strict_parser_reads(make_shard: Make, make_job: Make, tmp_path: Path) -> None:
    """Where the cluster alone bounds the actors, their number is no number: the log says it in a word."""

    def refuse(name: str) -> None:
        raise ValueError(name)

    files = [*members(0, 2, white=1), ("image0009.jpg", b"no image"), ("image0009.cls", b"1")]
    job = make_job(make_shard(files=files), model__name="networks:gives_nan_on_white", actors__max="auto", **ON_RAY)
    run = Path(attribute(job).run)
    found = [path for path in run.rglob("*") if path.suffix in (".json", ".jsonl")]
    assert {path.relative_to(run).parts[0] for path in found} >= {"run.json", "config", "commits", "report", "logs"}
    for path in found:
        text = path.read_text(encoding="utf-8")
        for part in text.splitlines() if path.suffix == ".jsonl" else [text]:
            json.loads(part, parse_constant=refuse)
    (log,) = (run / "logs").iterdir()
    assert json.loads(log.read_text().splitlines()[0])["actors"] == "auto"
