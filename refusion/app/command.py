"""The command `python -m refusion.app`: its options, and serving the page until Ctrl-C."""

from __future__ import annotations

import argparse
import ipaddress
import logging
import os
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refusion.cli.common import errors_to_exit_codes
from refusion.cli.options.model import count, warnings_on_stderr
from refusion.cli.options.plugins import add_plugin_option
from refusion.config.plugins import import_plugins
from refusion.errors import ConfigError

if TYPE_CHECKING:  # Gradio is an extra
    import gradio

logger = logging.getLogger(__name__)

MAX_PIXELS = 120_000_000  # the largest photos of phones; needs 3 GB
HOST, PORT = "127.0.0.1", 7860


@errors_to_exit_codes
def main(argv: list[str] | None = None) -> int:
    """Serve the page until Ctrl-C.

    Args:
        argv: command-line arguments; None takes those of the process.

    Returns:
        0 after the page was served; 2 if it could not start, with one line on stderr.
    """
    options = build_parser().parse_args(argv)
    import_plugins(options.plugin)
    with warnings_on_stderr(), _temporary_files():
        page = _page(options)
        with suppress(KeyboardInterrupt), _served(page, options) as address:
            sys.stdout.write(f"refusion: {address} (Ctrl-C ends it)\n")
            sys.stdout.flush()
            threading.Event().wait()
    return 0


def build_parser() -> argparse.ArgumentParser:
    """Define the options of the command."""
    parser = argparse.ArgumentParser(
        prog="python -m refusion.app",
        description="Restore photos on a page in the browser. By default the page is available on "
        "this machine only. Nothing is sent to other servers; uploads and results are temporary "
        "files.",
        epilog="Exit code: 0 ended by Ctrl-C, 2 wrong usage or the page could not start.",
    )
    _add_model_options(parser.add_argument)
    _add_page_options(parser.add_argument)
    return parser


def _add_model_options(add: Callable[..., argparse.Action]) -> None:
    add(
        "--weights",
        nargs="+",
        type=Path,
        default=[],
        metavar="FILE",
        help="additional models, .safetensors files",
    )
    add_plugin_option(add)
    add("--device", default="auto", metavar="auto|cpu|cuda", help="default: a GPU if available")
    add(
        "--precision",
        default="auto",
        metavar="auto|fp32|bf16|fp16",
        help="number format of the networks",
    )
    add(
        "--max-memory",
        metavar="SIZE",
        help="memory limit of the process, e.g. 4G; sets the tile size",
    )


def _add_page_options(add: Callable[..., argparse.Action]) -> None:
    add(
        "--max-pixels",
        type=count,
        default=MAX_PIXELS,
        metavar="N",
        help="refuse larger photos (default: %(default)s)",
    )
    add(
        "--max-upload",
        default="500M",
        metavar="SIZE",
        help="refuse larger files (default: %(default)s)",
    )
    add(
        "--host",
        default=HOST,
        help="address of the server (default: %(default)s, only this machine has access)",
    )
    add("--port", type=_port, default=PORT, help="0 chooses a free port (default: %(default)s)")


def _port(text: str) -> int:
    """Option type: 0 to 65535."""
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"expected 0 to 65535, got '{text}'")
    return int(text)


@contextmanager
def _temporary_files() -> Iterator[None]:
    """Write all temporary files to one folder, which is deleted when the page ends."""
    before = tempfile.tempdir
    # Service managers send SIGTERM; it ends the page like Ctrl-C, so that no files remain.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="refusion_app_", ignore_cleanup_errors=True) as folder:
        # Gradio reads this variable when it is imported and has no other setting for it. It serves
        # files in that folder directly, and copies of files outside, such as the results.
        os.environ["GRADIO_TEMP_DIR"] = str(Path(folder, "served"))
        tempfile.tempdir = folder
        try:
            yield
        finally:
            tempfile.tempdir = before


def _page(options: argparse.Namespace) -> gradio.Blocks:
    """Build the page with its models; the checks run before a model is loaded."""
    if find_spec("gradio") is None:  # importing it takes seconds
        raise ConfigError(
            "the page needs Gradio: pip install 'gradio>=6.31,<7'; tiled_infer.py works without it"
        )
    from refusion.app.models import load_models
    from refusion.app.page import build_page
    from refusion.tiling.memory import parse_memory

    _check_address(options)
    options.max_upload = parse_memory(options.max_upload)
    memory = None if options.max_memory is None else parse_memory(options.max_memory)
    models = load_models(
        options.weights, device=options.device, precision=options.precision, memory=memory
    )
    return build_page(models, options.max_pixels)


def _check_address(options: argparse.Namespace) -> None:
    """Check that the address is available, and choose a port for 0."""
    try:
        with socket.create_server((options.host, options.port)) as server:
            options.port = server.getsockname()[1]
    except OSError as error:
        raise ConfigError(
            f"--host, --port: cannot serve on {options.host}:{options.port} ({error.strerror}); "
            "choose another address or port"
        ) from error
    if not _is_loopback(options.host):
        logger.warning(
            "--host: everybody who can reach this machine can use the page; it has no password"
        )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@contextmanager
def _served(page: gradio.Blocks, options: argparse.Namespace) -> Iterator[str]:
    """Serve the page within the block; yields its address."""
    import gradio as gr

    local_fonts: dict[str, Any] = {"font": ["system-ui", "sans-serif"], "font_mono": ["monospace"]}
    page.queue(max_size=20)
    _, address, _ = page.launch(
        server_name=options.host,
        server_port=options.port,
        max_file_size=options.max_upload,
        theme=gr.themes.Default(**local_fonts),  # other fonts are downloaded
        prevent_thread_lock=True,
        quiet=True,
        share=False,
        run_history=False,
        enable_monitoring=False,
        mcp_server=False,
        ssr_mode=False,
        pwa=False,
        footer_links=[],
    )
    try:
        yield address
    finally:
        page.close(verbose=False)
