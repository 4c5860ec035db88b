"""Files of restored photos, and the progress file from which an interrupted run continues."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refusion.errors import ConfigError
from refusion.files import atomic_write, open_for_append, open_regular

if TYPE_CHECKING:  # these import torch, which `refusion test --help` does not need
    from torch import Tensor

    from refusion.evaluation.scoring import Score

PROGRESS = ".unfinished.jsonl"  # in the folder of the set, until the run is complete
_LINE = 1 << 20  # bytes of the longest line of it


class ResultFiles:
    """Names and writes the files of restored photos, in the order of the set.

    Args:
        folder: of the restored photos of the set.
        names: names of the photos that are written already.
    """

    def __init__(self, folder: Path, names: Iterable[str] = ()) -> None:
        self._folder, self._names = folder, Counter(names)

    def next_path(self, name: str) -> Path:
        """Path without suffix for the next photo; two photos of one name get different paths."""
        self._names[name] += 1
        again = f"_{self._names[name]}" if self._names[name] > 1 else ""
        return self._folder / f"{name}{again}"

    def write(self, name: str, restored: Tensor) -> None:
        """Write a photo as PNG, or both views of a stereo pair as two.

        Args:
            name: of the photo; a sub-folder in it is created.
            restored: shape (3, H, W), or (6, H, W) for a pair, float in [0, 1].

        Raises:
            ConfigError: the folder cannot be created.
            ImageError: the file cannot be written.
        """
        from refusion.images.io import write_image

        path = self.next_path(name)
        make_folder("--output", path.parent)
        views = restored.split(3)
        for view, file in zip(views, _view_files(path, len(views)), strict=True):
            write_image(file, view)


def written_files(folder: Path, names: Iterable[str]) -> list[list[Path]]:
    """Files of the restored photos of a set: one per photo, two per stereo pair.

    Args:
        folder: of the restored photos.
        names: of all photos, in the order of the set.

    Returns:
        For each photo its files; an empty list if they do not exist.
    """
    files = ResultFiles(folder)
    return [_existing_files(files.next_path(name)) for name in names]


def _existing_files(path: Path) -> list[Path]:
    """The files that `ResultFiles.write` wrote for a path; empty if they do not exist."""
    for views in (1, 2):
        files = _view_files(path, views)
        if all(map(os.path.isfile, files)):  # `Path.is_file` raises an error for long names
            return files
    return []


def _view_files(path: Path, views: int) -> list[Path]:
    return [
        path.with_name(f"{path.name}{end}.png") for end in (("",) if views == 1 else ["_L", "_R"])
    ]


def make_folder(option: str, folder: Path) -> None:
    """Create a folder and its parents; an existing folder is left as it is.

    Args:
        option: of the command, named in the error.
        folder: to create.

    Raises:
        ConfigError: the folder cannot be created.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise ConfigError(f"{option}: '{folder}' is a file, expected a folder") from error
    except OSError as error:
        raise ConfigError(f"{option}: no folder '{folder}': {error.strerror}") from error
    except ValueError as error:  # a null character, or half of a surrogate pair
        raise ConfigError(f"{option}: '{folder}' is not a possible name of a folder") from error


class ProgressFile:
    """Scores of the photos that are finished, one JSON line each.

    The first line is the fingerprint of the run. A progress file with another fingerprint (other
    weights, options or photos) is replaced.

    Args:
        folder: of the restored photos of the set; it is created.
        fingerprint: everything that the scores depend on, JSON values.

    Attributes:
        done: scores by index, of the first photos whose files exist.

    Raises:
        ConfigError: the folder cannot be created, or the file cannot be read or written.
    """

    def __init__(self, folder: Path, fingerprint: Mapping[str, Any]) -> None:
        self._path = folder / PROGRESS
        self._head = json.dumps(fingerprint, sort_keys=True)
        make_folder("--output", folder)
        with _errors_of(self._path):
            self.done = self._read(folder)
            lines = [self._head, *map(_line, self.done.values())]
            with atomic_write(self._path) as aside:
                aside.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")

    def add(self, score: Score) -> None:
        """Append the score of the next photo."""
        with _errors_of(self._path), open_for_append(self._path) as file:
            file.write(f"{_line(score)}\n".encode())

    def remove(self) -> None:
        """Delete the file, as the run is complete; the next run restores all photos."""
        self._path.unlink(missing_ok=True)

    def _read(self, folder: Path) -> dict[int, Score]:
        done: dict[int, Score] = {}
        if not self._path.is_file():
            return done
        head, files = f"{self._head}\n".encode(), ResultFiles(folder)
        with open_regular(self._path) as file:
            if file.readline(len(head)) != head:
                return done
            while line := file.readline(_LINE):
                score = _score(line)
                if score is None or not _existing_files(files.next_path(score.name)):
                    break
                done[len(done)] = score
        return done


@contextlib.contextmanager
def _errors_of(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ConfigError(f"--output: '{path}': {error.strerror}") from error


def _score(line: bytes) -> Score | None:
    """The score in a line; None if an interrupt cut the line off, or somebody else wrote it."""
    from refusion.evaluation.scoring import Score

    try:
        score = Score(**json.loads(line))
        return score if _is_valid(score) else None
    except (ValueError, TypeError, AttributeError, RecursionError):
        return None


def _is_valid(score: Score) -> bool:
    """Whether the name stays in the folder and the values are such as a run writes."""
    path, methods = Path(score.name), score.methods.values()
    return (
        bool(path.name)
        and not path.is_absolute()
        and ".." not in path.parts
        and all(0 <= time < math.inf for time in (score.seconds, score.io_seconds))
        and all(isinstance(value, float) for values in methods for value in values.values())
        and score.input.keys() >= score.result.keys()
    )


def _line(score: Score) -> str:
    return json.dumps(dataclasses.asdict(score))  # Infinity is not JSON, but `json.loads` reads it
