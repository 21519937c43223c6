"""The pages behind addresses, and the server that gives them to this machine alone."""

from __future__ import annotations

import secrets
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from pipeline.browse.database import Database, QueryError
from pipeline.browse.drawing import encoded
from pipeline.browse.export import csv_lines, picked, tar_blocks
from pipeline.browse.guard import TOKEN, Guard
from pipeline.browse.index import Index, ready_index
from pipeline.browse.pages import Pages
from pipeline.browse.pictures import MissingError, Pictures
from pipeline.browse.selection import Selection
from pipeline.browse.series import Collection, Series
from pipeline.browse.view import parse_view
from ssig.errors import UsageError

HOST, PORT = "127.0.0.1", 8642
_STATIC = {"style.css": "text/css", "keys.js": "text/javascript", "icon.svg": "image/svg+xml"}
_KEEP = {"cache-control": "private, max-age=86400, immutable"}  # the address of a picture changes with its run
_SIDES = range(16, 4097)


@dataclass(frozen=True)
class Served:
    """A server that listens.

    Attributes:
        address: with the token; whoever has it sees the pages.
        index: of the runs.
        run: answers requests until it is interrupted.
    """

    address: str
    index: Index
    run: Callable[[], None]


def application(collection: Collection, database: Database, token: str, port: int) -> Guard:
    """The pages of the runs, behind the guard."""
    routes = _Routes(collection, database)
    static = {name: (files("pipeline.browse") / "static" / name).read_bytes() for name in _STATIC}

    def asset(request: Request) -> Response:
        name = request.path_params["name"]
        if name not in static:
            return _not_found("There is no such file.")
        return Response(static[name], media_type=_STATIC[name])

    table = {
        "/": routes.grid,
        "/sample": routes.sample,
        "/photograph": routes.photograph,
        "/map": routes.map,
        "/step": routes.step,
        "/selection.csv": routes.csv,
        "/selection.tar": routes.tar,
        "/static/{name}": asset,
    }
    return Guard(Starlette(routes=[Route(path, endpoint) for path, endpoint in table.items()]), token, port)


@contextmanager
def served(runs: list[str], cache: Path, port: int = PORT) -> Iterator[Served]:
    """A server of the runs on this machine's loopback address.

    Raises:
        UsageError: one of them is no run, or the port is taken.
        OSError: `cache` cannot be written.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((HOST, port))
        except (OSError, OverflowError) as error:
            allowed = f"a port that is free ({error}); --port 0 takes any"
            raise UsageError("--port", port, allowed) from None
        port = listening.getsockname()[1]
        collection = Collection(runs)
        index = ready_index(collection, cache)
        database = Database(index.path, [run.root for run in collection.runs])
        token = secrets.token_urlsafe(24)
        settings = uvicorn.Config(
            application(collection, database, token, port),
            log_level="error",
            access_log=False,  # addresses hold the token once
            server_header=False,
            lifespan="off",
            timeout_graceful_shutdown=1,
        )
        server = uvicorn.Server(settings)
        try:
            yield Served(f"http://{HOST}:{port}/?{TOKEN}={token}", index, lambda: server.run(sockets=[listening]))
        finally:
            database.close()


class _Routes:
    """One function per address; each runs in a thread of its own."""

    def __init__(self, collection: Collection, database: Database) -> None:
        self._collection, self._database = collection, database
        self._pictures = Pictures(database, collection)
        self._pages = Pages(database, collection, self._pictures)

    def grid(self, request: Request) -> Response:
        return HTMLResponse(self._pages.grid(parse_view(request.query_params.multi_items(), self._collection)))

    def sample(self, request: Request) -> Response:
        view = parse_view(request.query_params.multi_items(), self._collection)
        index = _number(request, "index")
        page = None if index is None else self._pages.sample(view, request.query_params.get("shard", ""), index)
        return HTMLResponse(page) if page is not None else _not_found("There is no such sample.")

    def photograph(self, request: Request) -> Response:
        return self._picture(
            request, lambda series, sample: encoded(self._pictures.photograph(series, sample).picture, _side(request))
        )

    def map(self, request: Request) -> Response:
        same_scale = request.query_params.get("scale") == "same"
        alone = request.query_params.get("layer") == "map"

        def make(series: Series, sample: int) -> bytes:
            drawn = self._pictures.overlay(series, sample, same_scale=same_scale, alone=alone)
            return encoded(drawn, _side(request))

        return self._picture(request, make)

    def step(self, request: Request) -> Response:
        metric, step = request.query_params.get("metric", ""), _number(request, "step") or 0
        return self._picture(
            request, lambda series, sample: encoded(self._pictures.step(series, sample, metric, step))
        )

    def csv(self, request: Request) -> Response:
        def make(selection: Selection, series: Series, other: Series | None, sort: str) -> Iterator[str]:
            yield from csv_lines(picked(selection.every(), _picks(request)), series, other, sort)

        return self._download(request, "text/csv", "selection.csv", make)

    def tar(self, request: Request) -> Response:
        def make(selection: Selection, series: Series, other: Series | None, sort: str) -> Iterator[bytes]:
            yield from tar_blocks(picked(selection.every(), _picks(request)), series, self._pictures)

        return self._download(request, "application/x-tar", "selection.tar", make)

    def _picture(self, request: Request, make: Callable[[Series, int], bytes]) -> Response:
        number, sample = _number(request, "series"), _number(request, "sample")
        if number is None or sample is None or number >= len(self._collection.series):
            return _not_found("There is no such picture.")
        try:
            content = make(self._collection.series[number], sample)
        except MissingError as error:
            return _not_found(str(error))
        return Response(content, media_type="image/webp", headers=_KEEP)

    def _download(
        self,
        request: Request,
        kind: str,
        name: str,
        make: Callable[[Selection, Series, Series | None, str], Iterator[str | bytes]],
    ) -> Response:
        view = parse_view(request.query_params.multi_items(), self._collection)
        try:
            selection = Selection(self._database, self._collection, view)
            selection.count()  # what is wrong with it is told before the download begins
        except QueryError as error:
            return PlainTextResponse(f"SQL: {error}\n", 400)
        series, other = self._collection.by_name[view.method], self._collection.by_name.get(view.versus)
        headers = {"content-disposition": f'attachment; filename="{name}"'}
        return StreamingResponse(make(selection, series, other, view.sort), media_type=kind, headers=headers)


def _not_found(why: str) -> Response:
    return PlainTextResponse(why + "\n", 404)


def _number(request: Request, name: str) -> int | None:
    """A parameter that must be a number from 0; None otherwise."""
    text = request.query_params.get(name, "")
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else None


def _side(request: Request) -> int | None:
    side = _number(request, "side")
    return side if side in _SIDES else None


def _picks(request: Request) -> list[str]:
    return request.query_params.getlist("pick")
