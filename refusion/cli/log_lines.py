"""The form of log records on a terminal."""

from __future__ import annotations

import logging
from typing import Any

from refusion.errors import one_line, printable
from refusion.failures import is_debugging


class LineFormatter(logging.Formatter):
    """Formats the message of a log record as one printable line; a traceback keeps its lines."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        """See `logging.Formatter.formatMessage`."""
        text = super().formatMessage(record)
        return _lines(text) if is_debugging() else one_line(text)

    def formatException(self, ei: Any) -> str:  # noqa: N802
        """See `logging.Formatter.formatException`."""
        return _lines(super().formatException(ei))


def _lines(text: str) -> str:
    return "\n".join(map(printable, text.splitlines()))
