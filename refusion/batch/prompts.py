"""Texts that say what photos show, one file per photo."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from refusion.errors import ConfigError, ImageError


@dataclass(frozen=True)
class PromptFiles:
    """A folder of texts named like the photos: NAME.txt for NAME.jpg.

    Attributes:
        folder: where they are.

    Raises:
        ConfigError: there is no such folder.
    """

    folder: Path

    def __post_init__(self) -> None:
        """Check the folder."""
        if not self.folder.is_dir():
            raise ConfigError(f"--prompts: no such folder: {self.folder}")

    def of(self, photo: Path) -> str:
        """Text of a photo, in one line.

        Raises:
            ImageError: there is no such file, or it is no UTF-8 text.
        """
        path = self.folder / f"{photo.stem}.txt"
        try:
            return " ".join(path.read_text(encoding="utf-8-sig").split())
        except (OSError, ValueError) as error:
            raise ImageError(
                f"{photo}: no text at {path} that says what it shows: {error}"
            ) from None
