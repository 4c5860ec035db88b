"""Serves the page: the web server, behind `Guard`, in a thread of its own."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from refusion.app.guard import Guard
from refusion.app.look import CSS, HEAD, theme
from refusion.errors import ConfigError

if TYPE_CHECKING:  # Gradio is an extra
    import gradio

_END_S = 2  # longest time for the last responses


def listening_socket(host: str, port: int) -> socket.socket:
    """Open the socket of the server.

    Args:
        host: name or address of an interface of this machine, IPv4 or IPv6.
        port: 0 chooses a free port.

    Raises:
        ConfigError: the address is not available.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, *_, address = min(found, key=lambda entry: entry[0] != socket.AF_INET)
        is_dual = host == "::" and socket.has_dualstack_ipv6()  # IPv4, too
        return socket.create_server(address, family=family, dualstack_ipv6=is_dual)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(
            f"--host, --port: cannot serve on {host}:{port} ({reason}); "
            "choose another address or port"
        ) from error


def application(page: gradio.Blocks, max_upload: int) -> Any:
    """The page as an ASGI application.

    Args:
        page: the page.
        max_upload: largest file in bytes.
    """
    import gradio as gr
    from fastapi import FastAPI

    page.queue(max_size=20, api_open=False)
    page.has_launched = True  # otherwise Gradio does not check the folders of files
    return gr.mount_gradio_app(
        FastAPI(openapi_url=None),
        page,
        path="/",
        max_file_size=max_upload,
        theme=theme(gr),
        css=CSS,
        head=HEAD,
        show_error=True,
        run_history=False,
        enable_monitoring=False,
        mcp_server=False,
        ssr_mode=False,
        pwa=False,
        footer_links=[],
    )


@contextlib.contextmanager
def served(guard: Guard, listening: socket.socket) -> Iterator[None]:
    """Answer requests within the block.

    Args:
        guard: the application.
        listening: socket from `listening_socket`; it is closed at the end.
    """
    import uvicorn

    config = uvicorn.Config(
        guard,
        log_config=None,
        log_level="critical",  # `Guard` reports errors
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=_END_S,
    )
    server = uvicorn.Server(config)
    ready = threading.Event()
    loops: list[asyncio.AbstractEventLoop] = []

    async def serve() -> None:
        loops.append(asyncio.get_running_loop())
        ready.set()
        await server.serve([listening])

    thread = threading.Thread(target=asyncio.run, args=(serve(),), daemon=True)
    thread.start()
    ready.wait()
    while thread.is_alive() and not server.started:
        time.sleep(0.01)
    if not server.started:
        raise ConfigError("the web server could not start")
    try:
        yield
    finally:
        server.should_exit = True
        with contextlib.suppress(RuntimeError):  # the loop has ended
            loops[0].call_soon_threadsafe(guard.close)
        thread.join(_END_S + 1)
