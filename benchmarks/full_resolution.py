"""Seconds and memory of restoring whole photos, by stage, compared with a plain implementation.

    python -m benchmarks.full_resolution [--photo FILE] [--sizes 1 6 24 100] [--rounds 3]
        [--weights TASK|FILE]

tuned     `refusion restore` with default settings: JPEG in, JPEG out.
plain     a simple implementation with the same weights: fp32, eager, contiguous memory, untiled,
          100 posterior steps on the whole latent, or on all pixels if there is no latent U-Net;
          one step if the network does not see the state, because all steps are equal then.

The program measures the shipped dehazing model (or `--weights`) and latent networks of the
published size (2.0 M and 76.6 M parameters). The latter have random weights, which cost the same as
trained weights, and restore in one step on a copy of 768 px.

Every measurement runs in a new process, so its peak memory is measured separately. Sizes and
variants alternate within each round, so other load on the machine affects all of them alike. The
report has medians over the rounds. The memory of a stage is the peak of the process during the
stage, 1 GB = 2^30 bytes. "start" is the time outside the stages: interpreter, imports, exit.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from refusion import load_restorer, read_image, write_image
from refusion.checkpoint import Model, build_model, read_checkpoint, save_checkpoint
from refusion.memory import parse_memory
from refusion.nets import NETS
from refusion.sde import SAMPLERS, Estimate, SeededNoise, build_sde, estimate
from refusion.weights import find_weights

STAGES = ("start", "load", "read", "encode", "sample", "decode", "write")
SIZES = (1.0, 6.0, 24.0, 100.0)
PLAIN_STEPS = 100
SHIPPED = "dehaze"
PUBLISHED = {
    "task": "dehaze",
    "latent_unet": {"type": "LatentUNet", "ch": 8, "ch_mult": [4, 8, 8, 16], "embed_dim": 8},
    "network": {
        "type": "ConditionalNAFNet",
        "img_channel": 8,
        "width": 64,
        "enc_blk_nums": [1, 1, 1, 28],
        "middle_blk_num": 1,
        "dec_blk_nums": [1, 1, 1, 1],
        "wiring": "latent",
    },
    "sde": {"type": "IRSDE", "max_sigma": 50, "T": 100, "schedule": "cosine", "eps": 0.005},
    "prediction": "x0_residual",
    "sampling": {"sampler": "posterior", "steps": 1, "process_side": 768},
}


@dataclass(frozen=True)
class Run:
    """Measurements of one process.

    Attributes:
        seconds: wall-clock time by stage.
        gigabytes: peak resident memory during each stage.
        total: seconds of the whole process, measured by its parent, with those of steps that did
            not run; before that the seconds of these steps alone.
        peak: peak resident memory of the process, in GB.
    """

    seconds: dict[str, float]
    gigabytes: dict[str, float]
    total: float
    peak: float


class Clock:
    """Measures consecutive stages; `extrapolated` are seconds of steps that did not run."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.gigabytes: dict[str, float] = {}
        self.extrapolated = 0.0
        self.last = time.monotonic()

    def end(self, stage: str) -> None:
        """Add the time since the last call to this stage."""
        now, peak = time.monotonic(), peak_of_stage()
        self.seconds[stage] = self.seconds.get(stage, 0.0) + now - self.last
        self.gigabytes[stage] = max(self.gigabytes.get(stage, 0.0), peak)
        self.last = now


def peak_of_stage() -> float:
    """Peak resident memory since the last call in GB; of the whole process outside Linux."""
    with contextlib.suppress(OSError):
        status = Path("/proc/self/status").read_text()
        Path("/proc/self/clear_refs").write_text("5")
        return int(status.split("VmHWM:")[1].split()[0]) / 2**20
    # Not used on Linux, where this number can include the memory of the parent before exec.
    unit = 2**30 if sys.platform == "darwin" else 2**20  # bytes on macOS, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def write_photo(source: Path | None, megapixels: float, path: Path) -> None:
    """Write a JPEG of that size: the scaled source, or smooth noise if there is no source."""
    if source is None:
        coarse = np.random.default_rng(0).integers(0, 256, (32, 48, 3), dtype=np.uint8)
        photo = Image.fromarray(coarse)
    else:
        photo = Image.open(source).convert("RGB")
    scale = (megapixels * 1e6 / (photo.width * photo.height)) ** 0.5
    size = round(photo.width * scale), round(photo.height * scale)
    photo.resize(size, Image.Resampling.BICUBIC).save(path, quality=92)


def write_published(path: Path) -> None:
    """Write a checkpoint of the published size with random weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        parts = {part: dict(PUBLISHED[part]) for part in ("network", "latent_unet")}
        tensors = {
            f"{part}.{name}": tensor
            for part, settings in parts.items()
            for name, tensor in NETS[settings.pop("type")](**settings).state_dict().items()
        }
    save_checkpoint(path, PUBLISHED, tensors, {})


def tuned(weights: Path, memory: int | None, clock: Clock) -> Callable[[Tensor], Tensor]:
    """The restorer of `load_restorer`."""
    restorer = load_restorer(weights, memory=memory)
    clock.end("load")
    return lambda samples: restorer.restore(samples, callback=lambda stage, *_: clock.end(stage))


def plain(weights: Path, steps: int, clock: Clock) -> Callable[[Tensor], Tensor]:
    """A simple implementation with the same weights, step by step as in the paper."""
    model = build_model(read_checkpoint(weights))
    clock.end("load")
    return lambda samples: _plain_restore(model, samples.float() / 255, steps, clock)


@torch.no_grad()
def _plain_restore(model: Model, lq: Tensor, steps: int, clock: Clock) -> Tensor:
    unet = model.latent_unet
    if unet is None:
        return _plain_process(model, lq, steps, clock).clamp(0, 1)
    latent = unet.encode(lq.contiguous())
    clock.end("encode")
    z = _plain_process(model, latent.z, steps, clock)
    return unet.decode(z, latent.skips, latent.size).clamp(0, 1)


def _plain_process(model: Model, mu: Tensor, steps: int, clock: Clock) -> Tensor:
    config, noise = model.config, SeededNoise(0)
    sde = build_sde({"type": config.sde.type, **config.sde.settings})

    def denoise(xt: Tensor, mu: Tensor, t: int) -> Estimate:
        return estimate(sde, config.prediction, model.network(xt, mu, t), xt, mu, t)

    sees_state = getattr(model.network, "sees_state", True)
    steps, wanted = (steps, PLAIN_STEPS) if sees_state else (1, 1)
    start = sde.initial_state(mu, noise.initial(mu))
    x0 = SAMPLERS["posterior"](sde, denoise, start, mu, steps=steps, noise=noise)
    clock.end("sample")
    clock.extrapolated = clock.seconds["sample"] * (wanted / steps - 1)
    clock.seconds["sample"] += clock.extrapolated
    return x0


def measure(options: argparse.Namespace) -> Run:
    """Restore one photo in this process."""
    clock = Clock()
    make = (plain, options.plain_steps) if options.variant == "plain" else (tuned, options.memory)
    restore = make[0](find_weights(options.weights), make[1], clock)
    photo = read_image(options.photo)
    clock.end("read")
    result = restore(photo.samples[None])[0]
    clock.end("decode")
    write_image(options.photo.with_suffix(".out.jpg"), result, photo)
    clock.end("write")
    peak = max(clock.gigabytes.values())
    return Run(clock.seconds, clock.gigabytes, clock.extrapolated, peak)


def in_fresh_process(variant: str, photo: Path, weights: Path, options: argparse.Namespace) -> Run:
    """Run `measure` in a new process, and measure that process."""
    own = {"variant": variant, "photo": photo, "weights": weights, "memory": options.memory}
    own["plain-steps"] = options.plain_steps
    texts = [text for key, value in own.items() if value for text in (f"--{key}", str(value))]
    command = [sys.executable, "-m", "benchmarks.full_resolution", *texts]
    begun = time.monotonic()
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    run = Run(**json.loads(done.stdout.splitlines()[-1]))
    inside, total = sum(run.seconds.values()), time.monotonic() - begun + run.total
    seconds = run.seconds | {"start": total - inside}
    return replace(run, seconds=seconds, total=total)


def medians(runs: list[Run]) -> Run:
    """Medians over the rounds, of each number separately."""
    middle, stages = statistics.median, [stage for stage in STAGES if stage in runs[0].seconds]
    return Run(
        {stage: middle(run.seconds[stage] for run in runs) for stage in stages},
        {stage: middle(run.gigabytes.get(stage, 0.0) for run in runs) for stage in stages},
        middle(run.total for run in runs),
        middle(run.peak for run in runs),
    )


def stage_rows(megapixels: float, run: Run) -> Iterator[str]:
    """Markdown rows of one size: stage, seconds, GB, fraction."""
    for stage, seconds in run.seconds.items():
        memory = f"{run.gigabytes[stage]:.2f}" if run.gigabytes[stage] else ""
        share = seconds / run.total
        yield f"| {megapixels:g} | {stage} | {seconds:.2f} | {memory} | {share:.0%} |"
    yield f"| {megapixels:g} | **all** | **{run.total:.2f}** | **{run.peak:.2f}** | |"


def size_row(megapixels: float, runs: list[Run], baseline: list[Run]) -> str:
    """Markdown row of one size: the whole process, and the plain variant if it was measured."""
    run = medians(runs)
    work = run.total - run.seconds["start"] - run.seconds["load"]
    row = f"| {megapixels:g} | {run.total:.1f} | {work / megapixels:.3f} | {run.peak:.2f} |"
    if not baseline:
        return f"{row} | | |"
    slow, pairs = medians(baseline), zip(runs, baseline, strict=True)
    ratio = statistics.median(slow.total / fast.total for fast, slow in pairs)
    return f"{row} {slow.total:.1f} | {slow.peak:.2f} | {ratio:.1f} |"


def report(name: str, runs: dict[tuple[float, str], list[Run]]) -> str:
    """Markdown tables: the stages of every size, then all sizes with the plain variant."""
    sizes = [megapixels for megapixels, variant in runs if variant == "tuned"]
    lines = [f"### {name}", "", "| MP | stage | s | GB | fraction |", "|---|---|---|---|---|"]
    for megapixels in sizes:
        lines += stage_rows(megapixels, medians(runs[megapixels, "tuned"]))
    lines += ["", "| MP | s | s per MP after loading | GB | plain s | plain GB | times plain |"]
    lines += ["|---|---|---|---|---|---|---|"]
    for megapixels in sizes:
        slow = runs.get((megapixels, "plain"), [])
        lines.append(size_row(megapixels, runs[megapixels, "tuned"], slow))
    return "\n".join([*lines, ""])


def build_parser() -> argparse.ArgumentParser:
    """Options of the command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.full_resolution")
    add = parser.add_argument
    add(
        "--photo",
        type=Path,
        metavar="FILE",
        help="photo, scaled to every size (default: smooth noise)",
    )
    add("--sizes", nargs="+", type=float, default=SIZES, metavar="MP", help="megapixels")
    add("--plain-sizes", nargs="*", type=float, default=(1.0, 6.0), metavar="MP")
    add(
        "--plain-steps",
        type=int,
        default=PLAIN_STEPS,
        help="plain steps to run; their time is extrapolated to 100",
    )
    add("--models", nargs="+", choices=("shipped", "published"), default=("shipped", "published"))
    add("--rounds", type=int, default=3)
    add("--memory", type=parse_memory, metavar="4G", help="memory limit of the tuned variant")
    add("--variant", choices=("tuned", "plain"), help=argparse.SUPPRESS)  # for the new processes
    text = f"the model to measure in place of the shipped '{SHIPPED}' model"
    add("--weights", default=SHIPPED, metavar="TASK|FILE", help=text)
    return parser


def main(argv: list[str] | None = None) -> None:
    """Measure, and print two tables per model."""
    options = build_parser().parse_args(argv)
    if options.variant:
        sys.stdout.write(json.dumps(asdict(measure(options))) + "\n")
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        weights = {"shipped": find_weights(options.weights)}
        weights["published"] = folder / "published.safetensors"
        if "published" in options.models:
            write_published(weights["published"])
        for size in {*options.sizes, *options.plain_sizes}:
            write_photo(options.photo, size, folder / f"{size:g}.jpg")
        for model in options.models:
            keys = [(size, "tuned") for size in options.sizes]
            keys += [(size, "plain") for size in options.plain_sizes if size in options.sizes]
            runs: dict[tuple[float, str], list[Run]] = {key: [] for key in sorted(keys)}
            for number in range(options.rounds):
                for (size, variant), taken in runs.items():
                    photo = folder / f"{size:g}.jpg"
                    taken.append(in_fresh_process(variant, photo, weights[model], options))
                    sys.stderr.write(f"{model}, round {number + 1}, {size:g} MP, {variant}: ")
                    sys.stderr.write(f"{taken[-1].total:.2f} s, {taken[-1].peak:.2f} GB\n")
            sys.stdout.write(f"{report(model, runs)}\n")
            sys.stdout.flush()
    sys.stdout.write(
        f"{torch.get_num_threads()} threads, {os.cpu_count()} processors, PyTorch "
        f"{torch.__version__}; medians of {options.rounds} rounds\n"
    )


if __name__ == "__main__":
    main()
