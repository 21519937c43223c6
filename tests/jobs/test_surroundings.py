"""Commands in places that leave something out: closed streams, no UTF-8, no home, a proxy, a notebook's matplotlib."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from urllib.request import proxy_bypass

import pytest

from jobs.surroundings import ask_loopback_directly, find_a_home

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "support"))

from s3 import S3  # noqa: E402


def shell(command: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """A shell's command in which `ssig` is the command line."""
    text = f'ssig() {{ "{sys.executable}" -m ssig "$@"; }}; {command}'
    settings = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    return subprocess.run(["bash", "-c", text], capture_output=True, env=settings, timeout=120)


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_cost_nothing(closed: str) -> None:
    assert shell(f"ssig methods ssig {closed}").returncode == 0
    assert shell(f"ssig methods nope {closed}").returncode == 2


@pytest.mark.parametrize("stream", ["1", "2"])
def test_a_stream_that_is_read_only_is_a_closed_one(stream: str) -> None:
    """A shell that starts with a stream closed gives its own script that number."""
    assert shell(f"ssig methods ssig {stream}</dev/null").returncode == 0


def test_what_is_opened_later_gets_no_number_of_a_stream(tmp_path: Path) -> None:
    """Libraries write their messages to descriptor 2, whatever file that is."""
    code = (
        "from jobs.surroundings import prepare; prepare(); import os; "
        f"file = open({str(tmp_path / 'a')!r}, 'w'); os.write(2, b'noise'); print(file.fileno() > 2)"
    )
    settings = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(["bash", "-c", f'"{sys.executable}" -c "{code}" 2>&-'], capture_output=True, env=settings)
    assert done.stdout.strip() == b"True"
    assert (tmp_path / "a").read_bytes() == b""


@pytest.mark.parametrize(
    "command", ["--help", "attribute --help", "methods", "metrics", "methods ssig", "methods nöpe"]
)
def test_text_is_printed_in_any_encoding(command: str) -> None:
    done = shell(f"ssig {command}", PYTHONIOENCODING="ascii")
    assert done.returncode == (2 if "nöpe" in command else 0), done.stderr
    assert b"UnicodeEncodeError" not in done.stderr


def test_json_is_the_same_in_any_encoding() -> None:
    plain, ascii_only = (shell("ssig methods --json", PYTHONIOENCODING=encoding) for encoding in ("utf-8", "ascii"))
    assert json.loads(ascii_only.stdout) == json.loads(plain.stdout)
    assert not plain.stdout.isascii()


@pytest.mark.parametrize("given", [None, "example.org", "example.org, 127.0.0.1"])
def test_loopback_is_asked_directly(given: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("no_proxy", "NO_PROXY", "http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    ask_loopback_directly()
    assert "no_proxy" not in os.environ
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    if given is not None:
        monkeypatch.setenv("NO_PROXY", given)
    ask_loopback_directly()
    ask_loopback_directly()
    for host in ("127.0.0.1", "localhost", "::1"):
        assert proxy_bypass(host), host
    assert bool(proxy_bypass("example.org")) == (given is not None)
    assert not proxy_bypass("example.com")
    assert os.environ["no_proxy"].count("127.0.0.1") == 1


def test_a_home_that_cannot_be_written_leaves_caches_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/proc")
    monkeypatch.delenv("MPLCONFIGDIR", raising=False)
    monkeypatch.setenv("TRITON_CACHE_DIR", "/given")
    find_a_home()
    folder = Path(os.environ["MPLCONFIGDIR"]).parent
    assert os.access(folder, os.W_OK)
    assert folder.stat().st_mode & 0o077 == 0
    assert os.environ["TRITON_CACHE_DIR"] == "/given"


def test_a_notebook_backend_is_no_error() -> None:
    code = "import jobs.surroundings as s; s.prepare(); import matplotlib; print(matplotlib.get_backend())"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "MPLBACKEND": "module://matplotlib_inline.no_backend"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=120)
    assert done.stdout.strip().lower() == "agg", done.stderr


def test_the_report_needs_no_backend_of_the_user() -> None:
    """As a library too, outside of notebooks."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "MPLBACKEND": "module://matplotlib_inline.no_backend"}
    done = subprocess.run([sys.executable, "-c", "import pipeline.report"], capture_output=True, env=environment)
    assert done.returncode == 0, done.stderr


def test_a_store_on_this_machine_is_asked_without_the_proxy() -> None:
    server = S3()
    try:
        code = (
            "from jobs.surroundings import prepare; prepare(); from pipeline.storage import open_storage; "
            f"storage = open_storage('{server.bucket()}/run'); storage.put('a', b'1'); print(storage.read('a'))"
        )
        environment = {**os.environ, "PYTHONPATH": str(ROOT), **server.environment()}
        environment |= {"http_proxy": "http://127.0.0.1:9", "no_proxy": "example.org"}
        command = [sys.executable, "-c", code]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
        assert done.stdout.strip() == "b'1'", done.stderr
    finally:
        server.close()
