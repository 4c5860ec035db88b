"""Training and inference speed of the networks of option files, against the speed of the card.

python -m benchmarks.gpu.networks --options options/dehaze.yml --device cuda --seconds 60

A step is the forward pass, an L1 loss, the backward pass and a fused AdamW, with random images that
already lie on the device. The FLOP of one image are counted by PyTorch (convolutions, matrix
products and attention). "of peak" compares them with the fastest product of two large matrices that
was measured on this card in the same number format.
"""

from __future__ import annotations

import argparse
import inspect
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.gpu.rows import LEFT_OUT, Deadline, emit, row_of_errors
from refusion.config import RunConfig, load_config
from refusion.config.parser import Component
from refusion.nets import NETS, LatentUNet

TABLE, PEAK = "networks", "largest matrix product"
MATRIX = {"cuda": 8192, "cpu": 512}  # side
LATENT_FACTOR = 8  # pixels of a photo per pixel of a latent; used if the U-Net's file is missing
SIDES = {"cpu": 64, "cuda": 1024}  # largest side of the images
MEASURED = {"cuda": 1.0, "cpu": 0.2}  # seconds of a measurement
COMPILATION = 90.0  # seconds that the compilation of a network may take


@dataclass(frozen=True)
class Variant:
    """How a step is computed.

    Attributes:
        precision: 'bf16', 'tf32' or 'fp32'.
        layout: 'channels-last' or 'contiguous'.
        mode: 'eager', 'graph' (CUDA graph of the whole step) or 'compile'.
    """

    precision: str
    layout: str = "channels-last"
    mode: str = "eager"


# The most important ones first, because the time may end.
VARIANTS = {
    "cuda": (
        Variant("bf16"),
        Variant("bf16", mode="graph"),
        Variant("tf32"),
        Variant("bf16", "contiguous"),
        Variant("fp32"),
        Variant("bf16", mode="compile"),
    ),
    "cpu": (Variant("fp32"), Variant("fp32", "contiguous"), Variant("bf16")),
}


@dataclass(frozen=True)
class Case:
    """A network and its inputs.

    Attributes:
        network: the network, on the device.
        inputs: its arguments.
        target: tensor of the shape of its result.
    """

    network: nn.Module
    inputs: tuple[Any, ...]
    target: Tensor

    @property
    def batch(self) -> int:
        """Number of images."""
        return len(self.target)


def build_case(config: RunConfig, device: torch.device, batch: int, side: int) -> Case:
    """The trained network of an option file with random weights and images.

    Args:
        config: content of the option file.
        device: device of the network and the images.
        batch: number of images.
        side: side of the images in pixels of the photo.
    """
    component = config.network or config.latent_unet
    settings = dict(component.settings)
    with torch.device(device):
        network = NETS[component.type](**settings)
        if isinstance(network, LatentUNet):
            x = torch.rand(batch, settings.get("in_ch", 3), side, side)
            return Case(network, (x,), torch.rand(batch, network.out_ch, side, side))
        channels = settings.get("img_channel", 3) * (2 if settings.get("stereo") else 1)
        side = side if config.latent_unet is None else max(1, side // _factor(config))
        x, target = (torch.rand(batch, channels, side, side) for _ in range(2))
        if getattr(network, "is_regression", False):
            return Case(network, (x,), target)
        times = torch.randint(1, 100, (batch,))
        if "mu" not in inspect.signature(network.forward).parameters:
            return Case(network, (x, times), target)
        more = []
        if settings.get("lens") or settings.get("guide"):
            more.append(torch.rand(batch, 3) * 100 if settings.get("lens") else None)
        if settings.get("guide"):
            more.append(torch.rand(batch, settings["guide"], side, side))
        return Case(network, (x, torch.rand_like(x), times, *more), target)


def _factor(config: RunConfig) -> int:
    unet = config.latent_unet
    if isinstance(unet, Component):
        return 2 ** (len(unet.settings.get("ch_mult", (1,) * 4)) - 1)
    return LATENT_FACTOR


def flop(case: Case) -> tuple[int, int]:
    """FLOP of one image forward, and of one image forward and backward."""
    one = tuple(x[:1] if isinstance(x, Tensor) else x for x in case.inputs)
    with FlopCounterMode(display=False) as forward, torch.no_grad():
        run(case.network, one)
    with FlopCounterMode(display=False) as both:
        run(case.network, one).float().abs().mean().backward()
    case.network.zero_grad(set_to_none=True)
    return forward.get_total_flops(), both.get_total_flops()


def run(network: nn.Module, inputs: tuple[Any, ...]) -> Tensor:
    """The result of a network; of a latent U-Net, the reconstruction of the image."""
    if isinstance(network, LatentUNet):
        latent = network.encode(*inputs)
        return network.decode(latent.z, latent.skips, latent.size)
    return network(*inputs)


def steps_of(case: Case, variant: Variant, device: torch.device) -> dict[str, Callable[[], Any]]:
    """Functions that compute one training step and one forward pass."""
    layout = torch.channels_last if variant.layout == "channels-last" else torch.contiguous_format
    network = case.network.to(memory_format=layout)
    inputs = tuple(
        x.to(memory_format=layout) if isinstance(x, Tensor) and x.ndim == 4 else x
        for x in case.inputs
    )
    dtype = torch.bfloat16 if variant.precision == "bf16" else torch.float32
    is_graph = variant.mode == "graph"
    more = {"capturable": True} if is_graph else {}
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-6, fused=True, **more)
    function = torch.compile(run) if variant.mode == "compile" else run

    def cast() -> torch.autocast:
        # The cache of weights is per region; with a graph it would keep old weights.
        narrow = dtype == torch.bfloat16
        return torch.autocast(device.type, dtype=dtype, enabled=narrow, cache_enabled=not is_graph)

    def train() -> None:
        optimizer.zero_grad(set_to_none=True)
        with cast():
            loss = (function(network, inputs) - case.target).abs().mean()
        loss.backward()
        optimizer.step()

    def infer() -> None:
        with torch.no_grad(), cast():
            function(network, inputs)

    if not is_graph:
        return {"train": train, "infer": infer}
    return {name: captured(step) for name, step in {"train": train, "infer": infer}.items()}


def captured(step: Callable[[], None]) -> Callable[[], None]:
    """A CUDA graph of a step."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


def seconds_of(step: Callable[[], Any], device: torch.device, seconds: float) -> float:
    """Median seconds of a step, after one that is not counted.

    On a GPU a measurement has several steps between two synchronizations, because a training does
    not wait for each step.
    """
    is_gpu = device.type == "cuda"
    wait = torch.cuda.synchronize if is_gpu else lambda: None
    times: list[float] = []
    step()
    wait()
    end, count = time.perf_counter() + seconds, 4 if is_gpu else 1
    while not times or time.perf_counter() < end:
        begun = time.perf_counter()
        for _ in range(count):
            step()
        wait()
        times.append((time.perf_counter() - begun) / count)
    return median(times)


def peaks(device: torch.device) -> dict[str, float]:
    """FLOP per second of the product of two large matrices, by number format; emits a row each."""
    side, found = MATRIX[device.type], {}
    for name in dict.fromkeys(variant.precision for variant in VARIANTS[device.type]):
        with row_of_errors(PEAK, precision=name):
            set_tf32(name)
            dtype = torch.bfloat16 if name == "bf16" else torch.float32
            a, b = (torch.rand(side, side, device=device, dtype=dtype) for _ in range(2))
            rate = 2 * side**3 / seconds_of(lambda: a @ b, device, MEASURED[device.type] / 3)  # noqa: B023
            found[name] = rate
            emit(PEAK, precision=name, **{"TFLOP/s": rate / 1e12})
    return found


def set_tf32(precision: str) -> None:
    """Allow TF32 in float32 products, unless `precision` is 'fp32'."""
    is_allowed = precision != "fp32"
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = is_allowed


def measurements(deadline: Deadline, files: list[Path], device: torch.device) -> Iterator[dict]:
    """Names of all measurements, variant by variant, so that every network has a row early."""
    for variant in VARIANTS[device.type]:
        for file in files:
            row = {"options": file.stem, "precision": variant.precision}
            row |= {"layout": variant.layout, "mode": variant.mode}
            least = 1.5 + 2 * MEASURED[device.type]
            least += COMPILATION if variant.mode == "compile" else 0
            if deadline.left() < least:
                emit(TABLE, **row, error=LEFT_OUT)
                continue
            yield {"variant": variant, "file": file, "row": row}


def measure(file: Path, variant: Variant, row: dict, device: torch.device, peak: dict) -> None:
    """Measure a network in one variant and emit its row."""
    config = load_config(file)
    batch = config.data.batch_size if device.type == "cuda" else 1
    side = min(SIDES[device.type], config.data.train.settings.get("patch", 256))
    case = build_case(config, device, batch, side)
    forward, both = flop(case)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    set_tf32(variant.precision)
    columns: dict[str, Any] = {"batch": batch, "side": case.target.shape[-1]}
    for name, step in steps_of(case, variant, device).items():
        spent = seconds_of(step, device, MEASURED[device.type])
        rate = batch / spent
        work = rate * (both if name == "train" else forward)
        columns |= {f"{name}, img/s": rate, f"{name}, TFLOP/s": work / 1e12}
        if variant.precision in peak:
            columns[f"{name}, of peak"] = f"{work / peak[variant.precision]:.0%}"
    if device.type == "cuda":
        columns["GB"] = torch.cuda.max_memory_allocated() / 2**30
    emit(TABLE, **row, **columns)


def main(argv: list[str] | None = None) -> None:
    """Measure until the time is up."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu.networks")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--photos", help="not used")
    parser.add_argument("--options", nargs="+", type=Path, required=True)
    options = parser.parse_args(argv)
    deadline, device = Deadline(options.seconds), torch.device(options.device)
    peak = peaks(device)
    for each in measurements(deadline, options.options, device):
        with row_of_errors(TABLE, **each["row"]):
            measure(each["file"], each["variant"], each["row"], device, peak)
        if device.type == "cuda":
            torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
