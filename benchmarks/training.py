"""Speed and memory of the published trainings on this machine, plain and tuned.

    python -m benchmarks.training [-opt options/dehaze.yml options/deshadow.yml] [--rounds 5]

plain     a simple implementation: fp32, eager, contiguous memory, data loaded in the training
          process; latent models encode every image again at every step.
tuned     the defaults of this project: bf16 where the processor is fast at it, channels-last
          memory, loader processes, latents encoded once (as with `data.cached_latents`).
compiled  the same with `train.compile: true`, if a C++ compiler or a GPU is available.

All variants run in every round, each in a new process. So peak memory is measured separately, and
other load on the machine affects all variants alike. The report has medians over the rounds. Photos
are generated noise, or those of `--data`. If the latent U-Net is missing, one of the published size
with random weights is used; it costs the same as a trained one. The latents are encoded before the
steps. This time is reported separately, because a run needs it only once. The benchmark encodes two
batches; a real run encodes all its cached latents.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from refusion.checkpoint import save_checkpoint
from refusion.config import load_config
from refusion.config.parser import Component, to_plain
from refusion.config.sections import LatentCheckpoint
from refusion.devices.precision import choose_device
from refusion.nets import LatentUNet
from refusion.training import Trainer

VARIANTS = ("plain", "tuned", "compiled")
PHOTOS, SIZE = 4, (2048, 1536)  # generated photos; width, height
PUBLISHED_UNET = Component(
    "LatentUNet", {"in_ch": 3, "out_ch": 3, "ch": 8, "ch_mult": [4, 8, 8, 16], "embed_dim": 8}
)


@dataclass(frozen=True)
class Timing:
    """Measurements of one process.

    Attributes:
        step_s: median seconds of a step.
        waiting: share of the time of the steps that was spent waiting for data, 0..1.
        peak_mib: peak resident memory, or peak memory of the GPU, in MiB.
        before_s: seconds before the first measured step: encoding, compilation, warm-up.
    """

    step_s: float
    waiting: float
    peak_mib: float
    before_s: float


class PlainTrainer(Trainer):
    """A trainer with weights and batches in contiguous memory format."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        for module in (self.module, getattr(self.stage, "latent_unet", None)):
            if module is not None:
                module.to(memory_format=torch.contiguous_format)

    def _batches(self) -> Iterator[dict[str, Tensor]]:
        for batch in super()._batches():
            yield {name: value.contiguous() for name, value in batch.items()}


class DoneError(Exception):
    """Raised to end a run after its measured steps."""


def write_photos(folder: Path) -> None:
    """Write smooth noise as photos; decoding and cropping cost the same as for photos."""
    folder.mkdir(parents=True)
    for number in range(PHOTOS):
        rng = np.random.default_rng(number)
        coarse = Image.fromarray(rng.integers(0, 256, (24, 32, 3), dtype=np.uint8))
        coarse.resize(SIZE, Image.Resampling.BICUBIC).save(folder / f"{number}.png")


def write_unet(path: Path) -> None:
    """Write a latent U-Net of the published size with random weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        unet: nn.Module = LatentUNet(**PUBLISHED_UNET.settings)
    tensors = {f"latent_unet.{name}": value for name, value in unet.state_dict().items()}
    model = {"task": "benchmark", "latent_unet": to_plain(PUBLISHED_UNET)}
    save_checkpoint(path, model, tensors, {})


def overrides(variant: str, opt: str, options: argparse.Namespace, folder: Path) -> list[str]:
    """Settings that the benchmark and a variant change in an options file."""
    raw = load_config(opt, options.set)
    steps = options.warmup + options.steps
    texts = [
        f"name={variant}",
        "data.validation=[]",
        f"train.steps={max(raw.train.steps or 0, steps + 2)}",
        f"train.log_every={steps + 10}",
        f"train.checkpoint_every={steps + 10}",
    ]
    if raw.data.train.type == "PairedFolder":
        texts += [f"data.train.lq={folder / 'photos'}", f"data.train.gt={folder / 'same'}"]
    else:
        texts.append(f"data.train.folders={[str(folder / 'photos')]}")
    texts.append(f"data.train.cache={folder / 'cache'}")
    if isinstance(raw.latent_unet, LatentCheckpoint):
        if not Path(raw.latent_unet.checkpoint).is_file():
            texts.append(f"latent_unet.checkpoint={folder / 'unet.safetensors'}")
        cached = 0 if variant == "plain" else 2 * raw.data.batch_size
        texts.append(f"data.cached_latents={cached}")
    if variant == "plain":
        return [*texts, "train.precision=fp32", "data.workers=0", "train.compile=false"]
    workers = min(raw.data.workers, max(1, (os.cpu_count() or 1) - 1))
    is_compiled = str(variant == "compiled").lower()
    return [*texts, f"data.workers={workers}", f"train.compile={is_compiled}"]


def measure(variant: str, opt: str, options: argparse.Namespace, folder: Path) -> Timing:
    """Run the steps of a variant in this process."""
    config = load_config(opt, [*options.set, *overrides(variant, opt, options, folder)])
    kind = PlainTrainer if variant == "plain" else Trainer
    device, begun = choose_device(options.device), time.monotonic()
    marks: list[tuple[float, float, float]] = []
    with tempfile.TemporaryDirectory() as runs, contextlib.suppress(DoneError):
        trainer = kind(config, device=device, runs=runs)

        def note(step: int, total: int, terms: dict[str, float]) -> None:
            if step >= options.warmup:
                marks.append((time.monotonic(), trainer.trained_s, trainer.waited_s))
            if step == options.warmup + options.steps:
                raise DoneError

        trainer.train(note)
    now, trained, waited = zip(*marks, strict=True)
    spent = [after - before for before, after in pairwise(trained)]
    waiting = (waited[-1] - waited[0]) / (trained[-1] - trained[0])
    return Timing(statistics.median(spent), waiting, peak_mib(device), now[0] - begun)


def peak_mib(device: torch.device) -> float:
    """Peak memory so far: of the GPU, or of the process if there is no GPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    unit = 2**20 if sys.platform == "darwin" else 2**10  # bytes on macOS, KiB on Linux
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def can_compile(device: torch.device) -> bool:
    """Whether `torch.compile` finds a compiler for its kernels."""
    if device.type == "cuda":
        return importlib.util.find_spec("triton") is not None
    return any(map(shutil.which, (os.environ.get("CXX", "g++"), "clang++", "cl")))


def in_fresh_process(variant: str, opt: str, argv: list[str], folder: Path) -> Timing:
    """Run `measure` for a variant in a new process."""
    own = ["--opt", opt, "--variant", variant, "--folder", str(folder)]
    command = [sys.executable, "-m", "benchmarks.training", *argv, *own]
    result = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    return Timing(**json.loads(result.stdout.splitlines()[-1]))


def table(opt: str, timings: dict[str, list[Timing]]) -> str:
    """Markdown table: medians over the rounds, and the speed relative to the plain variant."""
    text = (
        f"| {opt} | s per step | steps per s | times plain | peak MiB | waiting for data "
        "| before the first step, s |\n| --- | --- | --- | --- | --- | --- | --- |\n"
    )
    for variant, rounds in timings.items():
        pairs = zip(timings["plain"], rounds, strict=True)
        ratio = statistics.median(plain.step_s / own.step_s for plain, own in pairs)
        step, waiting, peak, before = (
            statistics.median(getattr(timing, name) for timing in rounds)
            for name in ("step_s", "waiting", "peak_mib", "before_s")
        )
        text += (
            f"| {variant} | {step:.2f} | {1 / step:.3f} | {ratio:.2f} | {peak:.0f} "
            f"| {waiting:.1%} | {before:.0f} |\n"
        )
    return text


def build_parser() -> argparse.ArgumentParser:
    """Options of the command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training", allow_abbrev=False)
    own = ("options/dehaze.yml", "options/deshadow.yml")
    parser.add_argument("-opt", "--opt", nargs="+", default=own, metavar="FILE")
    parser.add_argument(
        "--rounds", type=int, default=3, help="rounds, each with all variants (default 3)"
    )
    parser.add_argument(
        "--warmup", type=int, default=1, help="steps before the measurement (default 1)"
    )
    parser.add_argument("--steps", type=int, default=3, help="measured steps per round (default 3)")
    parser.add_argument("--variants", nargs="+", default=VARIANTS, choices=VARIANTS)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument(
        "--data", metavar="DIR", help="photos, used as degraded and as clean photos"
    )
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    parser.add_argument(
        "--variant", choices=VARIANTS, help=argparse.SUPPRESS
    )  # for the new processes
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    return parser


def main(argv: list[str] | None = None) -> None:
    """Measure, and print one table per options file."""
    argv = sys.argv[1:] if argv is None else argv
    options = build_parser().parse_args(argv)
    if options.variant:
        timing = measure(options.variant, options.opt[0], options, options.folder)
        sys.stdout.write(json.dumps(asdict(timing)) + "\n")
        return
    names = [*dict.fromkeys(("plain", *options.variants))]  # all others are compared with plain
    if not can_compile(choose_device(options.device)):
        names = [name for name in names if name != "compiled"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if options.data:
            shutil.copytree(options.data, folder / "photos")
        else:
            write_photos(folder / "photos")
        shutil.copytree(folder / "photos", folder / "same")
        write_unet(folder / "unet.safetensors")
        for opt in options.opt:
            timings: dict[str, list[Timing]] = {variant: [] for variant in names}
            for number in range(options.rounds):
                for variant, taken in timings.items():
                    taken.append(in_fresh_process(variant, opt, argv, folder))
                    sys.stderr.write(f"{opt}, round {number + 1}, {variant}: {taken[-1]}\n")
            sys.stdout.write(f"{table(opt, timings)}\n")
    sys.stdout.write(
        f"{torch.get_num_threads()} threads, {os.cpu_count()} processors, PyTorch "
        f"{torch.__version__}; {options.rounds} rounds of {options.steps} steps after "
        f"{options.warmup}\n"
    )


if __name__ == "__main__":
    main()
