"""`deploy/Dockerfile`: all that it names exists, and nothing of the tests is in it. `make check-image` follows it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "support"))

from dockerfile import Instruction, arguments, copied, instructions, is_sent  # noqa: E402

DOCKERFILE = ROOT / "deploy" / "Dockerfile"
STEPS = instructions(DOCKERFILE)
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_every_line_is_an_instruction() -> None:
    known = {"ARG", "FROM", "RUN", "COPY", "ENV", "USER", "WORKDIR", "ENTRYPOINT", "CMD"}
    assert {step.word for step in STEPS} <= known
    assert [step.word for step in STEPS][:2] == ["ARG", "FROM"]


@pytest.mark.parametrize("line", [step.rest for step in STEPS if step.word == "RUN"])
def test_each_run_line_is_a_shells(line: str) -> None:
    assert subprocess.run(["sh", "-n", "-c", line], capture_output=True).returncode == 0


def test_all_that_is_copied_is_there_and_sent_to_the_builder() -> None:
    ignored = ROOT / "deploy" / "Dockerfile.dockerignore"
    sources = [source for many, _ in copied(STEPS) for source in many]
    assert [source for source in sources if not (ROOT / source).exists() or not is_sent(source, ignored)] == []
    unsent = ("tests", "runs", ".git", ".venv", "docs", "ssig/__pycache__", "deploy/slurm")
    assert [path for path in unsent if is_sent(path, ignored)] == []


def test_all_that_the_project_is_installed_from_is_copied() -> None:
    packages = {package.partition(".")[0] for package in PROJECT["tool"]["setuptools"]["packages"]}
    project = PROJECT["project"]
    needed = {"pyproject.toml", "constraints.txt", project["readme"], *project["license-files"], *packages}
    assert needed <= {source for many, _ in copied(STEPS) for source in many}
    targets = {source: target for many, target in copied(STEPS) for source in many}
    assert {targets[package] for package in packages} == {f"/opt/build/{package}" for package in packages}


def test_extras_are_the_projects_and_none_is_for_tests() -> None:
    extras = arguments(STEPS)["EXTRAS"].split(",")
    known = PROJECT["project"]["optional-dependencies"]
    assert set(extras) <= known.keys()
    text = DOCKERFILE.read_text(encoding="utf-8")
    assert {"test", "dev", "docs", "bench", "notebook"} & set(extras) == set()
    assert "make install" not in text
    assert "--editable" not in text


def test_each_package_is_pinned() -> None:
    installs = re.findall(r"pip install[^&|;]*", " && ".join(step.rest for step in STEPS))
    assert len(installs) == 2
    assert all("--constraint /opt/build/constraints.txt" in line and "--no-cache-dir" in line for line in installs)


def test_the_image_runs_ssig_as_a_user_who_is_not_root() -> None:
    last = {step.word: step.rest for step in STEPS}
    assert last["ENTRYPOINT"] == '["ssig"]'
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", last["USER"])
    words = [step.word for step in STEPS]
    assert "RUN" not in words[words.index("USER") :]


@pytest.mark.parametrize(
    ("device", "address", "code", "said"),
    [
        ("gpu", "", 0, "from: \n"),
        ("cpu", "https://wheels.example/cpu", 0, "from:https://wheels.example/cpu 1\n"),
        ("cpu", "", 2, "CPU_INDEX: got nothing, needed: the address that pytorch.org/get-started shows for CPU\n"),
        ("tpu", "", 2, "DEVICE: got 'tpu', allowed: gpu, cpu\n"),
    ],
)
def test_both_devices_are_built_from_one_file_and_no_third_one(
    device: str, address: str, code: int, said: str
) -> None:
    (line,) = [step.rest for step in STEPS if step.word == "RUN" and "$DEVICE" in step.rest]
    choose = line.split(" && ")[0] + ' && echo "from:$PIP_INDEX_URL $PIP_NO_DEPS"'
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    environment = {**kept, **arguments(STEPS), "DEVICE": device, "CPU_INDEX": address}
    done = subprocess.run(["sh", "-c", choose], env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr if code else done.stdout) == (code, said)


def test_there_is_no_secret_in_it() -> None:
    assert not re.search(r"TOKEN|PASSWORD|SECRET|AWS_", DOCKERFILE.read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", ["deploy/ssig-job", "deploy/slurm/ssig.sbatch"])
def test_scripts_can_be_executed(name: str) -> None:
    assert os.access(ROOT / name, os.X_OK)
    assert subprocess.run(["bash", "-n", str(ROOT / name)], capture_output=True).returncode == 0


def test_lines_that_go_on_are_joined(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("# a\nFROM x\nRUN a \\\n    # why\n    && b\n")
    assert instructions(tmp_path / "Dockerfile") == [Instruction("FROM", "x"), Instruction("RUN", "a && b")]
