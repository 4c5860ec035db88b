"""Which files a run of `refusion test` writes."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from refusion.errors import ConfigError
from refusion.evaluation.entry import Entry
from refusion.evaluation.result_files import make_folder
from refusion.evaluation.sets import EvaluationSet
from refusion.files import check_replaceable


@dataclass(frozen=True)
class Outputs:
    """Files of a run; None means that the file is not written.

    Attributes:
        folder: the restored photos are written below it.
        json: all scores, and what is needed to compute them again.
        csv: a line for each photo and method.
        html: a page with a slider over each photo; needs `folder`.
        beside: folders of pictures that the page shows beside photos of the same name, by title.
        entry: an entry to a challenge; needs `folder`.
    """

    folder: Path | None = None
    json: Path | None = None
    csv: Path | None = None
    html: Path | None = None
    beside: Mapping[str, Path] = field(default_factory=dict)
    entry: Entry | None = None

    def prepare(self, sets: Iterable[EvaluationSet]) -> None:
        """Check, before photos are restored, that the files can be written; create their folders.

        Args:
            sets: all sets of the run.

        Raises:
            ConfigError: `folder` lies among the photos of a set, a folder cannot be created, or a
                file name is the name of a folder, a pipe, a socket or a device.
        """
        for folder in self.beside.values():
            if not folder.is_dir():
                raise ConfigError(f"--beside: folder '{folder}' does not exist; correct the path")
        for source in (source for chosen in sets for source in chosen.sources):
            if self.folder and _is_inside(self.folder, source):
                raise ConfigError(
                    f"--output: '{self.folder}' lies in '{source}', whose photos are read; "
                    "choose another folder"
                )
        if self.folder:
            make_folder("--output", self.folder)
        submit = self.entry.path if self.entry else None
        files = {"--json": self.json, "--csv": self.csv, "--html": self.html, "--submit": submit}
        for option, path in files.items():
            if path:
                make_folder(option, path.parent)
                _check_file(option, path)


def _is_inside(folder: Path, source: Path) -> bool:
    # `Path.resolve` refuses a link that points at itself.
    return Path(os.path.realpath(folder)).is_relative_to(os.path.realpath(source))


def _check_file(option: str, path: Path) -> None:
    try:
        check_replaceable(path)
    except OSError as error:
        raise ConfigError(f"{option}: '{path}': {error.strerror}") from error
