"""Lets one restoration run at a time, and stops it when nobody waits for the result."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from torch.nn.modules.module import register_module_forward_pre_hook

_POLL_S = 0.1
_ARRIVAL_S = 10  # longest time until a tab asks for the results of its restoration


class StoppedError(BaseException):
    """The restoration was cancelled, or nobody waits for its result.

    It is not an `Exception`, so that no code takes it for an error of the photo.
    """


class Slot:
    """The place for the one restoration that runs; others wait.

    There is one at a time because the memory limit is per photo. A stopped restoration ends when it
    next calls the function that it was given, or before the next layer of a network. It is also
    stopped if its tab does not ask for the results within ten seconds.
    """

    def __init__(self) -> None:
        self._slot = threading.Lock()
        self._lock = threading.Lock()
        self._stops: dict[threading.Event, str] = {}  # running and waiting: session of each
        self._tabs: Counter[str] = Counter()  # requests for results by session
        self._closed = False

    @contextlib.contextmanager
    def waiting(self, session: str) -> Iterator[None]:
        """Within the block a browser tab waits for results; its end stops the tab's restorations.

        Args:
            session: identifies the browser tab.
        """
        with self._lock:
            self._tabs[session] += 1
        try:
            yield
        finally:
            with self._lock:
                self._tabs[session] -= 1
                self._tabs += Counter()  # removes zeros
            self.stop(session)

    @contextlib.contextmanager
    def restoring(self, session: str) -> Iterator[Callable[[], None]]:
        """Wait until the slot is free, and hold it within the block.

        Args:
            session: identifies the browser tab that started the restoration.

        Yields:
            Function that raises `StoppedError` once the restoration is stopped; call it often.

        Raises:
            StoppedError: the restoration was stopped while it waited.
        """
        stop = threading.Event()
        latest = time.monotonic() + _ARRIVAL_S

        def check(*_: Any) -> None:
            # A tab that was closed before it asked for the results never ends `waiting`.
            is_left = session not in self._tabs and time.monotonic() > latest
            if stop.is_set() or is_left:
                raise StoppedError

        with self._registered(stop, session):
            while not self._slot.acquire(timeout=_POLL_S):
                check()
            try:
                check()
                hook = register_module_forward_pre_hook(check)  # for every layer
                try:
                    yield check
                finally:
                    hook.remove()
            finally:
                self._slot.release()

    def stop(self, session: str) -> None:
        """Stop the running and waiting restorations of a session."""
        with self._lock:
            for stop, owner in self._stops.items():
                if owner == session:
                    stop.set()

    def close(self, seconds: float) -> bool:
        """Stop all restorations, now and in future.

        Args:
            seconds: longest time to wait for them.

        Returns:
            Whether all have ended.
        """
        end = time.monotonic() + seconds
        with self._lock:
            self._closed = True
            for stop in self._stops:
                stop.set()
        while self._stops and time.monotonic() < end:
            time.sleep(_POLL_S / 10)
        return not self._stops

    @contextlib.contextmanager
    def _registered(self, stop: threading.Event, session: str) -> Iterator[None]:
        with self._lock:
            self._stops[stop] = session
            if self._closed:
                stop.set()
        try:
            yield
        finally:
            with self._lock:
                del self._stops[stop]
