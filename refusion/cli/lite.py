"""`refusion-lite`: restores photos with ONNX files, without PyTorch."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from refusion.batch.plan import Job, PhotoFiles, plan_jobs
from refusion.batch.searching import SearchLines
from refusion.cli.common import (
    EXIT_INTERRUPTED,
    Parser,
    complain,
    errors_to_exit_codes,
    show,
    sigterm_as_interrupt,
)
from refusion.cli.log_lines import LineFormatter
from refusion.cli.options.haze import add_haze_options, add_strength_option, chosen_haze
from refusion.cli.options.limits import add_limit_options, memory_limit
from refusion.cli.options.noise import add_noise_option, noise_std_of
from refusion.cli.options.results import add_file_options, check_existing, renaming
from refusion.cli.options.values import integer, whole_between
from refusion.cli.summary import notes, photos_text
from refusion.cli.uninterrupted import signals_wait
from refusion.errors import ConfigError, ImageError
from refusion.failures import describe_failure
from refusion.files import may_exist
from refusion.haze_options import HazeOptions
from refusion.memory import process_bytes

if TYPE_CHECKING:
    import numpy as np

    from refusion.runtime import OnnxModel

EXIT_INCOMPLETE = 1
ENGINES = ("auto", "onnxruntime", "openvino")
"""Values of --engine, not imported from `refusion.runtime`, so that --help does not import it."""
_MOST_THREADS = 1024


@errors_to_exit_codes
def main(argv: list[str] | None = None) -> int:
    """Entry point of `refusion-lite`: restore photos.

    Args:
        argv: arguments after the name of the program; None for `sys.argv[1:]`.

    Returns:
        0 if all photos were restored, 1 if some failed (stderr names each; the others are
        restored), 2 for wrong usage, 130 after Ctrl-C or SIGTERM.
    """
    handler, logger = logging.StreamHandler(), logging.getLogger("refusion")
    handler.setFormatter(LineFormatter("refusion: warning: %(message)s"))
    logger.addHandler(handler)
    try:
        with sigterm_as_interrupt():
            return run(argv)
    finally:
        logger.removeHandler(handler)


def run(argv: list[str] | None) -> int:
    """Restore the photos named by the arguments; see `main`.

    Raises:
        RefusionError: there is no input or no model, an option is wrong, or the package of the
            engine is missing.
    """
    parser = build_parser()
    options = parser.parse_intermixed_args(argv)
    if not options.model:
        parser.error("the model has an empty name; name a task or an ONNX file")
    if "" in options.photos:
        parser.error("a photo has an empty name; name photos or folders of photos")
    from refusion.runtime import find_model, load_model

    path, limit = find_model(options.model), memory_limit(options)
    jobs = plan_jobs(
        options.photos,
        options.output,
        haze_map=options.haze_map,
        rename=renaming(options),
        searching=None if options.quiet else SearchLines(),
    )
    if not any(may_exist(job.photos[0].input) for job in jobs):
        raise ImageError(f"{jobs[0].photos[0].input}: no such file; correct the path")
    check_existing(jobs, options)
    # An interrupt of an import could leave the other one waiting for it without end.
    with signals_wait(), _imported_meanwhile("refusion.images.io"):
        model = load_model(path, threads=options.threads, engine=options.engine)
    return _restore_all(jobs, model, _how(options, model, limit), options)


@dataclass(frozen=True)
class _How:
    """How every photo is restored; the values are those of `OnnxModel.restore`."""

    strength: float
    seed: int
    haze: HazeOptions
    noise_std: float | None
    quality: int | None
    max_pixels: int | None
    max_memory: int | None


def _how(options: argparse.Namespace, model: OnnxModel, limit: int | None) -> _How:
    """The checked options.

    Raises:
        ConfigError: the model does not use an option, or a value is out of its range.
    """
    low, high = model.strengths
    if not low <= options.strength <= high:
        raise ConfigError(
            f"--strength: expected {low:g}..{high:g} for '{model.task}', got {options.strength:g}"
        )
    if options.noise_level is not None and model.largest_noise is None:
        raise ConfigError(f"--noise-level: the '{model.task}' model does not use it")
    haze = chosen_haze(options, model.task, predicts_haze=model.predicts_haze)
    how = _How(options.strength, options.seed, haze, noise_std_of(options), options.quality,
               options.max_pixels, limit)  # fmt: skip
    model.check(how.strength, how.haze, how.noise_std)
    return how


@contextlib.contextmanager
def _imported_meanwhile(module: str) -> Iterator[None]:
    """Import a module in a thread, while the main one loads a graph and does not run Python.

    An error is not shown; the import where the module is used raises it again.
    """

    def load() -> None:
        with contextlib.suppress(Exception):
            import_module(module)

    thread = threading.Thread(target=load)
    thread.start()
    try:
        yield
    finally:
        thread.join()


def build_parser() -> argparse.ArgumentParser:
    """Define the options of the command."""
    parser = Parser(
        prog="refusion-lite",
        description="Restore photos of any size without PyTorch: 'refusion-lite "
        "dehaze photo.jpg' writes results/photo.jpg. The result is that of 'refusion dehaze' in "
        "float32 up to rounding.",
        epilog="Exit code: 0 all restored, 1 some photos failed, 2 wrong usage, 130 interrupted. "
        "Needs the package onnxruntime (pip install 'refusion[onnx]') or openvino.",
    )
    add = parser.add_argument
    add(
        "model",
        metavar="TASK|FILE.onnx",
        help="dehaze, deshadow, denoise or blind, or a file of refusion export",
    )
    add("photos", nargs="+", metavar="PHOTO", help="photos or folders of photos")
    add(
        "--output",
        metavar="FILE|DIR",
        help="folder for the results (default: results), or a file if the input is one file",
    )
    add_strength_option(add, None)
    add("--seed", type=integer, default=0, metavar="N", help="seed of the noise (default: 0)")
    add_noise_option(add)
    add_haze_options(parser.add_argument_group("haze").add_argument)
    add_file_options(add)
    add(
        "--engine",
        choices=ENGINES,
        default="auto",
        help="package that runs the model (default: auto, the fastest one that is installed)",
    )
    add(
        "--threads",
        type=_threads,
        metavar="N",
        help="number of threads (default: one per core)",
    )
    add_limit_options(add)
    add("--quiet", action="store_true", help="show errors only")
    return parser


def _threads(text: str) -> int:
    """Option type: a number of threads."""
    return whole_between(text, 1, _MOST_THREADS)


def _restore_all(
    jobs: Sequence[Job], model: OnnxModel, how: _How, options: argparse.Namespace
) -> int:
    start, done, counts = time.monotonic(), [], Counter()
    try:
        for job in jobs:
            (files,) = job.photos
            is_kept = options.overwrite == "never" and job.is_done
            outcome = "skipped" if is_kept else _outcome(files, model, how)
            counts[outcome] += 1
            if outcome in ("restored", "unchanged"):
                done.append(files.output)
    except KeyboardInterrupt:
        complain(f"interrupted after {counts.total()} of {len(jobs)}")
        return EXIT_INTERRUPTED
    if not options.quiet:
        _summarize(done, time.monotonic() - start)
        show(*notes(counts["unchanged"], counts["skipped"], model.task))
    return EXIT_INCOMPLETE if counts["failed"] else 0


def _outcome(files: PhotoFiles, model: OnnxModel, how: _How) -> str:
    """Restore one photo; an error is one line and does not stop the others.

    Returns:
        'restored', 'unchanged' or 'failed'.
    """
    try:
        return "unchanged" if _restore(files, model, how) else "restored"
    except Exception as error:
        text = describe_failure(error).text
        named = text if str(files.input) in text or str(files.output) in text else None
        complain(f"failed: {named or f'{files.input}: {text}'}")
        return "failed"


def _restore(files: PhotoFiles, model: OnnxModel, how: _How) -> bool:
    """Restore one photo; whether the model found nothing to restore."""
    import numpy as np

    from refusion.batch.result_memory import check_result_memory
    from refusion.images.io import MAX_PIXELS, check_place, read_arrays, write_image

    limit = how.max_memory
    left = None if limit is None else limit - process_bytes()
    photo = read_arrays(files.input, max_pixels=how.max_pixels or MAX_PIXELS, max_memory=left)
    height, width = photo.samples.shape[1:]
    check_place(files.output, photo, width, height)  # before the restoration, which takes long
    if files.haze_map is not None:
        check_place(files.haze_map, None, 1, 1)
    if limit is not None:
        check_result_memory([files], [photo], limit - process_bytes())
        model = model.within(limit, photo.samples)
    restored, amount = _result(photo.samples, model, how, is_mapped=files.haze_map is not None)
    if how.quality is not None:
        photo = replace(photo, quality=how.quality)
    write_image(files.output, restored, photo)
    if files.haze_map is not None:
        from refusion.images.gray_map import write_haze_map

        write_haze_map(files.haze_map, amount)
    return how.strength != 0 and np.array_equal(restored, photo.samples)


def _result(
    samples: np.ndarray, model: OnnxModel, how: _How, *, is_mapped: bool
) -> tuple[np.ndarray, np.ndarray | None]:
    """The restored photo, and the amount of haze for a map, from one run of the network."""
    if is_mapped:
        found = model.decompose(samples)
        return found.clear(samples, how.strength, how.haze), found.amount(samples)
    options = {"haze": how.haze, "noise_std": how.noise_std}
    return model.restore(samples, how.strength, how.seed, **options), None


def _summarize(done: Sequence[Path], seconds: float) -> None:
    if done:
        place = done[0] if len(done) == 1 else Path(os.path.commonpath([p.parent for p in done]))
        end = os.sep if len(done) > 1 else ""
        show(f"{photos_text(len(done))} restored in {seconds:.1f} s: {place}{end}")
