"""An S3 server on this machine, a process of its own, behind a proxy that breaks requests as a test asks for.

    store = S3();  store.environment() sets up its clients;  store.fault = once(chosen, "500", "reset")

Faults, by name: `500`, `503`, `403`, `507` (a status, answered in place of the server); `reset` (the connection is
reset and the request never passed on); `lost` (passed on, then reset without a reply); `late` (passed on, then
answered with 500); `cut` (the reply is reset in the middle of its body); `short` (half of the body, passed off as all
of it); `hang` (no reply for `HANG_SECONDS`); `stall` (half of the body, then nothing for so long); `slow` (the body in
pieces).
"""

from __future__ import annotations

import http.client
import io
import os
import socket
import struct
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple
from urllib.parse import quote
from xml.etree import ElementTree

import pyarrow.parquet as pq

HANG_SECONDS = 1.0
SECRET = "wJalrXUtnFEMI-do-not-write-this-down"
TOKEN = "session-token-do-not-write-this-down"
KEY_ID = "AKIADONOTWRITETHIS"
_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "date", "server"}


class Request(NamedTuple):
    """What a fault is chosen by: method, path with query, and headers in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]

    @property
    def is_conditional(self) -> bool:
        return self.headers.get("if-none-match") == "*"


Fault = Callable[[Request], str | None]


class S3:
    """A server of empty buckets; `fault` says what becomes of each request, and `requests` lists them."""

    def __init__(self) -> None:
        port = free_port()
        self._server = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "--host", "127.0.0.1", "--port", str(port)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._upstream = ("127.0.0.1", port)
        self.fault: Fault = never
        self.requests: list[tuple[Request, str | None]] = []
        self._proxy = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._proxy.daemon_threads = True
        threading.Thread(target=self._proxy.serve_forever, daemon=True).start()
        self._await()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._proxy.server_address[1]}"

    def environment(self) -> dict[str, str]:
        """The variables of a client that does not wait for long."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ALLOW_HTTP": "true",
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": KEY_ID,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_SESSION_TOKEN": TOKEN,
            "SSIG_STORAGE_SILENCE_SECONDS": "0.4",
            "SSIG_STORAGE_RETRIES": "3",
            "SSIG_STORAGE_RETRY_SECONDS": "20",
        }

    def bucket(self) -> str:
        """A new bucket's URL."""
        name = f"b{uuid.uuid4().hex}"
        self.ask("PUT", f"/{name}")
        return f"s3://{name}"

    def contents(self, url: str) -> dict[str, bytes]:
        """Every object of a bucket."""
        bucket = url.removeprefix("s3://").partition("/")[0]
        found: dict[str, bytes] = {}
        after = ""
        while True:
            _, listing = self.ask("GET", f"/{bucket}?list-type=2&start-after={after}")
            names = [str(key.text) for key in ElementTree.fromstring(listing).iterfind("{*}Contents/{*}Key")]
            if not names:
                return found
            found.update((name, self.ask("GET", f"/{bucket}/{quote(name)}")[1]) for name in names)
            after = quote(names[-1])

    def ask(
        self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> tuple[http.client.HTTPResponse, bytes]:
        """The server's own answer, past all faults."""
        connection = http.client.HTTPConnection(*self._upstream, timeout=30)
        try:
            plain = {"Authorization": "AWS4-HMAC-SHA256 Credential=x/20260101/us-east-1/s3/aws4_request"}
            connection.request(method, path, body, dict(headers or plain))
            reply = connection.getresponse()
            return reply, reply.read()
        finally:
            connection.close()

    def close(self) -> None:
        self._proxy.shutdown()
        self._proxy.server_close()
        self._server.terminate()
        self._server.wait(timeout=30)

    def _await(self) -> None:
        deadline = time.monotonic() + 60
        while True:
            try:
                self.ask("GET", "/")
                return
            except OSError:
                assert self._server.poll() is None, "the server did not start"
                assert time.monotonic() < deadline, "the server does not answer"
                time.sleep(0.1)


def credentials_in(files: Mapping[str, bytes]) -> list[str]:
    """Names of the files that hold a credential, in their bytes, their rows or what is said about their columns."""
    found = []
    for name, data in files.items():
        texts = [data]
        if name.endswith(".parquet"):
            table = pq.read_table(io.BytesIO(data))
            texts += [str(table.to_pylist()).encode(), str(table.schema.metadata).encode()]
        if any(secret.encode() in text for secret in (SECRET, TOKEN, KEY_ID) for text in texts):
            found.append(name)
    return found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def never(request: Request) -> None:
    """No fault."""


def once(chosen: Callable[[Request], bool], *faults: str) -> Fault:
    """Breaks the first requests that are `chosen`, one after the other, and lets the others pass."""
    left, lock = list(faults), threading.Lock()

    def fault(request: Request) -> str | None:
        with lock:
            return left.pop(0) if left and chosen(request) else None

    return fault


def always(chosen: Callable[[Request], bool], kind: str) -> Fault:
    return lambda request: kind if chosen(request) else None


def _handler(store: S3) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: object) -> None:
            pass

        def handle_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            request = Request(self.command, self.path, headers)
            kind = store.fault(request)
            store.requests.append((request, kind))
            if kind is not None and kind.isdigit():
                self.reply(int(kind), {"content-type": "application/xml"}, _error(kind))
                return
            if kind == "reset":
                self.reset()
                return
            if kind == "hang":
                time.sleep(HANG_SECONDS)
            reply, data = store.ask(self.command, self.path, body, dict(self.headers.items()))
            if kind == "lost":
                self.reset()
                return
            if kind == "late":
                self.reply(500, {"content-type": "application/xml"}, _error("500"))
                return
            self.reply(reply.status, dict(reply.getheaders()), data, kind)

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = handle_any  # noqa: N815

        def reply(self, status: int, headers: Mapping[str, str], data: bytes, kind: str | None = None) -> None:
            half = len(data) // 2
            length = half if kind == "short" else len(data)
            if self.command == "HEAD":
                length = int({name.lower(): value for name, value in headers.items()}.get("content-length", 0))
            self.send_response(status)
            for name, value in headers.items():
                if name.lower() not in _HOP:
                    self.send_header(name, value)
            self.send_header("Content-Length", str(length))
            self.end_headers()
            if self.command == "HEAD":
                return
            if kind in ("cut", "stall") and data:
                self.wfile.write(data[:half])
                time.sleep(HANG_SECONDS if kind == "stall" else 0)
                self.reset()
            elif kind == "slow":
                for start in range(0, len(data), max(1, len(data) // 4)):
                    self.wfile.write(data[start : start + max(1, len(data) // 4)])
                    time.sleep(0.1)
            else:
                self.wfile.write(data[:length])

        def reset(self) -> None:
            self.wfile.flush()
            # Closed at once, unread and unsent bytes dropped: the peer sees a reset.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True
            os.close(self.connection.detach())

    return Handler


def _error(status: str) -> bytes:
    code = {"503": "SlowDown", "403": "QuotaExceeded", "507": "InsufficientStorage"}.get(status, "InternalError")
    # S3 repeats the key that signed a refused request.
    told = f"<Code>{code}</Code><Message>refused with {status}</Message><AWSAccessKeyId>{KEY_ID}</AWSAccessKeyId>"
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<Error>{told}</Error>'.encode()
