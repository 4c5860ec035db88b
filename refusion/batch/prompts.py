"""Prompts from text files, one file per photo."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from refusion.errors import ConfigError, ImageError


@dataclass(frozen=True)
class PromptFiles:
    """Folder of prompts: NAME.txt describes the content of the photo NAME.jpg.

    Attributes:
        folder: folder of the text files.

    Raises:
        ConfigError: the folder does not exist.
    """

    folder: Path

    def __post_init__(self) -> None:
        """Check the folder."""
        if not self.folder.is_dir():
            raise ConfigError(f"--prompts: no such folder: {self.folder}")

    def of(self, photo: Path) -> str:
        """Read the prompt of a photo, in one line.

        Args:
            photo: path of the photo; the text file has the same stem.

        Raises:
            ImageError: the text file does not exist or is not UTF-8 text.
        """
        path = self.folder / f"{photo.stem}.txt"
        try:
            return " ".join(path.read_text(encoding="utf-8-sig").split())
        except (OSError, ValueError) as error:
            raise ImageError(f"{photo}: the prompt {path} cannot be read: {error}") from None
