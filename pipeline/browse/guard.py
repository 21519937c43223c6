"""Who may see the pages: a browser on this machine that was opened with the address that the command printed.

The address holds a token. The first answer moves it into a cookie that no script can read and no other site can
send, and leads to the address without it. A Host that is not this machine's is refused, so that no name of another
site can be made to mean this server.
"""

from __future__ import annotations

import hmac
from urllib.parse import urlencode

from starlette.datastructures import MutableHeaders, QueryParams
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
TOKEN = "token"
HEADERS = {
    "content-security-policy": "default-src 'none'; img-src 'self'; style-src 'self'; script-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
_NO_TOKEN = "Open the address that `ssig browse` printed: it holds the token of this start.\n"
_WRONG_HOST = "This server answers only to 127.0.0.1, localhost and [::1] with its own port.\n"


class Guard:
    """Lets requests through to the pages, or refuses them.

    Args:
        app: the pages.
        token: the secret of this start.
        port: that it listens on.
    """

    def __init__(self, app: ASGIApp, token: str, port: int) -> None:
        self._app, self._token = app, token
        self._hosts = frozenset(f"{host}:{port}" for host in LOOPBACK)
        self.cookie = f"ssig-browse-{port}"  # cookies know no ports: two servers must not share one

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(HEADERS)
                headers.setdefault("cache-control", "no-store")
            await send(message)

        answer = self._refused(Request(scope))
        await (self._app if answer is None else answer)(scope, receive, guarded)

    def _refused(self, request: Request) -> Response | None:
        """The answer to a request that is not let through; None for one that is."""
        if request.headers.getlist("host") not in ([host] for host in self._hosts):
            return PlainTextResponse(_WRONG_HOST, 403)
        if request.method not in ("GET", "HEAD"):
            return PlainTextResponse("Only GET is allowed.\n", 405, {"allow": "GET, HEAD"})
        given = request.query_params.get(TOKEN)
        if given is not None and self._is_token(given):
            return self._moved(request)
        if given is None and self._is_token(request.cookies.get(self.cookie, "")):
            return None
        return PlainTextResponse(_NO_TOKEN, 403)

    def _is_token(self, text: str) -> bool:
        return hmac.compare_digest(text.encode(), self._token.encode())

    def _moved(self, request: Request) -> Response:
        """To the same address without the token, which is in the cookie from here on."""
        rest = urlencode(_without_token(request.query_params))
        path = "/" + request.url.path.lstrip("/")  # `//host` would lead elsewhere
        answer = RedirectResponse(path + (f"?{rest}" if rest else ""), 303)
        answer.set_cookie(self.cookie, self._token, httponly=True, samesite="strict", path="/")
        return answer


def _without_token(parameters: QueryParams) -> list[tuple[str, str]]:
    return [(name, value) for name, value in parameters.multi_items() if name != TOKEN]
