"""Which photo of a batch becomes which file, decided before any work."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from refusion.errors import ConfigError, ImageError
from refusion.images.io import IMAGE_SUFFIXES, list_images, visible_files
from refusion.images.unsupported import hint, kind_by_name

logger = logging.getLogger(__name__)

DEFAULT_OUTPUT = Path("results")
_VIEWS = ("_L", "_R")  # ends of the names of a stereo pair


@dataclass(frozen=True)
class PhotoFiles:
    """Files of one photo: read, written, and, if wanted, comparison and map of uncertainty."""

    input: Path
    output: Path
    compare: Path | None = None
    uncertainty: Path | None = None

    @property
    def written(self) -> tuple[Path, ...]:
        """All that is written for the photo."""
        return tuple(filter(None, (self.output, self.compare, self.uncertainty)))


@dataclass(frozen=True)
class Job:
    """Photos restored together: one, or the left and the right view of a stereo pair."""

    photos: tuple[PhotoFiles, ...]

    @property
    def is_done(self) -> bool:
        """Whether every file that it writes is there; files are written whole or not at all."""
        return all(path.is_file() for file in self.photos for path in file.written)


def plan_jobs(
    inputs: Sequence[str | Path],
    output: str | Path | None = None,
    *,
    views: int = 1,
    recursive: bool = True,
    compare: bool = False,
    uncertainty: str | Path | None = None,
) -> list[Job]:
    """Decide which files are read and written.

    Args:
        inputs: files and folders. A path that does not exist becomes a job too, whose reading
            then fails. Folders are searched for images, sub-folders are kept in the output.
        output: folder, None for `results`; or the name of an image file if the input is one file.
        views: of the restorer; for 2, NAME_L and NAME_R with the same ending become one job, and
            so do two files given, left then right. A view alone is a job that fails.
        recursive: search the folders' sub-folders.
        compare: also write NAME_compare.png with input and result side by side.
        uncertainty: also write maps of uncertainty: folder for NAME_uncertainty.png, laid out
            like the output; or the name of a PNG file if the input is one file.

    Raises:
        ConfigError: two jobs would write the same file, or one would overwrite an input.
        ImageError: no input at all.
    """
    paths = [Path(path) for path in inputs]
    target = DEFAULT_OUTPUT if output is None else Path(output)
    maps = None if uncertainty is None else Path(uncertainty)
    if _names_one_file("output", target, paths):
        root, pairs = target.parent, {(paths[0], target): None}
    else:
        root, made = target, [place for place in (target, maps) if place is not None]
        found = [pair for path in paths for pair in _pairs(path, target, made, recursive)]
        pairs = dict.fromkeys(found)  # each once
    if not pairs:
        raise ImageError(f"input: no images in {', '.join(map(str, paths)) or 'an empty list'}")
    is_one_map = maps is not None and _names_one_file("uncertainty", maps, paths)
    if is_one_map and maps.suffix.lower() != ".png":
        raise ConfigError(f"uncertainty: '{maps}': a map is a 16-bit PNG, name a .png file")

    def files_of(source: Path, result: Path) -> PhotoFiles:
        resize_like = result.with_name(f"{result.stem}_compare.png") if compare else None
        if maps is None or is_one_map:
            return PhotoFiles(source, result, resize_like, maps)
        place = maps / result.relative_to(root).parent
        return PhotoFiles(source, result, resize_like, place / f"{result.stem}_uncertainty.png")

    files = [files_of(*pair) for pair in pairs]
    _check_outputs(files)
    if views == 1:
        return [Job((file,)) for file in files]
    jobs = _paired(files)
    both_given = len(paths) == len(files) == 2 and not any(path.is_dir() for path in paths)
    return [Job(tuple(files))] if both_given and len(jobs) == 2 else jobs


def split_jobs(weights: Sequence[int], shares: int) -> list[list[int]]:
    """Divide jobs among processes so that all have about the same to do.

    The heaviest first, each to whoever has least (Graham 1969): no share exceeds the mean by more
    than the heaviest job. Who gets what follows from the arguments alone.

    Args:
        weights: what each job weighs, such as its pixels.
        shares: number of processes.

    Returns:
        Numbers of the jobs of each process, ascending; every job is in one share.

    >>> split_jobs([1, 5, 2, 3], 2)
    [[0, 1], [2, 3]]
    """
    loads, jobs = [0] * shares, [[] for _ in range(shares)]
    for number in sorted(range(len(weights)), key=lambda number: -weights[number]):
        # Of equal loads the one with fewer jobs, so that jobs without weight are divided too.
        least = min(range(shares), key=lambda share: (loads[share], len(jobs[share])))
        loads[least] += weights[number]
        jobs[least].append(number)
    return [sorted(share) for share in jobs]


def _names_one_file(option: str, target: Path, inputs: list[Path]) -> bool:
    """Whether an option names an image file rather than a folder; refused for several inputs."""
    if target.is_dir():
        return False
    if kind_by_name(target) is not None and len(inputs) == 1 and not inputs[0].is_dir():
        raise ConfigError(f"{option}: '{target}': results are {', '.join(IMAGE_SUFFIXES)}")
    if target.suffix.lower() not in IMAGE_SUFFIXES:
        return False
    if len(inputs) != 1 or inputs[0].is_dir():
        raise ConfigError(f"{option}: '{target}' names one file for several inputs; give a folder")
    return True


def _pairs(
    path: Path, target: Path, made: Sequence[Path], recursive: bool
) -> list[tuple[Path, Path]]:
    """Input and output of every photo behind one input path, but for the folders `made` by runs."""
    if not path.is_dir():
        return [(path, target / path.name)]
    try:
        _say_left_out(path, recursive)
        found = list_images(path, recursive=recursive)
    except (ImageError, OSError) as error:
        logger.warning("%s", error)
        return []
    # Results of an earlier run inside the input folder are not to be restored again.
    for results in {place.resolve() for place in made} - {path.resolve()}:
        found = [file for file in found if not file.resolve().is_relative_to(results)]
    return [(file, target / file.relative_to(path)) for file in found]


def _say_left_out(folder: Path, recursive: bool) -> None:
    """Warn of photos in a folder that are of a kind that is not read."""
    kinds = Counter(filter(None, map(kind_by_name, visible_files(folder, recursive))))
    for kind, count in kinds.items():
        logger.warning("%s: %d left out: %s", folder, count, hint(kind))


def _paired(files: Iterable[PhotoFiles]) -> list[Job]:
    """Left and right view of each scene in one job, a view without partner in one of its own."""
    scenes: dict[object, dict[str, PhotoFiles]] = {}
    for file in files:
        source = file.input
        view = next((end for end in _VIEWS if source.stem.endswith(end)), "")
        name = source.stem.removesuffix(view)
        scene = (source.parent, name, source.suffix, file.output.parent, bool(view))
        scenes.setdefault(scene, {})[view] = file
    return [
        Job(tuple(scene[view] for view in (*_VIEWS, "") if view in scene))
        for scene in scenes.values()
    ]


def _check_outputs(files: Sequence[PhotoFiles]) -> None:
    sources = {_identity(file.input): file.input for file in files}
    writers: dict[object, Path] = {}
    for file in files:
        for path in file.written:
            key = _identity(path)
            if key in sources:
                raise ConfigError(
                    f"output: '{path}' would overwrite the input '{sources[key]}'; "
                    "choose another folder with --output"
                )
            if key in writers:
                raise ConfigError(
                    f"output: '{writers[key]}' and '{file.input}' would both become '{path}'; "
                    "rename one or restore them in separate runs"
                )
            writers[key] = file.input


def _identity(path: Path) -> object:
    """Equal for two names of one file, links included."""
    try:
        stat = path.stat()
    except OSError:
        return path.resolve()
    return stat.st_dev, stat.st_ino
