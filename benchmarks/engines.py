"""Engines that restore whole photos, side by side: PyTorch, ONNX Runtime and OpenVINO.

    python -m benchmarks.engines [--photo FILE] [--tasks dehaze ...] [--sizes 1 6] [--rounds 3]
        [--threads 1] [--engines NAME ...]

Every measurement runs in a new process. The engines take turns within a round, so other work on
the machine affects all of them alike. The process restores a photo of 64x64 pixels first ("start":
from the start of Python to this result), then the large photos, from samples to samples. Files are
neither read nor written in these times. Each size is new to the engine, as in a program that
restores one photo. Times are seconds of the processor, so they do not contain the waiting for it.

The tables have medians over the rounds. "Ratio" is the median of the seconds divided by those of
PyTorch in bfloat16 in the same round. The pictures are compared with those of PyTorch in float32.
The int8 rows are the ONNX files, quantised by the package onnxruntime: 'dynamic' takes the ranges
of activations from each input, 'static' from a photo of 512x384 pixels. An engine whose values are
not finite has an empty row.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from PIL import Image

TASKS = ("dehaze", "deshadow", "denoise", "blind")
EXAMPLE = Path(__file__).parents[1] / "examples" / "hazy-coast.jpg"
REFERENCE, USUAL = "PyTorch fp32", "PyTorch bf16"
SMALL = 64  # pixels; side of the photo of the start
Restore = Callable[[np.ndarray], np.ndarray]
"""A photo (H, W, 3) uint8 -> the restored photo, alike."""


@dataclass(frozen=True)
class Run:
    """Measurements of one process.

    Attributes:
        start: seconds of the processor from the start of the process to the restored small photo.
        seconds: of the processor, of each large photo.
        gigabytes: peak resident memory up to the end of each large photo, 1 GB = 2^30 bytes.
    """

    start: float
    seconds: tuple[float, ...]
    gigabytes: tuple[float, ...]


def pytorch(precision: str) -> Callable[[str, int, Path], Restore]:
    """An engine: `load_restorer` on the CPU."""

    def load(task: str, threads: int, folder: Path) -> Restore:
        import torch

        from refusion import load_restorer

        torch.set_num_threads(threads)
        return load_restorer(task, device="cpu", precision=precision)

    return load


def onnx(engine: str, kind: str = "", **options: str) -> Callable[[str, int, Path], Restore]:
    """An engine: `refusion.runtime` with a class of `refusion.runtime.engines`.

    Args:
        engine: name of the class.
        kind: 'dynamic' or 'static' for a quantised file of `write_int8`, else the shipped file.
        options: arguments of the class.
    """

    def load(task: str, threads: int, folder: Path) -> Restore:
        from refusion.runtime import OnnxModel, engines, find_model
        from refusion.runtime.description import read_description

        path = folder / f"{task}-{kind}.onnx" if kind else find_model(task)
        start = getattr(engines, engine)
        return OnnxModel(start(path, threads, **options), read_description(path)["runtime"])

    return load


ENGINES: Mapping[str, Callable[[str, int, Path], Restore]] = {
    USUAL: pytorch("bf16"),
    REFERENCE: pytorch("fp32"),
    "ONNX Runtime fp32": onnx("OnnxRuntime"),
    "OpenVINO fp32": onnx("OpenVino"),
    "OpenVINO bf16": onnx("OpenVino", precision="bf16"),
    "ONNX Runtime int8, dynamic": onnx("OnnxRuntime", "dynamic"),
    "ONNX Runtime int8, static": onnx("OnnxRuntime", "static"),
}


def photo_for(task: str, source: Path, width: int, height: int) -> np.ndarray:
    """A photo that needs the restoration: with noise for 'denoise', with a shadow for 'deshadow'.

    Args:
        task: one of `TASKS`.
        source: the photo, scaled to the size.
        width: in pixels.
        height: in pixels.
    """
    with Image.open(source) as image:
        pixels = np.array(image.convert("RGB").resize((width, height)))
    if task == "denoise":
        noise = np.random.default_rng(0).normal(0, 15, pixels.shape)
        return (pixels + noise).round().clip(0, 255).astype(np.uint8)
    if task == "deshadow":
        shadow = np.s_[height // 3 : 2 * height // 3, width // 3 : 2 * width // 3]
        pixels[shadow] = pixels[shadow] * 0.4
    return pixels


def write_photos(task: str, source: Path, sizes: Sequence[float], folder: Path) -> None:
    """Write the small photo and one of each number of megapixels as arrays."""
    with Image.open(source) as image:
        width, height = image.size
    np.save(folder / "small.npy", photo_for(task, source, SMALL, SMALL))
    for megapixels in sizes:
        scale = math.sqrt(megapixels * 1e6 / (width * height))
        sides = round(width * scale), round(height * scale)
        np.save(folder / f"{megapixels:g}.npy", photo_for(task, source, *sides))


def write_int8(task: str, source: Path, folder: Path) -> None:
    """Write the model of a task as ONNX files with weights and activations of 8 bits."""
    from onnxruntime.quantization import (
        CalibrationDataReader,
        QuantType,
        quantize_dynamic,
        quantize_static,
    )

    from refusion.checkpoint import read_checkpoint
    from refusion.export import export_model
    from refusion.runtime import load_model
    from refusion.weights import find_weights

    whole, kept = folder / "whole.onnx", ["Conv", "MatMul", "Gemm"]
    export_model(read_checkpoint(find_weights(task)), whole)

    class Inputs(CalibrationDataReader):
        """The inputs of the network while it restores a photo."""

        def __init__(self) -> None:
            self.given: list[dict[str, np.ndarray]] = []

        def get_next(self) -> dict[str, np.ndarray] | None:
            return self.given.pop(0) if self.given else None

    reader, model = Inputs(), load_model(whole, engine="onnxruntime")
    run = model._engine.run
    model._engine.run = lambda names, given: reader.given.append(dict(given)) or run(names, given)
    model(photo_for(task, source, 512, 384))
    static, dynamic = (folder / f"{task}-{kind}.onnx" for kind in ("static", "dynamic"))
    options = {"op_types_to_quantize": kept, "per_channel": True}
    quantize_static(whole, static, reader, weight_type=QuantType.QInt8, **options)
    quantize_dynamic(whole, dynamic, **options)


def measure(options: argparse.Namespace) -> Run:
    """Restore the photos in this process, and write the results of the large ones as arrays."""
    restore = ENGINES[options.child](options.tasks[0], options.threads, options.folder)
    restore(np.load(options.folder / "small.npy"))
    start, seconds, gigabytes = time.process_time(), [], []
    for megapixels in options.sizes:
        photo = np.load(options.folder / f"{megapixels:g}.npy")
        begun = time.process_time()
        result = restore(photo)
        seconds.append(time.process_time() - begun)
        gigabytes.append(peak_memory())
        np.save(options.folder / f"{options.child} {megapixels:g}.npy", result)
    return Run(start, tuple(seconds), tuple(gigabytes))


def _measured(options: argparse.Namespace) -> dict[str, object] | None:
    from refusion.errors import RefusionError  # here, since the import is a part of the start

    try:
        return asdict(measure(options))
    except RefusionError as error:
        sys.stderr.write(f"{options.child}: {error}\n")
        return None


def peak_memory() -> float:
    """Peak resident memory of this process in GB, from the Linux kernel."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 2**20


def in_fresh_process(
    engine: str, task: str, folder: Path, options: argparse.Namespace
) -> Run | None:
    """Run `measure` in a new process; None if the engine failed."""
    sizes = map(str, options.sizes)
    command = [sys.executable, "-m", "benchmarks.engines", "--child", engine, "--tasks", task]
    command += ["--folder", str(folder), "--threads", str(options.threads), "--sizes", *sizes]
    threads = {"OMP_NUM_THREADS": str(options.threads)}
    done = subprocess.run(
        command,
        stdout=subprocess.PIPE,
        check=True,
        text=True,
        env=os.environ | threads,
    )
    found = json.loads(done.stdout.splitlines()[-1])
    return Run(**found) if found else None


def differences(found: np.ndarray, expected: np.ndarray) -> tuple[int, float]:
    """Largest difference of two uint8 pictures in levels, and their PSNR in dB."""
    difference = found.astype(int) - expected
    error = float(np.mean(difference**2))
    psnr = 10 * math.log10(255**2 / error) if error else math.inf
    return int(np.abs(difference).max()), psnr


def table(
    task: str,
    sizes: Sequence[float],
    runs: Mapping[str, Sequence[Run]],
    compared: Mapping[str, Sequence[tuple[int, float]]],
) -> str:
    """Markdown table of one task.

    Args:
        task: for the title.
        sizes: megapixels.
        runs: the measurements of the rounds by engine.
        compared: result of `differences` for each size by engine.
    """
    middle, lines = statistics.median, [f"### {task}", ""]
    of_size = [f"{size:g} MP: s/MP | ratio | GB" for size in sizes]
    lines += [f"| engine | start, s | {' | '.join(of_size)} | levels | PSNR, dB |"]
    lines += ["|---" * (4 + 3 * len(sizes)) + "|"]
    for engine, taken in runs.items():
        if not taken:
            lines.append(f"| {engine} {'| ' * (3 + 3 * len(sizes))}|")
            continue
        cells = [engine, f"{middle(run.start for run in taken):.2f}"]
        for index, size in enumerate(sizes):
            seconds = middle(run.seconds[index] for run in taken)
            cells.append(f"{seconds / size:.3f}")
            pairs = zip(taken, runs.get(USUAL, ()), strict=False)
            ratios = [run.seconds[index] / usual.seconds[index] for run, usual in pairs]
            cells.append(f"{middle(ratios):.2f}" if ratios else "")
            cells.append(f"{middle(run.gigabytes[index] for run in taken):.2f}")
        levels, psnr = zip(*compared.get(engine, [(math.nan, math.nan)]), strict=True)
        cells += [f"{max(levels)}", ", ".join(f"{each:.1f}" for each in psnr)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def measure_task(task: str, options: argparse.Namespace) -> str:
    """Measure all engines in turn on the photos of one task, and make the table."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_photos(task, options.photo, options.sizes, folder)
        if any("int8" in engine for engine in options.engines):
            write_int8(task, options.photo, folder)
        runs: dict[str, list[Run]] = {engine: [] for engine in options.engines}
        for number in range(options.rounds):
            for engine in [each for each, taken in runs.items() if len(taken) == number]:
                run = in_fresh_process(engine, task, folder, options)
                if run is not None:
                    runs[engine].append(run)
                    seconds = ", ".join(f"{each:.2f}" for each in run.seconds)
                    sys.stderr.write(f"{task}, round {number + 1}, {engine}: {seconds} s\n")
        compared = {
            engine: [
                differences(*(np.load(folder / f"{each} {size:g}.npy") for each in pair))
                for size in options.sizes
            ]
            for engine, taken in runs.items()
            if taken and REFERENCE in runs and (pair := (engine, REFERENCE))
        }
    return table(task, options.sizes, runs, compared)


def build_parser() -> argparse.ArgumentParser:
    """Options of the command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.engines")
    add, hidden = parser.add_argument, argparse.SUPPRESS
    add("--photo", type=Path, default=EXAMPLE, metavar="FILE", help="photo, scaled to every size")
    add("--tasks", nargs="+", choices=TASKS, default=TASKS)
    add("--engines", nargs="+", choices=tuple(ENGINES), default=tuple(ENGINES))
    add("--sizes", nargs="+", type=float, default=(1.0, 6.0), metavar="MP", help="megapixels")
    add("--rounds", type=int, default=3)
    add("--threads", type=int, default=1)
    add("--child", choices=tuple(ENGINES), help=hidden)  # for the new processes, as the next
    add("--folder", type=Path, help=hidden)
    return parser


def main(argv: list[str] | None = None) -> None:
    """Measure, and print one table per task."""
    options = build_parser().parse_args(argv)
    if options.child:
        sys.stdout.write(json.dumps(_measured(options)) + "\n")
        return
    for task in options.tasks:
        sys.stdout.write(f"{measure_task(task, options)}\n")
        sys.stdout.flush()
    sys.stdout.write(
        f"{options.threads} threads, {os.cpu_count()} processors; {options.rounds} rounds\n"
    )


if __name__ == "__main__":
    main()
