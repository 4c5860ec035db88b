"""Plans a batch: decides before any work which files are read and written."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from refusion.batch.result_names import check_packages, distinct, result_name
from refusion.batch.searching import Searching
from refusion.errors import ConfigError, ImageError
from refusion.files import ignores_case, same_name
from refusion.images.listing import FORMATS, READ, READ_ONLY, USUAL_SUFFIXES, scan_folder
from refusion.images.unsupported import kind_by_name

logger = logging.getLogger(__name__)

DEFAULT_OUTPUT = Path("results")
_VIEWS = ("_L", "_R")  # suffixes of the file names of a stereo pair


class _Map(NamedTuple):
    """How the files of a kind of map are named, and the message about other types."""

    name: str
    suffixes: tuple[str, ...]
    expected: str


_MAPS = {
    "uncertainty": _Map("uncertainty", (".png",), "a map is a 16-bit PNG, name a .png file"),
    "haze_map": _Map(
        "haze",
        (".png", ".tif", ".tiff"),
        "a map is a 16-bit PNG or TIFF, name a .png or .tif file",
    ),
}


@dataclass(frozen=True)
class PhotoFiles:
    """Files of one photo.

    Attributes:
        input: photo to read.
        output: restored photo to write.
        compare: comparison of input and result to write; None for none.
        uncertainty: uncertainty map to write; None for none.
        haze_map: map of the haze to write; None for none.
    """

    input: Path
    output: Path
    compare: Path | None = None
    uncertainty: Path | None = None
    haze_map: Path | None = None

    @property
    def written(self) -> tuple[Path, ...]:
        """All files that are written for the photo."""
        return tuple(filter(None, (self.output, self.compare, self.uncertainty, self.haze_map)))


@dataclass(frozen=True)
class Job:
    """Photos that are restored together.

    Attributes:
        photos: one photo, or the left and the right view of a stereo pair.
    """

    photos: tuple[PhotoFiles, ...]

    @property
    def is_done(self) -> bool:
        """Whether all output files exist; there are no partial files, see `run_jobs`."""
        return all(path.is_file() for file in self.photos for path in file.written)


def plan_jobs(
    inputs: Sequence[str | Path],
    output: str | Path | None = None,
    *,
    views: int = 1,
    recursive: bool = True,
    compare: bool = False,
    uncertainty: str | Path | None = None,
    haze_map: str | Path | None = None,
    rename: Callable[[Path], Path] | None = None,
    searching: Searching | None = None,
) -> list[Job]:
    """Decide which files are read and written.

    Args:
        inputs: files and folders. Folders are searched for images, and the output has the same
            sub-folders. A path that does not exist becomes a job that fails when it is read.
        output: folder for the results, None for `results`; or the name of an image file if the
            input is one file.
        views: number of views that the restorer takes. For 2, NAME_L and NAME_R with the same file
            type become one job, and so do two given files, left then right. A view without the
            other becomes a job that fails.
        recursive: also search sub-folders.
        compare: also write NAME_compare.png with input and result side by side.
        uncertainty: also write uncertainty maps: folder for NAME_uncertainty.png, with the
            sub-folders of the output; or the name of a PNG file if the input is one file.
        haze_map: also write maps of the haze: folder for NAME_haze.png, in the same way; or the
            name of a PNG or TIFF file if the input is one file.
        rename: gives the name of a result in a folder from that of its photo; None for the same
            name (NAME.jpg for HEIC, NAME.tif for camera raw). A photo that is the result of another
            one is left out. `output` must then be a folder.
        searching: is called while folders are searched.

    Returns:
        The jobs in the order of the inputs; the files of a folder are sorted by name.

    Raises:
        ConfigError: two jobs would write the same file, or a job would overwrite an input.
        ImageError: there is no input.
    """
    paths = [Path(path) for path in inputs]
    target = DEFAULT_OUTPUT if output is None else Path(output)
    maps = {
        key: Path(place)
        for key, place in {"uncertainty": uncertainty, "haze_map": haze_map}.items()
        if place is not None
    }
    if _names_one_file("output", target, paths):
        if rename is not None:
            raise ConfigError(f"output: '{target}' names the file; leave out --format and --suffix")
        root, pairs = target.parent, {(paths[0], target): None}
    else:
        root, results = target, [target, *maps.values()]
        found = [pair for path in paths
                 for pair in _pairs(path, target, results, recursive, searching)]  # fmt: skip
        if rename is not None:
            found = _renamed(found, rename)
        pairs = dict.fromkeys(distinct(found))  # without repetitions
    if not pairs:
        raise ImageError(f"input: no images in {', '.join(map(str, paths)) or 'an empty list'}")
    check_packages(pairs)
    single = {key: _names_one_map(key, place, paths) for key, place in maps.items()}

    def files_of(source: Path, result: Path) -> PhotoFiles:
        comparison = result.with_name(f"{result.stem}_compare.png") if compare else None
        below = result.relative_to(root).parent
        found = {
            key: place if single[key] else place / below / f"{result.stem}_{_MAPS[key].name}.png"
            for key, place in maps.items()
        }
        return PhotoFiles(source, result, comparison, **found)

    files = [files_of(*pair) for pair in pairs]
    _check_outputs(files)
    if views == 1:
        return [Job((file,)) for file in files]
    jobs = _stereo_jobs(files)
    both_given = len(paths) == len(files) == 2 and not any(_is_folder(path) for path in paths)
    return [Job(tuple(files))] if both_given and len(jobs) == 2 else jobs


def split_jobs(weights: Sequence[int], shares: int) -> list[list[int]]:
    """Divide jobs among processes with about equal total weights.

    Longest processing time first (Graham 1969): the heaviest remaining job goes to the process with
    the smallest load. No load exceeds the mean by more than the heaviest job. The result depends on
    the arguments alone.

    Args:
        weights: weight of each job, for example its pixels.
        shares: number of processes.

    Returns:
        Indices of the jobs of each process, ascending; each job belongs to one process.

    >>> split_jobs([1, 5, 2, 3], 2)
    [[0, 1], [2, 3]]
    """
    loads, jobs = [0] * shares, [[] for _ in range(shares)]
    for number in sorted(range(len(weights)), key=lambda number: -weights[number]):
        # Ties are broken by the number of jobs, so that jobs with weight 0 are divided, too.
        least = min(range(shares), key=lambda share: (loads[share], len(jobs[share])))
        loads[least] += weights[number]
        jobs[least].append(number)
    return [sorted(share) for share in jobs]


def _names_one_file(option: str, target: Path, inputs: list[Path]) -> bool:
    """Whether an option names an image file, not a folder.

    Raises:
        ConfigError: the file has an unsupported type, or there are several inputs.
    """
    if _is_folder(target):
        return False
    is_one = len(inputs) == 1 and not _is_folder(inputs[0])
    if is_one and (kind_by_name(target) is not None or target.suffix.lower() in READ_ONLY):
        raise ConfigError(f"{option}: '{target}': results are {USUAL_SUFFIXES}")
    if target.suffix.lower() not in FORMATS:
        return False
    if not is_one:
        raise ConfigError(f"{option}: '{target}' names one file for several inputs; give a folder")
    return True


def _names_one_map(key: str, target: Path, inputs: list[Path]) -> bool:
    """Whether an option names the file of a map, not a folder; `key` is one of `_MAPS`.

    Raises:
        ConfigError: as `_names_one_file`, or the file has a type that maps do not have.
    """
    kind = _MAPS[key]
    if not _names_one_file(key.replace("_", " "), target, inputs):
        return False
    if target.suffix.lower() not in kind.suffixes:
        raise ConfigError(f"{key.replace('_', ' ')}: '{target}': {kind.expected}")
    return True


def _pairs(
    path: Path,
    target: Path,
    results: Sequence[Path],
    recursive: bool,
    searching: Searching | None,
) -> list[tuple[Path, Path]]:
    """Input and output file of every photo in one input path, except in the folders `results`."""
    if not _is_folder(path):
        return [(path, result_name(target / path.name))]
    try:
        listing = scan_folder(path, recursive=recursive, searching=searching)
    except OSError as error:
        logger.warning("%s: cannot be listed (%s)", path, error.strerror)
        return []
    for reason, count in listing.left_out.items():
        logger.warning("%s: %d left out: %s", path, count, reason)
    found = listing.images
    if not found:
        logger.warning("%s: no images in it (%s)", path, READ)
    # The input folder can contain results of an earlier run, which are not restored again.
    for folder in {folder.resolve() for folder in results} - {path.resolve()}:
        found = [file for file in found if not file.resolve().is_relative_to(folder)]
    return [(file, result_name(target / file.relative_to(path))) for file in found]


def _renamed(
    pairs: Sequence[tuple[Path, Path]], rename: Callable[[Path], Path]
) -> list[tuple[Path, Path]]:
    """Input and renamed output files, without inputs that are results of other inputs.

    So a command that writes its results beside the photos can be given again.
    """
    renamed = [(source, rename(result)) for source, result in pairs]
    made = {result for _, result in renamed}
    return [
        (source, result) for source, result in renamed if source == result or source not in made
    ]


def _stereo_jobs(files: Iterable[PhotoFiles]) -> list[Job]:
    """One job for the two views of each scene; a view without the other has its own job."""
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
    """Check that no output file is an input or is written twice."""
    sources = {_identity(file.input): file.input for file in files}
    writers: dict[object, Path] = {}
    for file in files:
        for path in file.written:
            key = _identity(path)
            if key in sources:
                option = next((name for name in _MAPS if getattr(file, name) == path), "output")
                advice = f"another place with --{option.replace('_', '-')}"
                raise ConfigError(
                    f"{option.replace('_', ' ')}: '{path}' would overwrite the input "
                    f"'{sources[key]}'; choose {advice}"
                )
            if key in writers:
                raise ConfigError(
                    f"output: '{writers[key]}' and '{file.input}' would both become '{path}'; "
                    "rename one or restore them in separate runs"
                )
            writers[key] = file.input


def _identity(path: Path) -> object:
    """Key of a file; two paths of the same file, also by links, have equal keys.

    Paths of a file that does not exist yet have equal keys, too: where the system ignores case,
    IMG.jpg and img.jpg become one file.
    """
    try:
        stat = path.stat()
    except (OSError, ValueError):
        pass
    else:
        return stat.st_dev, stat.st_ino
    try:
        place = os.path.realpath(path)  # `Path.resolve` refuses a link that points at itself
        return same_name(place) if ignores_case(Path(place).parent) else place
    except (OSError, ValueError):  # not a possible name of a file
        return str(path)


def _is_folder(path: Path) -> bool:
    """Whether a path is a folder; no for a path that is too long or not readable."""
    return os.path.isdir(path)  # noqa: PTH112 (Path.is_dir raises an error for these)
