"""Prompts from text files, one file per photo."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from refusion.errors import ConfigError, ImageError
from refusion.files import open_regular

_LONGEST = 1 << 16  # bytes; the text encoders read about 77 words


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
            ImageError: the text file does not exist, is too long or is not UTF-8 text.
        """
        path = self.folder / f"{photo.stem}.txt"
        try:
            with open_regular(path) as file:
                content = file.read(_LONGEST + 1)
            text = " ".join(content.decode("utf-8-sig").split())
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise ImageError(f"{photo}: the prompt {path} cannot be read: {reason}") from None
        if len(content) > _LONGEST:
            raise ImageError(f"{photo}: the prompt {path} has more than {_LONGEST} bytes")
        return text
