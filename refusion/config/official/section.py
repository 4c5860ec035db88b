"""Access to official option files: nested mappings in which a missing key means null."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

from refusion.config.scalars import short
from refusion.errors import ConfigError, printable
from refusion.hints import LONGEST_LIST

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Section:
    """One mapping of a file; each error message names the file and the dotted key.

    Attributes:
        source: path of the file, for messages.
        values: the mapping.
        key: dotted key of the mapping; empty for the whole file.
    """

    source: str
    values: Mapping[str, Any] = field(default_factory=dict)
    key: str = ""

    def get(self, name: str, default: Any = None) -> Any:
        """Value of a key, or `default` if it is missing or null."""
        value = self.values.get(name)
        return default if value is None else value

    def need(self, name: str) -> Any:
        """Value of a required key.

        Raises:
            ConfigError: the key is missing or null.
        """
        value = self.get(name)
        if value is None:
            self.fail(name, "missing or null; set it in the file")
        return value

    def section(self, name: str) -> Section:
        """Nested section; an empty one if it is missing or null.

        Raises:
            ConfigError: the value is not a mapping.
        """
        value = self.get(name, {})
        if not isinstance(value, Mapping):
            self.fail(name, f"expected a section, got {short(value)}")
        return Section(self.source, value, self.path(name))

    def number(self, name: str, default: float | None = None) -> float:
        """Number; texts such as 1e-4, which YAML does not read as a number, are converted.

        Raises:
            ConfigError: the value is not a number, or it is missing and there is no default.
        """
        value = self.need(name) if default is None else self.get(name, default)
        try:
            return float(value)
        except (TypeError, ValueError, OverflowError):
            self.fail(name, f"expected a number, got {short(value)}")

    def whole(self, name: str, default: int | None = None) -> int:
        """Whole number; notation such as 5e3 is accepted.

        Raises:
            ConfigError: as in `number`, or the value is not whole.
        """
        value = self.number(name, default)
        if not value.is_integer():
            self.fail(name, f"expected a whole number, got {value!r}")
        return int(value)

    def word(self, name: str, default: str | None = None) -> str:
        """Text.

        Raises:
            ConfigError: the value is not a text, or it is missing and there is no default.
        """
        value = self.need(name) if default is None else self.get(name, default)
        if not isinstance(value, str):
            self.fail(name, f"expected a text, got {short(value)}")
        return value

    def whole_list(self, name: str) -> list[int]:
        """List of whole numbers.

        Raises:
            ConfigError: the value is missing, or is not such a list.
        """
        values = self.need(name)
        if not isinstance(values, list) or len(values) > LONGEST_LIST:
            self.fail(name, f"expected a list of at most {LONGEST_LIST} numbers")
        items = Section(self.source, {str(n): v for n, v in enumerate(values)}, self.path(name))
        return [items.whole(key) for key in items.values]

    def path(self, name: str) -> str:
        """Dotted key of a value of this section."""
        return f"{self.key}.{name}" if self.key else name

    def fail(self, name: str, message: str) -> NoReturn:
        """Raise a `ConfigError` about a key of this section."""
        key = printable(self.path(name), 100)
        raise ConfigError(f"{self.source}: {key}: {printable(message, 220)}") from None

    def warn(self, name: str, message: str) -> None:
        """Log a warning about a key of this section."""
        logger.warning("%s: %s: %s", self.source, self.path(name), message)
