"""ASGI middleware that protects the page: who may send requests, which ones, and how large.

It wraps the whole application, so that Gradio sees only requests of the page itself. ASGI:
https://asgi.readthedocs.io/en/latest/specs/www.html
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import parse_qs

from refusion.app.origins import HostNames, refusal
from refusion.app.storage import Storage, StorageFullError
from refusion.errors import one_line, printable

logger = logging.getLogger(__name__)

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Message, Receive, Send], Awaitable[None]]

_API = "/gradio_api"
_UPLOAD, _RESULTS, _FILE = f"{_API}/upload", f"{_API}/queue/data", f"{_API}/file="
# All that the page itself needs. Gradio has many more paths, such as a proxy to other servers.
_POSTED = {_UPLOAD}
_POSTED |= {f"{_API}/{name}" for name in ("queue/join", "cancel", "reset", "run/predict")}
_READ = {"/", "/config", "/theme.css", "/favicon.ico", "/manifest.json", "/robots.txt", _RESULTS}
_READ |= {f"{_API}/{name}" for name in ("info", "upload_progress", "startup-events", "theme.css")}
_READ_BELOW = ("/assets/", "/static/", "/svelte/", f"{_API}/heartbeat/", _FILE)

_FORM_BYTES = 2**16  # bytes of an upload besides the file
_MAX_BODY = 2**20  # bytes of other requests
_UNRESERVED = contextlib.nullcontext(lambda received: None)  # in the place of `Storage.receiving`
_POLICY = b"frame-ancestors 'none'; base-uri 'self'; object-src 'none'"
_HEADERS = {
    b"content-security-policy": _POLICY,
    b"cross-origin-opener-policy": b"same-origin",
    b"cross-origin-resource-policy": b"same-origin",
    b"referrer-policy": b"no-referrer",
    b"x-content-type-options": b"nosniff",
    b"x-frame-options": b"DENY",
}


class Guard:
    """Refuses requests of other web pages, and requests that the page itself does not send.

    Args:
        app: the application.
        names: host names of the page.
        storage: space for the uploads.
        max_upload: largest upload in bytes.
        waiting: gives, for the session of a browser tab, the context within which the tab waits for
            results. It ends when all are there or were cancelled, or when the tab was closed.
    """

    def __init__(
        self,
        app: Application,
        *,
        names: HostNames,
        storage: Storage,
        max_upload: int,
        waiting: Callable[[str], contextlib.AbstractContextManager[None]],
    ) -> None:
        self._app, self._names, self._storage, self._waiting = app, names, storage, waiting
        self._max_upload = max_upload
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closed = False

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer a request; see ASGI."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        reason = refusal(scope.get("method", ""), scope["headers"], self._names)
        if scope["type"] != "http":  # the page has no WebSockets
            await send({"type": "websocket.close", "code": 1008})
            return
        answer = _Answer(send)
        if reason is not None:
            await answer.refuse(403, reason)
        elif not _is_needed(scope["method"], scope["path"]):
            await answer.refuse(404, "the page has no such address")
        else:
            await self._respond(scope, receive, answer)

    def close(self) -> None:
        """End all responses, also those that would wait for results; call it in the event loop."""
        self._closed = True
        for task in self._tasks:
            task.cancel()

    async def _respond(self, scope: Message, receive: Receive, answer: _Answer) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        is_tab = scope["path"] == _RESULTS
        try:
            with self._waiting(_session(scope)) if is_tab else contextlib.nullcontext():
                await self._limited(scope, receive, answer)
        except asyncio.CancelledError:
            if not self._closed:
                raise
        except Exception as error:  # one line instead of the traceback that servers log
            if not (answer.gone or answer.complete):
                path, text = printable(scope["path"], 100), one_line(error, 200)
                logger.warning("%s %s: %s: %s", scope["method"], path, type(error).__name__, text)
                await answer.refuse(500, "the request failed")
        finally:
            self._tasks.discard(task)
            if self._closed:
                await answer.end()

    async def _limited(self, scope: Message, receive: Receive, answer: _Answer) -> None:
        """Run the application, but refuse a body that is too large."""
        is_upload = scope["path"] == _UPLOAD
        limit = self._max_upload + _FORM_BYTES if is_upload else _MAX_BODY
        declared, received = _content_length(scope), 0

        async def receive_limited() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            answer.gone |= message["type"] == "http.disconnect"
            if answer.complete or received > limit:
                await answer.refuse(413, f"expected at most {limit} bytes")
                return {"type": "http.disconnect"}
            try:
                grow(received)
            except StorageFullError as error:
                await answer.refuse(413, str(error))
                return {"type": "http.disconnect"}
            return message

        if declared > limit:
            await answer.refuse(413, f"expected at most {limit} bytes, got {declared}")
            return
        try:
            with self._storage.receiving(declared) if is_upload else _UNRESERVED as grow:
                await self._app(scope, receive_limited, answer.send)
        except StorageFullError as error:
            await answer.refuse(413, str(error))


class _Answer:
    """A response in progress, with the additional headers.

    Attributes:
        complete: whether it was sent to the end.
        gone: whether the client closed the connection.
    """

    def __init__(self, send: Send) -> None:
        self._send = send
        self._started = self.complete = self.gone = False

    async def send(self, message: Message) -> None:
        """See ASGI; messages after the end are ignored."""
        if self.complete:
            return
        if message["type"] == "http.response.start":
            self._started = True
            message = {**message, "headers": _protected(message.get("headers", []))}
        elif message["type"] == "http.response.body":
            self.complete = not message.get("more_body", False) and not self.gone
        await self._send(message)

    async def refuse(self, status: int, reason: str) -> None:
        """Answer with one line, unless the answer has started."""
        if not self._started:
            headers = [(b"content-type", b"text/plain; charset=utf-8")]
            await self.send({"type": "http.response.start", "status": status, "headers": headers})
            await self.send({"type": "http.response.body", "body": f"{reason}\n".encode()})

    async def end(self) -> None:
        """End an answer that is not complete."""
        await self.refuse(503, "the page was closed")
        await self.send({"type": "http.response.body", "body": b""})


def _is_needed(method: str, path: str) -> bool:
    """Whether the page itself sends such requests."""
    if method == "POST":
        return path in _POSTED
    if path.startswith(_FILE) and "://" in path:  # Gradio would get the file from that server
        return False
    return method in ("GET", "HEAD") and (path in _READ or path.startswith(_READ_BELOW))


def _protected(headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Headers of a response that no other web page may use."""
    kept = [
        (name, value)
        for name, value in headers
        if name.lower() not in _HEADERS and not name.lower().startswith(b"access-control-")
    ]
    return [*kept, *_HEADERS.items()]


def _content_length(scope: Message) -> int:
    """Declared bytes of the body; 0 without a valid declaration."""
    values = [value for name, value in scope["headers"] if name == b"content-length"]
    return int(values[0]) if values and values[0].isdigit() else 0


def _session(scope: Message) -> str:
    """Session of a tab, from the query of a request for its results."""
    query = parse_qs(scope.get("query_string", b"").decode("latin-1"))
    return query.get("session_hash", [""])[0]
