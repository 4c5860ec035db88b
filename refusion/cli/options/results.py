"""Options of the result files: their names, format and quality, and files that exist."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from refusion.cli.options.values import whole_between
from refusion.errors import ConfigError, printable
from refusion.weights import ABOUT, ENOUGH

if TYPE_CHECKING:
    from refusion.batch.plan import Job

logger = logging.getLogger(__name__)

_LONGEST_SUFFIX = 100
FORMATS = {
    "jpeg": ".jpg",
    "png": ".png",
    "tiff": ".tif",
    "webp": ".webp",
    "avif": ".avif",
    "jxl": ".jxl",
}
"""Values of `--format`, and the suffixes of such files."""


def add_file_options(add: Callable[..., argparse.Action]) -> None:
    """Add `--format`, `--quality`, `--suffix` and `--overwrite`."""
    add(
        "--format",
        choices=FORMATS,
        help="format of the results (default: that of each photo; JPEG for HEIC, TIFF for raw)",
    )
    add(
        "--quality",
        type=_quality,
        metavar="1..100",
        help="quality of results in JPEG, WebP, AVIF and JPEG XL (default: a JPEG keeps that "
        "of its photo; else JPEG 95, WebP 92, AVIF and JPEG XL 90; photos without loss stay "
        "lossless in WebP and JPEG XL)",
    )
    add(
        "--suffix",
        type=_suffix,
        default="",
        metavar="TEXT",
        help="end of the names of the results: --suffix=-new gives photo-new.jpg",
    )
    add(
        "--overwrite",
        choices=("always", "never", "ask"),
        help="replace results that exist, skip their photos, or ask (default: always)",
    )


def check_existing(jobs: Sequence[Job], options: argparse.Namespace) -> None:
    """Ask before results are overwritten, with `--overwrite ask`.

    Args:
        jobs: the planned files.
        options: parsed options.

    Raises:
        ConfigError: the user refuses, or there is no terminal to ask in.
    """
    if options.overwrite != "ask":
        return
    found = [path for job in jobs for file in job.photos for path in file.written if path.exists()]
    if not found:
        return
    what = f"{found[0]} exists" if len(found) == 1 else f"{len(found)} results exist"
    if not sys.stdin.isatty():
        raise ConfigError(f"--overwrite ask: {what}, and there is no terminal to ask in")
    sys.stderr.write(printable(f"{what} (in {found[0].parent}). Overwrite? [y/N] "))
    sys.stderr.flush()
    answer = sys.stdin.readline()
    if not answer.endswith("\n"):
        sys.stderr.write("\n")
    if answer.strip().lower() not in ("y", "yes"):
        raise ConfigError(f"{what}; nothing was restored")


def warn_of_uncertainty(options: argparse.Namespace) -> None:
    """Warn if `--uncertainty` does not show the errors of a shipped model.

    Args:
        options: parsed options.
    """
    from refusion.cli.options.methods import DEFAULT  # refusion-lite works without these
    from refusion.cli.options.model import DEFAULT_TASK

    task = options.task or DEFAULT_TASK
    about = ABOUT.get(task)
    is_shipped = options.method == DEFAULT and options.weights is None
    if not is_shipped or about is None:
        return
    if options.uncertainty and (about.correlation is None or about.correlation < ENOUGH):
        found = "was not measured" if about.correlation is None else f"is {about.correlation:g}"
        logger.warning(
            "--uncertainty: the map shows how the samples differ, but not reliably where '%s' is "
            "wrong: its correlation with the error %s (1 is perfect)",
            task,
            found,
        )


def renaming(options: argparse.Namespace) -> Callable[[Path], Path] | None:
    """How the name of a photo becomes the name of its result; None if it stays the same.

    Args:
        options: parsed options.
    """
    if not options.suffix and options.format is None:
        return None

    def rename(path: Path) -> Path:
        ending = FORMATS[options.format] if options.format else path.suffix
        return path.with_name(f"{path.stem}{options.suffix}{ending}")

    return rename


def _quality(text: str) -> int:
    """Option type: a whole number from 1 to 100."""
    return whole_between(text, 1, 100)


def _suffix(text: str) -> str:
    """Option type: a part of a file name."""
    if "/" in text or "\0" in text or len(text) > _LONGEST_SUFFIX:
        shown = printable(text, 40)
        raise argparse.ArgumentTypeError(
            f"expected up to {_LONGEST_SUFFIX} characters of a file name, no /, got '{shown}'"
        )
    return text
