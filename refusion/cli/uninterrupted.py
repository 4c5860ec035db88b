"""Imports of large libraries: interrupts wait for their end.

While their C++ code is imported, these libraries take the exception of an interrupt for an error of
their own: the interrupt is lost and the command goes on, or the process is aborted.
"""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Iterator
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

from refusion.errors import ConfigError

LIBRARIES = ("numpy", "torch", "onnxruntime", "openvino")
_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")


@contextlib.contextmanager
def uninterrupted_imports() -> Iterator[None]:
    """Context in which signals wait while one of `LIBRARIES` is imported, which takes seconds.

    A signal that has no handler of Python keeps its effect.
    """
    sys.meta_path.insert(0, _Finder)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):
            sys.meta_path.remove(_Finder)


class _Finder:
    """Finds the libraries as Python does, and has them imported without interrupts."""

    @staticmethod
    def find_spec(name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """See `importlib.abc.MetaPathFinder`."""
        spec = PathFinder.find_spec(name, path, target) if name in LIBRARIES else None
        if spec is None or spec.loader is None:
            return None
        execute = spec.loader.exec_module

        def uninterrupted(module: ModuleType) -> None:
            if name == "torch":
                _check_current_folder()
            with signals_wait():
                execute(module)

        spec.loader.exec_module = uninterrupted
        return spec


def _check_current_folder() -> None:
    """Raise `ConfigError` if the current folder was removed: the library MKL would end the process.

    Its message only says that it cannot load a file of PyTorch.
    """
    try:
        Path.cwd()
    except OSError as error:
        raise ConfigError(
            "the current folder was removed or cannot be read; change to another one (cd)"
        ) from error


@contextlib.contextmanager
def signals_wait() -> Iterator[None]:
    """Context at whose end the handlers of the signals that came inside are called."""
    if threading.current_thread() is not threading.main_thread():  # handlers need it
        yield
        return
    received, before = [], {}

    def record(number: int, frame: FrameType | None) -> None:
        received.append(number)

    for name in _SIGNALS:
        number = getattr(signal, name, None)  # Windows has no SIGHUP
        if number is not None and callable(signal.getsignal(number)):
            before[number] = signal.signal(number, record)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if received:
            signal.raise_signal(received[0])
