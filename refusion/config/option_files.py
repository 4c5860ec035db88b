"""The option files that come with the package: one per task and variant."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from refusion.errors import ConfigError, suggest


def option_files(folder: Path | None = None) -> dict[str, Path]:
    """Option files by name without suffix, sorted.

    Args:
        folder: where they lie; None for those of the package. A wheel has them in
            `refusion/options`, a checkout in `options` beside `refusion`.
    """
    if folder is None:
        package = Path(str(resources.files("refusion")))
        inside, beside = package / "options", package.parent / "options"
        folder = inside if inside.is_dir() else beside
    return {file.stem: file for file in sorted(folder.glob("*.yml"))}


def find_option_file(name: str, folder: Path | None = None) -> Path:
    """Find an option file by its name, with or without the suffix `.yml`.

    Args:
        name: 'deshadow' or 'deshadow.yml'.
        folder: as in `option_files`.

    Raises:
        ConfigError: no such file; suggests the nearest name.
    """
    files = option_files(folder)
    stem = name.removesuffix(".yml")
    if not files:
        raise ConfigError(f"{name}: this installation has no option files; install refusion again")
    if stem not in files:
        hint = f"{suggest(stem, files)}; 'refusion init' without a name lists them"
        raise ConfigError(f"no option file '{stem}'{hint}")
    return files[stem]


def summary(file: Path) -> str:
    """First sentence of the comment at the head of an option file; empty without a comment."""
    head = []
    for line in file.read_text(encoding="utf-8").splitlines():
        if not line.startswith("# ") or line.startswith("#  "):  # indented: a command
            break
        head.append(line[2:])
    return " ".join(head).partition(". ")[0].rstrip(".")
