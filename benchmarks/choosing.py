"""Calls, seconds and memory per megapixel of every restorer that runs here, on one photo.

    python -m benchmarks.choosing --photo PHOTO.jpg [--prior PRIOR.safetensors]
        [--megapixels 1] [--rounds 3] [--pictures DIR] [--sd DIR --lora FILE]

Restorers whose files are not given are left out. DDRM removes noise, with the settings of the
command; its cost depends on the number of calls and hardly on the degradation. Each measurement
runs in a new process, so its peak memory is measured separately. The restorers alternate within
each round. The program prints the Markdown table of docs/choosing.md: medians over the rounds. The
seconds do not include loading; 1 GB = 2^30 bytes. `--pictures` also writes the result of each
restorer as PNG.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.full_resolution import Clock, write_photo
from refusion import load_restorer, read_image, write_image
from refusion.images.samples import to_float
from refusion.restorers import DDRM, load_osediff, load_prior
from refusion.restorers.dark_channel import dark_channel_prior
from refusion.restorers.ddrm.mean import STEPS
from refusion.restorers.ddrm.problems import denoise
from refusion.restorers.ddrm.sampling import DDRMSettings

SIGMA = 25 / 255  # noise level that DDRM is given
Restore = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Method:
    """A restorer of the table.

    Attributes:
        calls: number of network calls per photo or tile, as text for the table.
        make: function from options to a function that restores photos (1, 3, H, W) in the dtype
            of their files.
        needs: options that this restorer needs; without them it is left out.
    """

    calls: str
    make: Callable[[argparse.Namespace], Restore]
    needs: tuple[str, ...] = ()


def refusion(options: argparse.Namespace) -> Restore:
    """The shipped dehazing model, with its defaults."""
    return load_restorer("dehaze", device="cpu").restore


def ddrm(options: argparse.Namespace) -> Restore:
    """Noise removal by the mean of DDRM."""
    settings = DDRMSettings(steps=STEPS, estimate="mean")
    restorer = DDRM(load_prior(options.prior, device="cpu"), denoise(), SIGMA, settings)
    return lambda photo: restorer.restore(to_float(photo))


def osediff(options: argparse.Namespace) -> Restore:
    """OSEDiff: one call of a Stable Diffusion."""
    return load_osediff(options.sd, options.lora, merge=True, device="cpu").restore


METHODS = {
    "Refusion, as shipped": Method("1", refusion),
    "DDRM": Method(f"{STEPS}", ddrm),
    "OSEDiff, merged": Method("1 per tile", osediff, ("sd", "lora")),
    "dark channel": Method("0", lambda options: lambda photo: dark_channel_prior(to_float(photo))),
}


@dataclass(frozen=True)
class Cost:
    """Cost of one photo: seconds without loading, and peak memory of the process in GB."""

    seconds: float
    gigabytes: float


def chosen(options: argparse.Namespace) -> list[str]:
    """Names of the methods whose files are given."""
    return [
        name for name, method in METHODS.items() if all(vars(options)[key] for key in method.needs)
    ]


def measure(options: argparse.Namespace) -> Cost:
    """Restore the photo in this process."""
    clock = Clock()
    restore = METHODS[options.method].make(options)
    photo = read_image(options.photo)
    clock.end("load")
    with torch.no_grad():
        result = restore(photo.samples[None])[0]
    clock.end("restore")
    if options.pictures:
        options.pictures.mkdir(parents=True, exist_ok=True)
        name = options.method.lower().replace(",", "").replace(" ", "_")
        write_image(options.pictures / f"{name}.png", result)
    return Cost(clock.seconds["restore"], max(clock.gigabytes.values()))


def in_fresh_process(name: str, photo: Path, options: argparse.Namespace) -> Cost:
    """Run `measure` in a new process."""
    own = {"method": name, "photo": photo}
    own |= {key: vars(options)[key] for key in ("prior", "sd", "lora", "pictures")}
    texts = [text for key, value in own.items() if value for text in (f"--{key}", str(value))]
    command = [sys.executable, "-m", "benchmarks.choosing", *texts]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    return Cost(**json.loads(done.stdout.splitlines()[-1]))


def table(costs: Mapping[str, list[Cost]], megapixels: float) -> str:
    """Markdown table with one row per restorer."""
    lines = [f"| restorer | calls | s per MP | GB at {megapixels:g} MP |"]
    lines.append("|---|---|---|---|")
    for name, taken in costs.items():
        seconds = statistics.median(cost.seconds for cost in taken) / megapixels
        memory = statistics.median(cost.gigabytes for cost in taken)
        lines.append(f"| {name} | {METHODS[name].calls} | {seconds:.2f} | {memory:.2f} |")
    return "\n".join(lines)


def build_parser() -> argparse.ArgumentParser:
    """Options of the command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.choosing")
    add = parser.add_argument
    add(
        "--photo",
        type=Path,
        metavar="FILE",
        help="photo, scaled to the size (default: smooth noise)",
    )
    add("--megapixels", type=float, default=1.0, metavar="MP")
    add("--rounds", type=int, default=3)
    add("--prior", type=Path, metavar="FILE", help="for DDRM (default: the shipped one)")
    add("--sd", type=Path, metavar="DIR", help="folder of a Stable Diffusion, for OSEDiff")
    add("--lora", type=Path, metavar="FILE", help="adapters, for OSEDiff")
    add("--pictures", type=Path, metavar="DIR", help="also write the results to this folder")
    add("--method", choices=METHODS, help=argparse.SUPPRESS)  # for the new processes
    return parser


def main(argv: list[str] | None = None) -> None:
    """Measure, and print the table."""
    options = build_parser().parse_args(argv)
    if options.method:
        sys.stdout.write(json.dumps(vars(measure(options))) + "\n")
        return
    with tempfile.TemporaryDirectory() as folder:
        photo = Path(folder) / "photo.jpg"
        write_photo(options.photo, options.megapixels, photo)
        costs: dict[str, list[Cost]] = {name: [] for name in chosen(options)}
        for number in range(options.rounds):
            for name, taken in costs.items():
                taken.append(in_fresh_process(name, photo, options))
                sys.stderr.write(f"round {number + 1}, {name}: {taken[-1]}\n")
    sys.stdout.write(
        f"{table(costs, options.megapixels)}\n\n{torch.get_num_threads()} threads, "
        f"{os.cpu_count()} processors, PyTorch {torch.__version__}; medians of {options.rounds} "
        "rounds\n"
    )


if __name__ == "__main__":
    main()
