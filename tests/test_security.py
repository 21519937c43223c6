"""What no file of the project may do, and what Ray is told: see SECURITY.md."""

from __future__ import annotations

import ast
import inspect
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray

from pipeline.driver import ray_cluster

ROOT = Path(__file__).resolve().parents[1]
DASHBOARD_HOST = inspect.signature(ray.init).parameters["dashboard_host"].default
FORBIDDEN = {
    "eval",
    "exec",
    "os.system",
    "os.popen",
    "pickle.load",
    "pickle.loads",
    "pickle.Unpickler",
    "torch.jit.load",
    "torch.hub.load",
    "yaml.load",
    "yaml.unsafe_load",
    "yaml.full_load",
}


def calls(source: str) -> Iterator[tuple[int, str, dict[str, ast.expr]]]:
    """Line, full name and keywords of every call."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            yield node.lineno, ast.unparse(node.func), {word.arg: word.value for word in node.keywords if word.arg}


def is_true(value: ast.expr | None) -> bool:
    return isinstance(value, ast.Constant) and value.value is True


def dangers(source: str) -> list[str]:
    """Calls that run what data say, or write what an archive holds."""
    found = []
    for line, name, keywords in calls(source):
        if name in FORBIDDEN or name.endswith((".extract", ".extractall", "unpack_archive")):
            found.append(f"{line}: {name}")
        if name == "torch.load" and not is_true(keywords.get("weights_only")):
            found.append(f"{line}: torch.load without weights_only=True")
        if is_true(keywords.get("shell")) or is_true(keywords.get("allow_pickle")):
            found.append(f"{line}: {name} with shell or pickle")
    return found


def test_no_file_runs_what_data_say() -> None:
    files = [path for folder in ("ssig", "pipeline", "jobs") for path in (ROOT / folder).rglob("*.py")]
    assert len(files) > 100
    assert {str(path): found for path in files if (found := dangers(path.read_text(encoding="utf-8")))} == {}


@pytest.mark.parametrize(
    "line",
    [
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "pickle.loads(data)",
        "archive.extractall()",
        "yaml.load(text)",
        "np.load(path, allow_pickle=True)",
        "subprocess.run(text, shell=True)",
        "eval(text)",
    ],
)
def test_a_planted_danger_is_found(line: str) -> None:
    assert len(dangers(line)) == 1


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """What Ray is told when a driver starts or joins it; nothing is started."""
    told: dict[str, object] = {}
    monkeypatch.setattr(ray_cluster.ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray_cluster.ray, "init", lambda **options: told.update(options))
    monkeypatch.setattr(ray_cluster.ray, "nodes", lambda: [])
    monkeypatch.setattr(ray_cluster.ray, "shutdown", lambda: None)
    monkeypatch.setattr("pipeline.driver.ray_cluster._check_answers", lambda address: None)
    return told


@pytest.mark.parametrize("address", [None, "", "local"])
def test_a_ray_of_our_own_has_no_dashboard_and_one_that_has_it_keeps_it_on_loopback(
    address: str | None, told: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    if address is not None:
        monkeypatch.setenv("RAY_ADDRESS", address)
    with ray_cluster.cluster():
        assert told["address"] == "local"
        assert told["include_dashboard"] is False
        assert told.get("dashboard_host", DASHBOARD_HOST) in ("127.0.0.1", "::1", "localhost")
        assert "runtime_env" not in told


def test_a_cluster_is_joined_only_where_it_is_named(told: dict[str, object], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    with ray_cluster.cluster():
        assert (told["address"], told.get("include_dashboard")) == ("10.0.0.1:6379", None)


HERE = """
import ray, sys
from pipeline.driver.ray_cluster import cluster
with cluster():
    print(*ray.get(ray.remote(lambda: sys.path).remote()), sep="\\n")
"""


@pytest.mark.ray
def test_workers_do_not_import_from_the_folder_of_the_command(tmp_path: Path) -> None:
    outer = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    done = subprocess.run(
        [sys.executable, "-c", HERE],
        cwd=tmp_path,
        env={**outer, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    found = done.stdout.splitlines()
    assert str(ROOT) in found
    assert str(tmp_path) not in found


def test_tokens_are_never_turned_off() -> None:
    files = [path for folder in ("ssig", "pipeline", "jobs") for path in (ROOT / folder).rglob("*.py")]
    files += [path for path in (ROOT / "deploy").rglob("*") if path.is_file()]
    assigned = re.compile(r"""RAY_AUTH_MODE["']\]?\s*[=,:]\s*["']?disabled""")
    assert [
        path for path in [*files, ROOT / "cluster.yaml"] if assigned.search(path.read_text(encoding="utf-8"))
    ] == []


def test_every_place_that_the_page_names_is_there() -> None:
    page = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    named = re.findall(r"`((?:ssig|pipeline|jobs)/[\w/]+\.py|cluster\.yaml)`", page)
    assert len(named) > 10
    assert [name for name in named if not (ROOT / name).is_file()] == []
    from pipeline.shards.images import MAX_PIXELS
    from pipeline.shards.reading import MAX_MEMBER_BYTES

    assert f"{MAX_PIXELS // 10**6} megapixels (`MAX_PIXELS`)" in page
    assert f"{MAX_MEMBER_BYTES // 2**20} MiB (`MAX_MEMBER_BYTES`)" in page
