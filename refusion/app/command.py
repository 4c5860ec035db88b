"""The command `refusion app`: its options, and serving the page until Ctrl-C."""

from __future__ import annotations

import argparse
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
from typing import TYPE_CHECKING

from refusion.app.origins import checked_name, host_names, is_loopback
from refusion.cli.common import (
    Parser,
    check_memory,
    errors_to_exit_codes,
    show,
    sigterm_as_interrupt,
)
from refusion.cli.options.model import warnings_on_stderr
from refusion.cli.options.plugins import add_plugin_option
from refusion.cli.options.values import count, option_name, whole_between
from refusion.config.plugins import import_plugins
from refusion.errors import ConfigError
from refusion.images.decoder_warnings import quiet_decoders

if TYPE_CHECKING:  # these import torch or Gradio, which is too slow for --help
    from refusion.app.guard import Guard
    from refusion.app.slot import Slot

logger = logging.getLogger(__name__)

MAX_PIXELS = 120_000_000  # the largest photos of phones; needs 3 GB
HOST, PORT = "127.0.0.1", 7860
_END_S = 4  # longest time for the end of a restoration after Ctrl-C


@errors_to_exit_codes
def main(argv: list[str] | None = None) -> int:
    """Entry point of `python -m refusion.app`; see `run`.

    Args:
        argv: command-line arguments; None takes those of the process.

    Returns:
        0 after the page was served; 2 if it could not start, with one line on stderr.
    """
    return run(sys.argv[1:] if argv is None else argv)


def run(argv: list[str]) -> int:
    """Serve the page until Ctrl-C, SIGTERM or SIGHUP; returns 0.

    Raises:
        RefusionError: the page could not start.
    """
    options = build_parser().parse_args(argv)
    check_memory()
    import_plugins(options.plugin)
    with warnings_on_stderr(), quiet_decoders(), _signals() as ignore_signals:
        has_ended = _serve(options, ignore_signals)
    if not has_ended:  # Python would wait for the thread of the restoration
        sys.stdout.flush()
        os._exit(0)
    return 0


def build_parser() -> argparse.ArgumentParser:
    """Define the options of the command."""
    parser = Parser(
        prog="refusion app",
        description="Restore photos on a page in the browser. By default the page is available on "
        "this machine only. Nothing is sent to other servers; uploads and results are temporary "
        "files.",
        epilog="Exit code: 0 ended by Ctrl-C or SIGTERM, also during a restoration, which is then "
        "stopped; 2 wrong usage or the page could not start; 130 interrupted before it was served.",
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
        "--max-stored",
        metavar="SIZE",
        help="space for all uploads and results together; the oldest are deleted first, and an "
        "upload that does not fit is refused (default: 4 times --max-upload)",
    )
    add(
        "--host",
        default=HOST,
        help="address of the server (default: %(default)s, only this machine has access)",
    )
    add(
        "--allow-host",
        type=_name,
        action="append",
        default=[],
        metavar="NAME",
        help="also answer requests for this host name, such as that of a proxy; may be repeated",
    )
    add("--port", type=_port, default=PORT, help="0 chooses a free port (default: %(default)s)")


def _port(text: str) -> int:
    """Option type: 0 to 65535."""
    return whole_between(text, 0, 65535)


def _name(text: str) -> str:
    """Option type: a host name."""
    try:
        return checked_name(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


@contextmanager
def _signals() -> Iterator[Callable[[], None]]:
    """Treat SIGTERM and SIGHUP like Ctrl-C; yields a function that ignores all later signals."""
    ignored: list[int] = []

    def ignore() -> None:
        names = ("SIGINT", "SIGTERM", "SIGHUP")  # Windows has no SIGHUP
        ignored[:] = [getattr(signal, name) for name in names if hasattr(signal, name)]
        for number in ignored:
            signal.signal(number, signal.SIG_IGN)

    with sigterm_as_interrupt():
        yield ignore
    if ignored:  # until the process has ended
        ignore()


def _serve(options: argparse.Namespace, ignore_signals: Callable[[], None]) -> bool:
    """Serve the page until an interrupt; returns whether no restoration runs any more."""
    if find_spec("gradio") is None:  # importing it takes seconds
        raise ConfigError(
            "the page needs Gradio: pip install 'gradio>=6.31,<7'; tiled_infer.py works without it"
        )
    from refusion.app.server import listening_socket, served
    from refusion.app.slot import Slot

    _check_sizes(options)
    with listening_socket(options.host, options.port) as listening, _temporary_files() as folder:
        if not is_loopback(options.host):
            logger.warning(
                "--host: everybody who can reach this machine can use the page; it has no password"
            )
        slot = Slot()
        with served(_guarded_page(options, slot, folder), listening):
            show(f"refusion: {address(options.host, listening)} (Ctrl-C ends it)")
            sys.stdout.flush()
            with suppress(KeyboardInterrupt):
                threading.Event().wait()
            ignore_signals()
            return slot.close(_END_S)


def _check_sizes(options: argparse.Namespace) -> None:
    """Replace the sizes in the options by bytes."""
    from refusion.memory import parse_memory

    for key in ("max_upload", "max_stored", "max_memory"):
        text = vars(options)[key]
        vars(options)[key] = None if text is None else parse_memory(text, option_name(key))
    if options.max_stored is None:
        options.max_stored = 4 * options.max_upload
    if options.max_stored < options.max_upload:
        raise ConfigError("--max-stored: expected at least the size that --max-upload allows")


@contextmanager
def _temporary_files() -> Iterator[Path]:
    """Write all temporary files to one folder, which is deleted when the page ends."""
    before = tempfile.tempdir
    with tempfile.TemporaryDirectory(prefix="refusion_app_", ignore_cleanup_errors=True) as folder:
        # Gradio reads this variable when it is imported and has no other setting for it. It serves
        # files in that folder directly, and copies of files outside, such as the results.
        os.environ["GRADIO_TEMP_DIR"] = str(_served_files(Path(folder)))
        tempfile.tempdir = folder
        try:
            yield Path(folder)
        finally:
            tempfile.tempdir = before


def _served_files(folder: Path) -> Path:
    return folder / "served"


def _guarded_page(options: argparse.Namespace, slot: Slot, folder: Path) -> Guard:
    """The page with its models, behind the checks of all requests."""
    from refusion.app.guard import Guard
    from refusion.app.models import load_models
    from refusion.app.page import build_page
    from refusion.app.server import application
    from refusion.app.storage import Storage

    models = load_models(
        options.weights,
        device=options.device,
        precision=options.precision,
        memory=options.max_memory,
    )
    storage = Storage(folder, _served_files(folder), options.max_stored)
    page = build_page(models, options.max_pixels, slot, storage, options.max_memory)
    return Guard(
        application(page, options.max_upload),
        names=host_names(options.host, options.allow_host),
        storage=storage,
        max_upload=options.max_upload,
        waiting=slot.waiting,
    )


def address(host: str, listening: socket.socket) -> str:
    """Address of the page for a browser on this machine."""
    name = "localhost" if host in ("", "0.0.0.0", "::") else host
    name = f"[{name}]" if ":" in name else name
    return f"http://{name}:{listening.getsockname()[1]}/"
