"""Seconds of one photo from file to file, by stage and number format.

python -m benchmarks.gpu.inference --device cuda --seconds 60 --photos DIR --work DIR restores a
JPEG of 24 megapixels with every shipped model, and with networks of the published size and random
weights. The first photo prepares the kernels and is not counted.

"without JPEG" is the time of the whole job minus the time in which Pillow alone decodes and encodes
the same JPEG.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

import torch
from PIL import Image

from benchmarks.full_resolution import write_photo, write_published
from benchmarks.gpu.rows import LEFT_OUT, Deadline, emit, row_of_errors
from refusion.batch.jobs import run_jobs
from refusion.batch.options import RestoreOptions
from refusion.batch.plan import Job, plan_jobs
from refusion.errors import RefusionError
from refusion.images.cache import list_photos
from refusion.restorers import Conditions, load_restorer
from refusion.weights import shipped_weights

MEGAPIXELS = {"cuda": 24.0, "cpu": 0.05}
FORMATS = {"cuda": ("auto", "fp32", "fp16"), "cpu": ("auto", "fp32")}
COUNT = {"cuda": 4, "cpu": 2}  # photos of a measurement; the first one is not counted
TABLE, COPIES = "file to file", "copies of a photo"
_LEAST = {"cuda": 4.0, "cpu": 1.0}  # seconds in which a measurement can end
LENS = torch.tensor([160.0, 18.0, 40.0])


def jpeg_seconds(photo: Path, work: Path) -> float:
    """Seconds in which Pillow decodes a JPEG and encodes it again; median of three."""
    times = []
    for _ in range(3):
        begun = time.perf_counter()
        with Image.open(photo) as image:
            image.load()
            image.save(work / "again.jpg", quality=95)
        times.append(time.perf_counter() - begun)
    return median(times)


def models(work: Path, device: str) -> Iterator[tuple[str, Path]]:
    """Names and weights files: shipped models, as far as they are here, and a large one."""
    yield from shipped_weights().items()
    if device == "cuda":
        published = work / "published.safetensors"
        write_published(published)
        yield "published size", published


def measured(
    weights: Path, device: str, precision: str, jobs: list[Job]
) -> tuple[dict[str, float], str]:
    """Median seconds by stage and of the whole job, and the number format.

    Raises:
        RefusionError: a photo could not be restored.
    """
    restorer = load_restorer(weights, device=device, precision=precision)
    height, width = Image.open(jobs[0].photos[0].input).size[::-1]
    guide = torch.full((2, height, width), 0.6) if "guide" in restorer.info.needs else None
    options = RestoreOptions(conditions=Conditions(lens=LENS, guide=guide))
    ends = [time.perf_counter()]
    outcomes = run_jobs(jobs, restorer, options, None, lambda _: ends.append(time.perf_counter()))
    for outcome in outcomes:
        if outcome.error is not None:
            raise RefusionError(outcome.error)
    kept = outcomes[1:]
    stages = {
        stage: median(outcome.seconds[stage] for outcome in kept)
        for stage in ("read", "restore", "write")
    }
    per_photo = (ends[-1] - ends[1]) / len(kept)
    return stages | {"per photo": per_photo}, restorer.info.precision


def copies(device: torch.device, pixels: int) -> None:
    """Emit the seconds of copies of an 8-bit photo to the GPU and back, pinned and not."""
    for kind in ("pageable", "pinned"):
        host = torch.empty(3 * pixels, dtype=torch.uint8, pin_memory=kind == "pinned").fill_(1)
        there = host.to(device)
        row = {"to the GPU, ms": lambda: there.copy_(host, non_blocking=True)}  # noqa: B023
        row["back, ms"] = lambda: host.copy_(there, non_blocking=True)  # noqa: B023
        emit(COPIES, memory=kind, **{name: 1e3 * _timed(copy) for name, copy in row.items()})


def _timed(run: Callable[[], object]) -> float:
    times = []
    for _ in range(5):
        torch.cuda.synchronize()
        begun = time.perf_counter()
        run()
        torch.cuda.synchronize()
        times.append(time.perf_counter() - begun)
    return median(times)


def main(argv: list[str] | None = None) -> None:
    """Measure until the time is up."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu.inference")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--photos", type=Path, help="folder; its first photo is enlarged")
    parser.add_argument("--megapixels", type=float)
    parser.add_argument("--work", type=Path, required=True, help="folder for the files")
    options = parser.parse_args(argv)
    deadline, device = Deadline(options.seconds), options.device
    megapixels = options.megapixels or MEGAPIXELS[device]
    source = list_photos([str(options.photos)])[0] if options.photos else None
    photo = options.work / "photo.jpg"
    write_photo(source, megapixels, photo)
    coding = jpeg_seconds(photo, options.work)
    files = [options.work / f"photo{number}.jpg" for number in range(COUNT[device])]
    for file in files:
        file.write_bytes(photo.read_bytes())
    jobs = plan_jobs(files, options.work / "restored")
    names = list(models(options.work, device))
    for precision in FORMATS[device]:
        for name, weights in names:
            row = {"model": name, "MP": megapixels, "precision": precision}
            if deadline.left() < _LEAST[device]:
                emit(TABLE, **row, error=LEFT_OUT)
                continue
            with row_of_errors(TABLE, **row):
                if device == "cuda":
                    torch.cuda.reset_peak_memory_stats()
                seconds, row["precision"] = measured(weights, device, precision, jobs)
                total = sum(seconds[stage] for stage in ("read", "restore", "write"))
                columns = {f"{stage}, s": value for stage, value in seconds.items()}
                peak = torch.cuda.max_memory_allocated() / 2**30 if device == "cuda" else 0.0
                emit(TABLE, **row, **columns, **{"without JPEG, s": total - coding, "GB": peak})
    if device == "cuda":
        copies(torch.device(device), round(1e6 * megapixels))


if __name__ == "__main__":
    main()
