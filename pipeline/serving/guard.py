"""What stands before every page: who may come in, from where, and what a browser may do with an answer."""

import logging
import secrets
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from haemo.pipeline.serving.sessions import Sessions

__all__ = ["CSRF_HEADER", "Guard"]

log = logging.getLogger("haemo")

CSRF_HEADER = "x-haemo-csrf"
"""Name of the header with a session's secret. No form and no other site can send it."""

_HOSTS = ("127.0.0.1", "localhost", "::1")
_READS = ("GET", "HEAD")
_HEADERS = {
    # Nothing but the page's own files, no script in the page, no place where text could become one.
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; "
        "trusted-types 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
}
_COME_IN = "Open the address that 'haemo serve' printed; it holds the key to this page.\n"


class Guard:
    """Lets in who shows the token, over an address of this machine, and nobody's script.

    A request must name this machine in its Host header, so that no other name can be made to lead here (DNS
    rebinding); must have the cookie of a session, or the token; and must, to change anything, come from a
    page of ours and bring the secret of its session (CSRF).

    Parameters
    ----------
    app : ASGI application
        Finds the session in ``scope["session"]``.
    sessions : Sessions
    cookie : str
        Its name. Cookies know no ports, so each server has its own.
    """

    def __init__(self, app: ASGIApp, sessions: Sessions, cookie: str):
        self._app = app
        self._sessions = sessions
        self._cookie = cookie

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or pass on."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":  # no page of ours opens a web socket
            await send({"type": "websocket.close", "code": 1008})
            return
        begun = False

        async def send_guarded(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            await (self._refusal(scope) or self._app)(scope, receive, send_guarded)
        except (
            Exception
        ) as error:  # of code; the app has answered already, and the next request finds it well
            log.error("%s %s: %s: %s", scope["method"], scope["path"], type(error).__name__, error)
            if not begun:
                await PlainTextResponse("This is a fault of haemo.\n", 500)(scope, receive, send_guarded)

    def _refusal(self, scope: Scope) -> Response | None:
        """The answer to a request that may not pass, or that begins a session; else None."""
        request = Request(scope)
        if _host(request.headers) not in _HOSTS:
            return PlainTextResponse("This server answers as 127.0.0.1 and localhost only.\n", 421)
        token = request.query_params.get("token")
        if token is not None and request.method in _READS and request.url.path == "/":
            return self._begin(token)
        session = self._sessions.find(request.cookies.get(self._cookie, ""))
        if session is None:
            return PlainTextResponse(_COME_IN, 403)
        if request.method not in _READS:
            if not _from_our_page(request.headers):
                return PlainTextResponse("Another page sent this; it is refused.\n", 403)
            if not secrets.compare_digest(
                request.headers.get(CSRF_HEADER, "").encode(), session.csrf.encode()
            ):
                return PlainTextResponse("The page is of an earlier session; load it again.\n", 403)
        scope["session"] = session
        return None

    def _begin(self, token: str) -> Response:
        session = self._sessions.begin(token)
        if session is None:
            return PlainTextResponse(f"The key is wrong. {_COME_IN}", 403)
        # The address without the token: it must not stay in the history, or leave with a link.
        answer: Any = RedirectResponse("/", 303)
        answer.set_cookie(self._cookie, session.key, httponly=True, samesite="strict", path="/")
        return answer


def _host(headers: Headers) -> str:
    try:
        return urlsplit(f"//{headers.get('host', '')}").hostname or ""
    except ValueError:
        return ""


def _from_our_page(headers: Headers) -> bool:
    """Whether a browser says that a page of this server sent the request."""
    origin = headers.get("origin")
    if origin is not None:
        return origin == f"http://{headers.get('host', '')}"
    return headers.get("sec-fetch-site", "same-origin") == "same-origin"
