"""`refusion restore`: restores photo files."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refusion.batch.plan import Job, plan_jobs
from refusion.batch.searching import SearchLines
from refusion.cli.common import Parser, show
from refusion.cli.options.bokeh import (
    add_bokeh_options,
    check_renderer,
    disparity_maps,
    imitated_lens,
)
from refusion.cli.options.ddrm import add_ddrm_options, chosen_ddrm
from refusion.cli.options.diffbir import add_diffbir_options, chosen_diffbir
from refusion.cli.options.haze import (
    HAZE_TASKS,
    add_haze_options,
    add_same_look_option,
    add_strength_option,
    haze_options,
    look_line,
    with_look_value,
    with_same_look,
)
from refusion.cli.options.limits import add_limit_options, memory_limit
from refusion.cli.options.methods import (
    DEFAULT,
    RENDER,
    add_method_option,
    default_method,
    hide_other_methods,
    refuse_other_options,
)
from refusion.cli.options.model import (
    DEFAULT_TASK,
    add_model_options,
    check_device,
    check_sampler,
    chosen_checkpoint,
    photo_conditions,
    warnings_on_stderr,
)
from refusion.cli.options.osediff import add_osediff_options, chosen_osediff
from refusion.cli.options.results import (
    add_file_options,
    check_existing,
    renaming,
    warn_of_uncertainty,
)
from refusion.cli.options.stable_diffusion import add_sd_options
from refusion.cli.options.values import count
from refusion.config.plugins import import_plugins
from refusion.devices.rank import is_main_process
from refusion.errors import ImageError
from refusion.files import may_exist
from refusion.weights import ABOUT, find_weights

if TYPE_CHECKING:  # these import torch, which is too slow for --help
    from refusion.batch.options import RestoreOptions
    from refusion.restorers import Restorer

DEFAULT_INPUT = "examples"
_FILES = {"photos", "output", "compare", "format", "quality", "suffix", "overwrite"}
BRIEF = _FILES | {"task", "weights", "strength", "quiet"}
"""Keys of the options that `--help` shows for every task; `--help-all` shows all."""

BRIEF_OF_TASK = {
    **{task: {"distance", "exposure", "haze_map", "same_look"} for task in HAZE_TASKS},
    "denoise": {"noise_level"},
    "bokeh": {"aperture", "disparity", "focus"},
}
"""Keys of further options that `--help` shows for a task."""


def run(argv: list[str], task: str | None = None) -> int:
    """Restore the photos named by the arguments.

    Under `torchrun` the processes divide the photos, and the first process reports for all.

    Args:
        argv: arguments of the command.
        task: task that the command names, as `refusion dehaze` does; None for `refusion restore`.

    Returns:
        0 if all photos were restored, 1 if some failed (stderr names each; the others are
        restored), 130 after Ctrl-C or SIGTERM (the completed photos are reported).

    Raises:
        RefusionError: the batch cannot start: there is no input or no model, or an option is wrong.
    """
    parser = build_parser(task)
    end = argv.index("--") if "--" in argv else len(argv)  # parse_intermixed_args fails at it
    options = parser.parse_intermixed_args(with_look_value(argv[:end]))
    options.photos += argv[end + 1 :]
    import_plugins(options.plugin)
    if options.photos and options.input:
        parser.error("--input: the photos are named without it, too; name them once")
    options.input = options.photos or options.input
    if "" in (options.input or ()):
        parser.error("a photo has an empty name; name photos or folders of photos")
    if options.skip_existing and options.overwrite not in (None, "never"):
        parser.error(f"--skip-existing: contradicts --overwrite {options.overwrite}")
    if options.input is None and not Path(DEFAULT_INPUT).is_dir():
        parser.error("name photos or folders of photos")
    with warnings_on_stderr():
        return _restore(options)


def _restore(options: argparse.Namespace) -> int:
    """Check what can be checked before PyTorch is imported, which takes seconds; then restore."""
    check_device(options.device)
    options.method = options.method or default_method(options)
    if options.method == DEFAULT:
        find_weights(options.weights or options.task or DEFAULT_TASK)
    jobs = _jobs(options)
    if not any(may_exist(file.input) for job in jobs for file in job.photos):
        missing = jobs[0].photos[0].input
        others = f", nor any other of {len(jobs)} photos" if len(jobs) > 1 else ""
        raise ImageError(f"{missing}: no such file{others}; correct the path")
    if options.method == RENDER:
        check_renderer(options)
    is_shipped = options.method == DEFAULT and options.weights is None
    if options.method == RENDER or (is_shipped and options.task == "bokeh"):
        imitated_lens(options, _inputs(jobs))
    check_existing(jobs, options)
    warn_of_uncertainty(options)
    from refusion.cli.restore_batch import Reporting, run_batch
    from refusion.devices.processes import join_processes

    with join_processes(options.device) as (world, device):
        source, restorer = _restorer(options, device)
        jobs = jobs if restorer.info.views == 1 else _jobs(options, restorer.info.views)
        settings = _settings(options, restorer, _inputs(jobs))
        settings, look = with_same_look(settings, options, jobs, restorer, world)
        if look and world.is_main and not options.quiet:
            show(look_line(look["look"]))
        head = {} if options.log_file is None else _head(options, source, restorer, world.size)
        reporting = Reporting(options.quiet, options.log_file, head | look)
        return run_batch(jobs, restorer, settings, world, reporting)


def _jobs(options: argparse.Namespace, views: int = 1) -> list[Job]:
    """The files that are read and written."""
    return plan_jobs(
        options.input or [DEFAULT_INPUT],
        options.output,
        views=views,
        recursive=options.recursive,
        compare=options.compare,
        uncertainty=options.uncertainty,
        haze_map=options.haze_map,
        rename=renaming(options),
        searching=_search_lines(options),
    )


def _search_lines(options: argparse.Namespace) -> SearchLines | None:
    if options.quiet or not is_main_process():
        return None
    return SearchLines(", --no-recursive leaves out sub-folders" if options.recursive else "")


def _inputs(jobs: Sequence[Job]) -> list[Path]:
    return [file.input for job in jobs for file in job.photos]


def build_parser(task: str | None = None) -> argparse.ArgumentParser:
    """Define the options of the command.

    Args:
        task: task that the command names; None for all.
    """
    shown = BRIEF_OF_TASK.values() if task is None else [BRIEF_OF_TASK.get(task, set())]
    kinds = "JPEG, PNG, TIFF, WebP, AVIF, HEIC, JPEG XL and camera raw"
    parser = Parser(
        brief=BRIEF.union(*shown) - ({"task", "weights"} if task else set()),
        prog=f"refusion {task or 'restore'}",
        description=f"Restore photos of any size: {kinds}. Stereo models take "
        "pairs NAME_L and NAME_R, or two files, left then right. Under torchrun, the processes "
        "divide the photos among themselves."
        if task is None
        else f"{ABOUT[task].does[:1].upper()}{ABOUT[task].does[1:]}. Photos: {kinds}, of any size.",
        epilog="Exit code: 0 all restored, 1 some photos failed or the log could not be written, "
        "2 wrong usage, 130 interrupted.",
    )
    add = parser.add_argument
    add(
        "photos",
        nargs="*",
        metavar="PHOTO",
        help=f"photos or folders of photos (default: the folder {DEFAULT_INPUT}, if it exists)",
    )
    add("--input", nargs="+", metavar="FILE|DIR", help="photos or folders of photos, as PHOTO")
    add(
        "--output",
        metavar="FILE|DIR",
        help="folder for the results (default: results), or a file if the input is one file",
    )
    add_model_options(parser, task)
    add_method_option(add, task)
    add_ddrm_options(parser.add_argument_group("known degradations").add_argument)
    unknown = parser.add_argument_group("unknown degradations").add_argument
    add_sd_options(unknown)
    add_diffbir_options(unknown)
    add_osediff_options(unknown)
    add_bokeh_options(parser.add_argument_group("bokeh").add_argument)
    of_haze = parser.add_argument_group("haze").add_argument
    add_haze_options(of_haze)
    add_same_look_option(of_haze)
    _add_result_options(parser.add_argument_group("results").add_argument, task)
    _add_batch_options(parser.add_argument_group("many photos").add_argument)
    hide_other_methods(parser, task)
    return parser


def _add_result_options(add: Callable[..., argparse.Action], task: str | None) -> None:
    add_strength_option(add, task)
    add(
        "--samples",
        type=count,
        metavar="N",
        help="compute N random samples per photo, write their mean",
    )
    add(
        "--uncertainty",
        type=Path,
        metavar="FILE.png|DIR",
        help="with --samples: also write the standard deviation of the samples as a 16-bit gray "
        "map, black 0, white 0.1 of full scale (for several photos: a folder)",
    )
    add("--compare", action="store_true", help="also write NAME_compare.png: input | result")
    add_file_options(add)


def _add_batch_options(add: Callable[..., argparse.Action]) -> None:
    add(
        "--recursive",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="search sub-folders (default: yes)",
    )
    add(
        "--skip-existing",
        action="store_true",
        help="skip photos whose results exist, for example after an interrupted run",
    )
    add_limit_options(add)
    # Not --log: torchrun has an option of this name. argparse accepts --log as an abbreviation.
    add(
        "--log-file",
        type=Path,
        metavar="FILE.json",
        help="write a log with options and times per photo",
    )
    add("--quiet", action="store_true", help="show errors only, no progress bar and no summary")


def _restorer(options: argparse.Namespace, device: Any) -> tuple[Path | None, Restorer]:
    """The file or folder of the model, if it has one, and the restorer of the options."""
    from refusion.restorers import BokehRenderer, find_prior, load_restorer

    refuse_other_options(options)
    limit = memory_limit(options)
    if options.method == RENDER:
        return None, BokehRenderer(memory=limit)
    if options.method == "ddrm":
        return find_prior(options.weights), chosen_ddrm(options, device)
    if options.method == "diffbir":
        return options.control, chosen_diffbir(options, device)
    if options.method == "osediff":
        return options.lora, chosen_osediff(options, device)
    check_sampler(options.sampler)
    checkpoint = chosen_checkpoint(options)
    restorer = load_restorer(checkpoint, device=device, precision=options.precision, memory=limit)
    return checkpoint.path, restorer


def _settings(
    options: argparse.Namespace, restorer: Restorer, photos: Sequence[Path]
) -> RestoreOptions:
    from refusion.batch.options import RestoreOptions
    from refusion.batch.prompts import PromptFiles
    from refusion.restorers.base import NO_CONDITIONS

    maps = disparity_maps(options, restorer.info, photos)
    conditions = NO_CONDITIONS if maps else photo_conditions(options, restorer.info)
    haze = haze_options(options, restorer.info)
    return RestoreOptions(
        steps=options.steps,
        sampler=options.sampler,
        seed=options.seed,
        tile=options.tile,
        conditions=replace(conditions, haze=haze),
        maps=maps,
        prompts=None if options.prompts is None else PromptFiles(options.prompts),
        strength=options.strength,
        samples=options.samples or 1,
        max_pixels=options.max_pixels or RestoreOptions.max_pixels,
        max_memory=memory_limit(options),
        skip_existing=options.skip_existing or options.overwrite == "never",
        quality=options.quality,
    )


def _head(
    options: argparse.Namespace, source: Path | None, restorer: Restorer, processes: int
) -> dict[str, Any]:
    """Entries of the log for the whole batch; steps and sampler include the model's defaults."""
    import torch

    from refusion import __version__
    from refusion.files import sha256_of

    info, excluded = restorer.info, ("task", "weights", "device", "precision", "log_file", "quiet")
    used = {key: value for key, value in vars(options).items() if key not in excluded}
    used |= {"steps": options.steps or info.steps, "sampler": options.sampler or info.sampler}
    name = None if source is None else source.name
    digest = sha256_of(source) if source is not None and source.is_file() else None
    return {
        "version": __version__,
        "torch": torch.__version__,
        "model": {"task": info.task, "weights": name, "sha256": digest},
        "options": {k: str(v) if isinstance(v, Path) else v for k, v in used.items()},
        "device": info.device,
        "precision": info.precision,
        "processes": processes,
        "started": datetime.now(UTC).isoformat("T", "seconds"),
    }
