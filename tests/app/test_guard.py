"""The middleware that protects the page, with requests made by hand."""

import asyncio
import contextlib
import logging

import pytest

from refusion.app.guard import Guard
from refusion.app.origins import host_names
from refusion.app.storage import Storage

KB = 2**10
UPLOAD, RESULTS = "/gradio_api/upload", "/gradio_api/queue/data"


class Page:
    """A guarded application that reads the whole request and answers with its length."""

    def __init__(self, folder):
        served = folder / "served"
        served.mkdir()
        self.storage = Storage(folder, served, 256 * KB)
        self.seen, self.left = [], []
        self.answer = self.echo
        self.guard = Guard(
            lambda *request: self.answer(*request),
            names=host_names("127.0.0.1"),
            storage=self.storage,
            max_upload=128 * KB,
            waiting=self.waiting,
        )

    @contextlib.contextmanager
    def waiting(self, session):
        try:
            yield
        finally:
            self.left.append(session)

    async def echo(self, scope, receive, send):
        self.seen.append(scope["path"])
        size, more = 0, True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                self.seen.append("disconnected")
                return
            size, more = size + len(message["body"]), message["more_body"]
        headers = [(b"content-type", b"text/plain"), (b"X-Frame-Options", b"ALLOWALL"),
                   (b"access-control-allow-origin", b"*")]  # fmt: skip
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": str(size).encode()})

    def ask(self, path="/", method="GET", chunks=(b"",), query=b"", **headers):
        """Status, headers and text of the answer; chunks of the body, None for a closed tab."""
        sent = asyncio.run(self.messages(path, method, chunks, query, headers))
        start, *body = sent
        assert not body[-1].get("more_body", False)
        text = b"".join(message["body"] for message in body).decode()
        return start["status"], dict(start["headers"]), text

    async def messages(self, path, method, chunks, query, headers):
        headers = {"host": "127.0.0.1:7860"} | headers
        pairs = [(k.replace("_", "-").encode(), v.encode()) for k, v in headers.items()]
        scope = {"type": "http", "method": method, "path": path, "query_string": query}
        messages = [
            {"type": "http.request", "body": chunk, "more_body": n + 1 < len(chunks)}
            if chunk is not None
            else {"type": "http.disconnect"}
            for n, chunk in enumerate(chunks)
        ]
        sent = []

        async def receive():
            if messages:
                return messages.pop(0)
            return await asyncio.Event().wait()

        async def send(message):
            sent.append(message)

        await asyncio.wait_for(self.guard(scope | {"headers": pairs}, receive, send), 20)
        return sent


@pytest.fixture
def page(tmp_path):
    return Page(tmp_path)


def test_answers_may_not_be_framed_or_read_by_other_pages(page):
    status, headers, _ = page.ask()
    assert status == 200
    assert headers[b"x-frame-options"] == b"DENY"
    assert b"frame-ancestors 'none'" in headers[b"content-security-policy"]
    assert headers[b"x-content-type-options"] == b"nosniff"
    assert headers[b"referrer-policy"] == b"no-referrer"
    assert headers[b"content-type"] == b"text/plain"
    assert not [name for name in headers if b"access-control" in name.lower()]


@pytest.mark.parametrize(
    "headers",
    [{"host": "evil.example"}, {"origin": "http://evil.example"}, {"origin": "null"},
     {"sec_fetch_site": "cross-site"}],
)  # fmt: skip
@pytest.mark.parametrize("path", [UPLOAD, "/gradio_api/queue/join", "/gradio_api/cancel"])
def test_requests_of_other_pages_do_not_reach_the_application(page, headers, path):
    for method in ("POST", "OPTIONS"):
        status, answer, text = page.ask(path, method, **headers)
        assert (status, text.count("\n")) == (403, 1)
        assert answer[b"x-frame-options"] == b"DENY"
        assert b"access-control-allow-origin" not in answer
    assert page.seen == []


def test_websockets_are_refused(page):
    sent = []

    async def send(message):
        sent.append(message)

    scope = {"type": "websocket", "path": "/", "headers": [(b"host", b"localhost")]}
    asyncio.run(page.guard(scope, None, send))
    assert sent == [{"type": "websocket.close", "code": 1008}]
    assert page.seen == []


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/gradio_api/proxy=http://evil.example"), ("POST", "/gradio_api/api/restore"),
     ("GET", "/gradio_api/file=http://evil.example/a.png"), ("POST", "/gradio_api/run/restore"),
     ("GET", "/gradio_api/file=HTTPS://a.example"), ("POST", "/gradio_api/component_server"),
     ("POST", "/gradio_api/vibe-edit"), ("GET", "/docs"), ("GET", "/monitoring"),
     ("POST", "/"), ("PUT", UPLOAD), ("GET", UPLOAD), ("OPTIONS", UPLOAD), ("POST", RESULTS),
     ("POST", "/gradio_api/call/restore"), ("GET", "/gradio_api/runs"), ("GET", "/login")],
)  # fmt: skip
def test_addresses_that_the_page_does_not_need_are_absent(page, method, path):
    assert page.ask(path, method)[0] == 404
    assert page.seen == []


def test_uploads_have_a_limit_each(page):
    big = bytes(200 * KB)
    assert page.ask(UPLOAD, "POST", [big], content_length=str(len(big)))[0] == 413
    assert page.seen == []
    chunks = [bytes(20 * KB)] * 10
    assert page.ask(UPLOAD, "POST", chunks)[::2] == (413, f"expected at most {192 * KB} bytes\n")
    assert page.seen == [UPLOAD, "disconnected"]
    lie = page.ask(UPLOAD, "POST", [big], content_length="1")
    assert lie[0] == 413
    assert page.ask(UPLOAD, "POST", [bytes(100 * KB)])[::2] == (200, f"{100 * KB}")


def test_uploads_have_a_limit_together(page):
    folder = page.storage.folder / "working"
    folder.mkdir()
    (folder / "photo.png").write_bytes(bytes(180 * KB))
    for headers in ({}, {"content_length": f"{100 * KB}"}):
        status, _, text = page.ask(UPLOAD, "POST", [bytes(50 * KB)] * 2, **headers)
        assert (status, text[:8], text.count("\n")) == (413, "no space", 1)
    old = page.storage.served / "hash" / "old.png"
    old.parent.mkdir()
    (folder / "photo.png").unlink()
    old.write_bytes(bytes(200 * KB))
    assert page.ask(UPLOAD, "POST", [bytes(100 * KB)])[0] == 200
    assert not old.exists()


def test_other_requests_are_small(page):
    path = "/gradio_api/queue/join"
    assert page.ask(path, "POST", [bytes(2**20)])[0] == 200
    assert page.ask(path, "POST", [bytes(2**19)] * 3)[0] == 413
    assert page.ask(path, "POST", content_length="9" * 50)[0] == 413
    assert page.ask(path, "POST", content_length="-5")[::2] == (200, "0")


def test_a_tab_that_no_longer_waits_is_reported(page):
    asyncio.run(page.messages(RESULTS, "GET", [None], b"session_hash=abc", {}))
    assert page.left == ["abc"]
    page.ask("/config")
    page.ask(RESULTS)
    assert page.left == ["abc", ""]


def test_an_interrupted_answer_is_reported(page):
    async def wait(*_):
        await asyncio.Event().wait()

    async def closed_tab():
        task = asyncio.create_task(page.messages(RESULTS, "GET", [b""], b"session_hash=a", {}))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    page.answer = wait
    asyncio.run(closed_tab())
    assert page.left == ["a"]


def test_close_ends_answers_that_wait(page):
    async def stream(_, __, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"a", "more_body": True})
        await asyncio.Event().wait()

    async def ended():
        task = asyncio.create_task(page.messages(RESULTS, "GET", [b""], b"session_hash=a", {}))
        await asyncio.sleep(0.05)
        page.guard.close()
        return await task

    page.answer = stream
    assert asyncio.run(ended())[-1] == {"type": "http.response.body", "body": b""}
    assert page.left == ["a"]


def test_errors_are_one_line_on_the_terminal(page, caplog):
    async def fail(*_):
        raise ValueError("a\nb\x1b[31m" + "x" * 5000)

    page.answer = fail
    with caplog.at_level(logging.WARNING):
        assert page.ask("/assets/\x1b[31m" + "y" * 5000)[::2] == (500, "the request failed\n")
    (record,) = caplog.records
    line = record.getMessage()
    assert line.isprintable()
    assert len(line) < 500
    assert record.exc_info is None


def test_a_client_that_leaves_is_no_error(page, caplog):
    async def fail(_, receive, __):
        while (await receive())["type"] != "http.disconnect":
            pass
        raise ConnectionError

    page.answer = fail
    scope = ("/", "GET", [b"", None], b"", {})
    assert asyncio.run(page.messages(*scope)) == []
    assert not caplog.records
