"""Joining a cluster that is dead, silent, none of Ray's, or not open to this user; waiting for one that grows."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from pipeline.driver.ray_cluster import cluster
from ssig.errors import UsageError

ROOT = Path(__file__).resolve().parents[3]
TOKEN = "ab" * 32


@pytest.fixture(autouse=True)
def apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a process that has joined nothing."""
    import ray

    if ray.is_initialized():
        monkeypatch.setattr(ray, "is_initialized", lambda: False)


@pytest.fixture
def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def refused(address: str, monkeypatch: pytest.MonkeyPatch) -> UsageError:
    """What joining an address is refused with, which takes seconds at most."""
    monkeypatch.setenv("RAY_ADDRESS", address)
    started = time.monotonic()
    with pytest.raises(UsageError) as caught, cluster():
        pass
    assert time.monotonic() - started < 15
    return caught.value


@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_a_dead_address_is_told_at_once(scheme: str, free_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    error = refused(f"{scheme}127.0.0.1:{free_port}", monkeypatch)
    assert error.field == "RAY_ADDRESS"
    assert f"nothing answers at 127.0.0.1:{free_port}" in error.allowed


@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_a_server_that_says_nothing_is_given_up(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.driver.ray_cluster.ANSWER_SECONDS", 2.0)
    with socket.create_server(("", 0)) as silent:
        place = f"127.0.0.1:{silent.getsockname()[1]}"
        assert f"nothing answers at {place}" in refused(scheme + place, monkeypatch).allowed


def test_a_web_server_is_no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.driver.ray_cluster.ANSWER_SECONDS", 3.0)
    server = HTTPServer(("", 0), BaseHTTPRequestHandler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        assert refused(f"127.0.0.1:{server.server_port}", monkeypatch).field == "RAY_ADDRESS"
    finally:
        server.shutdown()


@pytest.mark.parametrize("address", ["abc", "http://127.0.0.1:8265", "127.0.0.1:port"])
def test_what_is_no_address_is_told(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert refused(address, monkeypatch).field == "RAY_ADDRESS"


def test_a_dead_address_is_left_on_sigterm(free_port: int) -> None:
    """While it is asked; the listener never answers."""
    with socket.create_server(("", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "RAY_ADDRESS": address}
        code = (
            "import signal, sys; signal.signal(signal.SIGTERM, lambda *_: sys.exit(130))\n"
            "from pipeline.driver.ray_cluster import cluster; print('asking', flush=True)\nwith cluster(): pass"
        )
        process = subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(1)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=8) == 130
        process.stdout.close()


@contextmanager
def head(folder: Path, port: int, **more: str) -> Iterator[dict[str, str]]:
    """A head node without cores that asks for a token, and the environment that joins it."""
    import tempfile

    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp", ignore_cleanup_errors=True) as short:
        outer = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        environment = {**outer, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN, **more}
        command = [str(Path(sys.executable).parent / "ray"), "start", "--num-cpus=0", "--include-dashboard=false"]
        command += ["--head", f"--port={port}", "--disable-usage-stats", f"--temp-dir={short}", "--block"]
        with (folder / "ray.log").open("w") as log:
            process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
        try:
            deadline = time.monotonic() + 60
            while "Ray runtime started" not in (folder / "ray.log").read_text():
                assert time.monotonic() < deadline, (folder / "ray.log").read_text()
                time.sleep(0.2)
            yield {**environment, "RAY_ADDRESS": f"127.0.0.1:{port}"}
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def attribute(folder: Path, environment: dict[str, str], *options: str, seconds: float = 90) -> Any:
    """`ssig attribute` on a small shard, as a process of its own."""
    from tests_shards import members, write_tar

    shard = write_tar(folder / "a.tar", members(0, 2))
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests" / "support")])
    command = [sys.executable, "-m", "ssig", "attribute", "--shards", str(shard), "--model", "networks:tiny"]
    command += ["--method", "gradient", "--out", str(folder / "run"), *options]
    environment = {**environment, "PYTHONPATH": path}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=seconds)


@pytest.mark.ray
@pytest.mark.slow
def test_a_cluster_names_the_token_and_is_waited_for(tmp_path: Path, free_port: int) -> None:
    with head(tmp_path, free_port) as environment:
        wrong = attribute(tmp_path, {**environment, "RAY_AUTH_TOKEN": "cd" * 32})
        assert wrong.returncode == 2
        assert "error: token: found 'the one in RAY_AUTH_TOKEN'" in wrong.stderr

        without = {name: value for name, value in environment.items() if not name.startswith("RAY_AUTH")}
        none = attribute(tmp_path, without)
        assert none.returncode == 2
        assert "RAY_AUTH_MODE=token" in none.stderr

        missing = attribute(tmp_path, {**without, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": "/nowhere"})
        assert missing.returncode == 2
        assert "/nowhere" in missing.stderr

        auto = attribute(tmp_path, environment, "--set", "actors.max=1", "--set", "actors.num_cpus=1")
        assert auto.returncode == 2
        assert "actors.num_gpus=0" in auto.stderr
        assert "min_workers: 1" in auto.stderr
        assert not (tmp_path / "run").exists()

        numbers = ("--set", "actors.max=1", "--set", "actors.num_gpus=0", "--set", "actors.wait=3")
        waited = attribute(tmp_path, environment, *numbers)
        assert waited.returncode == 1
        assert "waiting for a node with 1 CPU" in waited.stderr
        assert "waited 3 s (actors.wait) for a node with 1 CPU" in waited.stderr

        command = [str(Path(sys.executable).parent / "ray"), "start", f"--address={environment['RAY_ADDRESS']}"]
        command += ["--num-cpus=1", "--disable-usage-stats", "--block"]
        later = f"sleep 12; exec {' '.join(command)}"
        with (tmp_path / "node.log").open("w") as log:
            node = subprocess.Popen(
                ["bash", "-c", later],
                env={**environment, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests" / "support")])},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            done = attribute(tmp_path, environment, *numbers[:-1], "actors.wait=60", seconds=150)
            assert done.returncode == 0, done.stderr
            assert "waiting for a node with 1 CPU" in done.stderr
        finally:
            os.killpg(node.pid, signal.SIGTERM)
            node.wait(timeout=60)
