"""`ssig plan` as a user types it: what it prints, what it refuses, and that it writes nothing."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

SUPPORT = Path(__file__).resolve().parents[2] / "support"
sys.path.insert(0, str(SUPPORT))

from command_line import Cli, command_line  # noqa: E402
from tests_shards import members, write_tar  # noqa: E402

from jobs.commands.plan import clock, lines, size  # noqa: E402
from pipeline.driver.admission import record_run  # noqa: E402
from pipeline.job.configuration import load_job  # noqa: E402
from pipeline.plan import samples, unit_size  # noqa: E402
from pipeline.plan.estimate import Terms, estimate  # noqa: E402
from pipeline.plan.files import Output  # noqa: E402
from pipeline.plan.work import LabelWork, Work  # noqa: E402
from pipeline.run.directory import RunDirectory  # noqa: E402
from pipeline.storage import open_storage  # noqa: E402

METHODS = ("--method", "gradient", "--method", "ssig:samples=4", "--metric", "insertion:steps=4")


@pytest.fixture
def ssig(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    monkeypatch.syspath_prepend(str(SUPPORT))
    return command_line(monkeypatch, capsys)


@pytest.fixture
def job(tmp_path: Path) -> tuple[str, ...]:
    """The options of a small job."""
    shard = write_tar(tmp_path / "a.tar", members(0, 6))
    small = ("--set", "actors.micro_batch=2", "--set", "unit_size=4", "--in-process")
    return "--shards", str(shard), "--model", "networks:tiny", *METHODS, "--out", str(tmp_path / "run"), *small


def test_it_says_what_a_job_costs_and_writes_nothing(ssig: Cli, job: tuple[str, ...], tmp_path: Path) -> None:
    before = sorted(tmp_path.iterdir())
    result = ssig("plan", *job, "--probe-seconds", 0.1, "--devices", 2, "--price", 3)
    assert result.code == 0, result.err
    assert sorted(tmp_path.iterdir()) == before
    lines = result.out.splitlines()
    assert max(map(len, lines)) <= 80
    assert "6 images x 2 methods, 2 units of at most 4 images" in " ".join(result.out.split())
    sums = next(line for line in lines if line.startswith("sum")).split()
    assert sums[1:3] == ["30", str(6 * (1 + 2 * 7))]
    for beginning in ("measured: ", "time: ", "price: ", "slowest: ", "writes: 10 files of"):
        assert any(line.startswith(beginning) for line in lines), result.out
    assert "it cannot know:" in lines


def test_a_program_reads_the_same_as_json(ssig: Cli, job: tuple[str, ...]) -> None:
    record = json.loads(ssig("plan", *job, "--gradients-per-second", 100, "--devices", 3, "--json").out)
    assert record["samples"] == 6
    assert record["gradients"] == 30
    assert record["probe"] is None
    assert record["device_hours"] == pytest.approx((30 + 90 / 3) / 100 / 3600)
    assert record["wall_hours"] == pytest.approx(record["device_hours"] / 3)
    assert record["slowest"]["label"] == "ssig"


def test_without_a_probe_it_says_what_it_does_not_know(
    ssig: Cli, job: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unit_size, "FEW", 0)
    result = ssig("plan", *job, "--no-probe", "--set", "unit_size=auto")
    assert result.code == 0, result.err
    assert "at most" in result.out
    assert "device-hours" not in result.out
    assert "unit_size is auto, which a probe decides; 64 is assumed here" in result.out


@pytest.mark.slow
def test_actors_for_metrics_are_not_in_the_time(ssig: Cli, job: tuple[str, ...]) -> None:
    options = [option for option in job if option != "--in-process"]
    result = ssig("plan", *options, "--set", "actors.metrics=1")
    assert result.code == 0, result.err
    assert "actors.metrics takes them off it" in result.out


def test_actors_for_metrics_are_no_matter_of_a_stated_rate(ssig: Cli, job: tuple[str, ...]) -> None:
    options = [option for option in job if option != "--in-process"]
    result = ssig("plan", *options, "--set", "actors.metrics=1", "--gradients-per-second", 100)
    assert result.code == 0, result.err
    assert "what metrics compute beside the network" in result.out
    assert "actors.metrics takes them off it" not in result.out


def test_of_a_run_that_has_begun_it_says_what_is_left(ssig: Cli, job: tuple[str, ...]) -> None:
    assert ssig("attribute", *job, "--quiet").code == 0
    more = ("--method", "ig:steps=2")
    record = json.loads(ssig("plan", *job, *more, "--no-probe", "--json").out)
    assert record["left"] == {"gradient": 0, "ssig": 0, "ig": 6}
    assert record["output"]["files"] == 6  # two units
    result = ssig("plan", *job, *more, "--no-probe")
    assert "begun: 6 maps are left to do" in result.out


@pytest.mark.parametrize("counted", [True, False])
def test_of_a_run_that_has_not_listed_its_shards_it_plans_the_others_too(
    ssig: Cli, tmp_path: Path, counted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    shards = [str(write_tar(tmp_path / f"{number}.tar", members(6 * number, 6))) for number in range(4)]
    model = {"model.name": "networks:tiny", "methods": ["gradient"], "output.path": str(tmp_path / "run")}
    job = load_job(None, {"dataset.shards": shards, **model, "unit_size": 4})
    record_run(job, RunDirectory(open_storage(job.output.path)), shards)
    if not counted:
        monkeypatch.setattr(samples, "COUNTED_BYTES", 0)
    options = [word for shard in shards for word in ("--shards", shard)]
    options += ["--model", "networks:tiny", "--method", "gradient", "--out", job.output.path]
    result = ssig("plan", *options, "--set", "unit_size=4", "--no-probe")
    assert result.code == 0, result.err
    text = " ".join(result.out.split())
    about = "" if counted else "about "
    assert f"{about}24 images x 1 method, {about}8 units of at most 4 images" in text
    assert "the run has listed 1 of 4 shards" in text
    assert "begun:" not in text
    assert sorted(path.name for path in (tmp_path / "run" / "manifest").iterdir()) == ["000000.parquet"]


def test_shards_that_were_copied_are_refused_unless_they_are_trusted(ssig: Cli, job: tuple[str, ...]) -> None:
    assert ssig("attribute", *job, "--quiet").code == 0
    os.utime(job[1], (1, 1))
    refused = ssig("plan", *job, "--no-probe")
    assert refused.code == 2
    assert "--trust-shards" in refused.err
    trusted = ssig("plan", *job, "--no-probe", "--trust-shards")
    assert (trusted.code, trusted.out.splitlines()[-1]) == (0, "begun: nothing is left to do")


def test_a_folder_of_images_is_planned_without_packing_it(ssig: Cli, tmp_path: Path) -> None:
    from PIL import Image

    for number in range(3):
        (tmp_path / "images" / "tabby").mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 40), (number, 90, 60)).save(tmp_path / "images" / "tabby" / f"{number}.png")
    run = tmp_path / "run"
    options = ("--model", "networks:tiny", "--target", "predicted", "--method", "gradient", "--in-process")
    result = ssig("plan", "--images", tmp_path / "images", *options, "--out", run, "--probe-seconds", 0.1)
    assert result.code == 0, result.err
    assert "3 images x 1 method" in " ".join(result.out.split())
    assert not run.exists()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--gradients-per-second", 0), "a number above 0"),
        (("--devices", 0), "--devices"),
        (("--method", "no-such"), "no-such"),
        (("--set", "unit_size=automatic"), "unit_size"),
    ],
)
def test_wrong_options_are_one_clear_line(
    ssig: Cli, job: tuple[str, ...], options: tuple[str, ...], says: str
) -> None:
    result = ssig("plan", *job, *options)
    assert result.code == 2
    assert says in result.err
    assert len(result.err.splitlines()) == 1


def test_numbers_are_shown_for_a_person() -> None:
    assert [size(1), size(12_300), size(4.56e9), size(999_900)] == ["1 bytes", "12.3 kB", "4.56 GB", "1 MB"]
    assert [clock(0.31), clock(75), clock(7260), clock(200_000)] == ["0.31 s", "1:15 min", "2:01 h", "2 d 7:33 h"]


def test_a_job_of_months_is_shown_without_exponents() -> None:
    terms = Terms("run", 10**7, True, 64, 157_000, {"ssig": 10**7}, devices=8, price=1234.5, rate=12_345.0)
    work = [LabelWork("ssig", Work(10_000), {})]
    shown = "\n".join(lines(estimate(terms, work, Output(10**6, 2.5e15, 2e15, measured=False), None, [])))
    assert "time: 2,250 device-hours" in shown
    assert "at 1,234.5 a device-hour" in shown
    assert "stated: 12,345 gradients/s of a device" in shown
    assert "e+" not in shown
