"""Where `refusion test` puts restored photos, and how a run goes on that was interrupted."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refusion.errors import ConfigError
from refusion.files import atomic_write

if TYPE_CHECKING:  # these import torch, for which --help must not wait
    from torch import Tensor

    from refusion.evaluation.scoring import Score

PROGRESS = ".unfinished.jsonl"  # in the set's folder, while the run is not done


class ResultFiles:
    """Names of the files of restored photos, one after the other.

    Args:
        folder: of the set.
        names: of the photos that were written before.
    """

    def __init__(self, folder: Path, names: Iterable[str] = ()) -> None:
        self._folder, self._names = folder, Counter(names)

    def next_path(self, name: str) -> Path:
        """Path, without its ending, for the next photo of this name: folders may share names."""
        self._names[name] += 1
        again = f"_{self._names[name]}" if self._names[name] > 1 else ""
        return self._folder / f"{name}{again}"

    def write(self, name: str, restored: Tensor) -> None:
        """Write a photo (3, H, W), or both views of a pair (6, H, W), as PNG."""
        from refusion.images.io import write_image

        path = self.next_path(name)
        make_folder("--output", path.parent)
        views = restored.split(3)
        for view, file in zip(views, _files(path, len(views)), strict=True):
            write_image(file, view)


def files_at(path: Path) -> list[Path]:
    """The files that `ResultFiles.write` made of a path: one, or two of a pair; none if absent."""
    for views in (1, 2):
        files = _files(path, views)
        if all(file.is_file() for file in files):
            return files
    return []


def _files(path: Path, views: int) -> list[Path]:
    return [
        path.with_name(f"{path.name}{end}.png") for end in (("",) if views == 1 else ["_L", "_R"])
    ]


def make_folder(option: str, folder: Path) -> None:
    """Create a folder.

    Raises:
        ConfigError: it cannot be; names the option that asked for it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{option}: no folder '{folder}': {error.strerror}") from error


class ProgressFile:
    """Scores of the photos done so far, one JSON line each, so that the same command goes on.

    The first line says what the numbers depend on. A file of other weights, options or photos is
    replaced.

    Args:
        folder: of the set, where the restored photos are.
        run: what the numbers depend on, JSON values.

    Attributes:
        done: scores by index, of the first photos whose files are there.
    """

    def __init__(self, folder: Path, run: Mapping[str, Any]) -> None:
        self._path = folder / PROGRESS
        self._head = json.dumps(run, sort_keys=True)
        self.done = self._read(folder)
        make_folder("--output", folder)
        lines = [self._head, *map(_line, self.done.values())]
        with atomic_write(self._path) as aside:
            aside.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")

    def add(self, score: Score) -> None:
        """Note that the next photo is done."""
        with self._path.open("a", encoding="utf-8") as file:
            file.write(f"{_line(score)}\n")

    def remove(self) -> None:
        """The run is done: the next one begins anew."""
        self._path.unlink(missing_ok=True)

    def _read(self, folder: Path) -> dict[int, Score]:
        from refusion.evaluation.scoring import Score

        if not self._path.is_file():
            return {}
        head, *lines = [*self._path.read_text(encoding="utf-8").splitlines(), ""][:-1] or [""]
        if head != self._head:
            return {}
        done, files = {}, ResultFiles(folder)
        for index, line in enumerate(lines):
            try:
                score = Score(**json.loads(line))
            except (ValueError, TypeError):  # the line that was being written
                break
            if not files_at(files.next_path(score.name)):
                break
            done[index] = score
        return done


def _line(score: Score) -> str:
    return json.dumps(dataclasses.asdict(score))  # with Infinity, which json reads again


def photos_state(folders: Iterable[Path]) -> str:
    """A digest of names, sizes and times of all files below the folders."""
    digest = hashlib.sha256()
    for folder in folders:
        for file in sorted(path for path in folder.rglob("*") if path.is_file()):
            state = file.stat()
            digest.update(repr((str(file), state.st_size, state.st_mtime_ns)).encode())
    return digest.hexdigest()
