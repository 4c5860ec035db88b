"""What the scores of a set depend on: a run only continues if all of it is unchanged."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refusion import __version__
from refusion.evaluation.options import RunOptions
from refusion.evaluation.sets import EvaluationSet
from refusion.files import sha256_of

if TYPE_CHECKING:  # imports torch, which `refusion test --help` does not need
    from refusion.restorers.base import RestorerInfo


def fingerprint(
    weights: Path, info: RestorerInfo, options: RunOptions, chosen: EvaluationSet
) -> dict[str, Any]:
    """Everything that the scores of a set depend on.

    Args:
        weights: file of the model.
        info: of the restorer.
        options: of the run.
        chosen: the set.

    Returns:
        Values that `json.dumps` accepts.
    """
    from refusion.config.parser import to_plain

    files = {"weights": weights, "file": options.file}
    conditions = {"needs": sorted(info.needs), "optional": sorted(info.optional)}
    return {
        "version": __version__,
        "sha256": {k: sha256_of(path) for k, path in files.items() if path and path.is_file()},
        "options": to_plain(options),
        "restorer": to_plain(info) | conditions,
        "set": to_plain(chosen.settings),
        "photos": photos_state(chosen.sources),
    }


def photos_state(folders: Iterable[Path]) -> str:
    """SHA-256, hexadecimal, of the names, sizes and times of all files below the folders."""
    digest = hashlib.sha256()
    for folder in folders:
        for file in sorted(path for path in folder.rglob("*") if path.is_file()):
            state = file.stat()
            digest.update(repr((str(file), state.st_size, state.st_mtime_ns)).encode())
    return digest.hexdigest()
