"""Names of results by the formats of their photos, and the packages that these formats need."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from refusion.errors import ConfigError, ImageError
from refusion.images.listing import FORMATS, READ_ONLY, RESULTS, format_by_suffix
from refusion.images.packages import missing_package


def result_name(path: Path) -> Path:
    """The name of a result; photos in a format that is only read get the suffix of another one.

    Args:
        path: the name of the photo, in the folder of the result.

    >>> result_name(Path("results/IMG_1.HEIC")).name
    'IMG_1.jpg'
    """
    kind = READ_ONLY.get(path.suffix.lower())
    return path if kind is None else path.with_suffix(RESULTS[kind])


def distinct(pairs: Sequence[tuple[Path, Path]]) -> list[tuple[Path, Path]]:
    """Pairs of input and output, with other names for raw files and HEIC beside their JPEG.

    Cameras write IMG_1.NEF beside IMG_1.JPG. With `--format jpeg` both results would be IMG_1.jpg,
    so that of the raw file is IMG_1-nef.jpg.

    Args:
        pairs: input and output files.
    """
    sources = Counter(result for _, result in dict.fromkeys(pairs))
    return [
        (source, result.with_stem(f"{result.stem}-{source.suffix[1:].lower()}"))
        if sources[result] > 1 and source.suffix.lower() in READ_ONLY
        else (source, result)
        for source, result in pairs
    ]


def check_packages(pairs: Iterable[tuple[Path, Path]]) -> None:
    """Raise an error if a package is missing without which no photo can be read or written.

    Args:
        pairs: input and output files.

    Raises:
        ImageError: no photo can be read.
        ConfigError: a result cannot be written.
    """
    missing = {source: missing_package(format_by_suffix(source.suffix)) for source, _ in pairs}
    if all(missing.values()):
        source, text = next(iter(missing.items()))
        raise ImageError(f"{source}: {text}")
    for _, result in pairs:
        text = missing_package(FORMATS.get(result.suffix.lower()))
        if text is not None:
            raise ConfigError(f"output: '{result}': {text}")
