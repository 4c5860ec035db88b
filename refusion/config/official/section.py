"""Reading the authors' option files: nested mappings where a missing key means null."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

from refusion.errors import ConfigError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Section:
    """One mapping of a file; every error names the file and the dotted key.

    Attributes:
        source: the file.
        values: the mapping.
        key: dotted key of the mapping, empty for the whole file.
    """

    source: str
    values: Mapping[str, Any] = field(default_factory=dict)
    key: str = ""

    def get(self, name: str, default: Any = None) -> Any:
        """Value of a key; `default` where it is absent or null."""
        value = self.values.get(name)
        return default if value is None else value

    def need(self, name: str) -> Any:
        """Value of a key that must be there.

        Raises:
            ConfigError: absent or null.
        """
        value = self.get(name)
        if value is None:
            self.fail(name, "missing or null; set it in the file")
        return value

    def section(self, name: str) -> Section:
        """Nested mapping; an empty one where it is absent or null.

        Raises:
            ConfigError: it is no mapping.
        """
        value = self.get(name, {})
        if not isinstance(value, Mapping):
            self.fail(name, f"expected a section, got {value!r}")
        return Section(self.source, value, self.path(name))

    def number(self, name: str, default: float | None = None) -> float:
        """Number, also one that YAML reads as a text, such as 1e-4.

        Raises:
            ConfigError: no number, or absent without a default.
        """
        value = self.need(name) if default is None else self.get(name, default)
        try:
            return float(value)
        except (TypeError, ValueError):
            self.fail(name, f"expected a number, got {value!r}")

    def whole(self, name: str, default: int | None = None) -> int:
        """Whole number, also one written as 5e3.

        Raises:
            ConfigError: as `number`, or not whole.
        """
        value = self.number(name, default)
        if not value.is_integer():
            self.fail(name, f"expected a whole number, got {value!r}")
        return int(value)

    def path(self, name: str) -> str:
        """Dotted key of one of its values."""
        return f"{self.key}.{name}" if self.key else name

    def fail(self, name: str, message: str) -> NoReturn:
        """Raise a `ConfigError` about one of its keys."""
        raise ConfigError(f"{self.source}: {self.path(name)}: {message}")

    def warn(self, name: str, message: str) -> None:
        """Log a warning about one of its keys."""
        logger.warning("%s: %s: %s", self.source, self.path(name), message)
