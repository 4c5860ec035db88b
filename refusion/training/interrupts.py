"""Handling of Ctrl-C and of the signals of job schedulers between two training steps."""

from __future__ import annotations

import contextlib
import logging
import signal
import threading
from collections.abc import Iterator
from types import FrameType, TracebackType

logger = logging.getLogger(__name__)


class InterruptedWaitError(KeyboardInterrupt):
    """A signal came while the training waited for its data."""


class Interrupts:
    """Context that records SIGINT and SIGTERM; a second signal has its usual effect.

    Attributes:
        received: number of the received signal, 0 if there was none.
    """

    def __init__(self) -> None:
        self.received = 0
        self._waits = False
        self._before: dict[int, signal._HANDLER] = {}

    @contextlib.contextmanager
    def end_the_wait(self) -> Iterator[None]:
        """Context in which the training waits, so a signal need not wait for the end of a step.

        Raises:
            InterruptedWaitError: a signal was received within the context.
        """
        self._waits = True
        try:
            yield
        finally:
            self._waits = False

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():  # handlers need it
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._record)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._restore()

    def _record(self, number: int, frame: FrameType | None) -> None:
        self.received = number
        self._restore()
        if self._waits:
            raise InterruptedWaitError
        logger.warning("stopping after this step; the same signal again stops immediately")

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()


def ignore_interrupts(worker: int) -> None:
    """Make a data loader process ignore Ctrl-C and SIGTERM, which the training process handles.

    Schedulers send the signals to all processes of a group. If a loader process ended first, the
    current training step would fail.

    Args:
        worker: number of the loader process; not used.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
