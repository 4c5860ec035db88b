"""The log of a batch: one JSON document, rewritten completely after every photo."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from statistics import median
from typing import Any

from refusion.batch.jobs import Outcome
from refusion.errors import ConfigError
from refusion.files import atomic_write


class BatchLog:
    """Log of a batch as a JSON file; the constructor writes the first version.

    The document has the keys of `head`, then `summary` and `photos`. `summary` has the numbers of
    photos restored, skipped and failed, and the median seconds per restored photo for each stage.
    `photos` is a list with the entries `input`, `output`, `width`, `height` (null if the photo was
    not read), `seconds` by stage (`read`, `restore`, `write`; each view of a stereo pair has half
    of the pair's time), `error` (null or one line), `skipped`, `unchanged` and, if the model
    estimated it, `noise_level` in 8-bit levels.

    Args:
        path: the .json file; its folder is created, and an existing file is replaced.
        head: entries for the whole batch, JSON values.

    Raises:
        ConfigError: the name does not end in .json, or the file cannot be written.
    """

    def __init__(self, path: Path, head: Mapping[str, Any]) -> None:
        if path.suffix.lower() != ".json":
            raise ConfigError(f"log: '{path}': expected a name that ends in .json")
        self.path = path
        self._head = dict(head)
        self._photos: list[dict[str, Any]] = []
        self.add()

    def add(self, *outcomes: Outcome) -> None:
        """Append the outcomes of jobs and write the file."""
        self._photos += [entry for outcome in outcomes for entry in _entries(outcome)]
        document = self._head | {"summary": _summary(self._photos), "photos": self._photos}
        text = json.dumps(document, indent=1, ensure_ascii=False) + "\n"
        try:
            with atomic_write(self.path) as temporary:
                # Bytes of a file name that are not UTF-8 become \\udcXX, a valid escape in JSON.
                temporary.write_text(text, "utf-8", "backslashreplace")
        except OSError as error:
            raise ConfigError(f"log: '{self.path}' cannot be written ({error.strerror})") from error


def part_of_log(path: Path, rank: int) -> Path:
    """Path of the log of one of several processes, before the logs are merged.

    >>> part_of_log(Path("run/log.json"), 1).name
    'log.part1.json'
    """
    return path.with_name(f"{path.stem}.part{rank}{path.suffix}")


def _entries(outcome: Outcome) -> Iterable[dict[str, Any]]:
    photos = outcome.job.photos
    for number, file in enumerate(photos):
        width, height = outcome.sizes[number] if outcome.sizes else (None, None)
        level = outcome.noise_level
        yield {
            "input": str(file.input),
            "output": str(file.output),
            "width": width,
            "height": height,
            "seconds": {k: round(s / len(photos), 4) for k, s in outcome.seconds.items()},
            "error": outcome.error,
            "skipped": outcome.skipped,
            "unchanged": outcome.unchanged,
        } | ({} if level is None else {"noise_level": level})


def _summary(photos: list[dict[str, Any]]) -> dict[str, Any]:
    failed = [photo for photo in photos if photo["error"] is not None]
    restored = [photo for photo in photos if photo["error"] is None and not photo["skipped"]]
    stages = restored[0]["seconds"] if restored else ()
    middle = {k: round(median(photo["seconds"][k] for photo in restored), 4) for k in stages}
    return {
        "restored": len(restored),
        "skipped": len(photos) - len(restored) - len(failed),
        "failed": len(failed),
        "median_seconds": middle,
    }
