"""What a run will do, before it trains: its options, its size, and its first training pairs."""

from __future__ import annotations

import contextlib
import logging
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from refusion.config import RunConfig
from refusion.devices.precision import choose_precision, precision_name
from refusion.devices.processes import World
from refusion.errors import ConfigError
from refusion.images.io import write_image
from refusion.images.resize import resize_like
from refusion.randomness import keyed_generator
from refusion.training.batches import shares_of
from refusion.training.loading import TITLE, to_device, training_set
from refusion.training.recomputation import recompute_blocks
from refusion.training.run_folder import config_text
from refusion.training.stages import build_stage
from refusion.training.stages.base import LossModule, Stage
from refusion.training.updates import SAMPLE_KEY
from refusion.training.workers import Batch, load_batches

PAIRS = "pairs"  # folder of the run with the pictures of `dump_pairs`
STATES = {"Lion": 1, "AdamW": 2, "Adam": 2}  # averages that an optimizer keeps per parameter

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class StepSize:
    """Size of one training step.

    Attributes:
        parameters: number of trained parameters.
        frozen: number of frozen parameters that the checkpoint contains, too.
        flops: floating-point operations of forward and backward pass for one sample, where a
            multiplication and an addition count as two; matrix products and convolutions only.
        saved: bytes that each sample keeps for the backward pass.
        shared: bytes that all samples of a part of the batch keep together: frozen weights, and
            weights in another number format.
    """

    parameters: int
    frozen: int
    flops: int
    saved: int
    shared: int


def describe(config: RunConfig, device: torch.device, world: World) -> list[str]:
    """Lines about a run: its options with all defaults, then its size. Nothing is written.

    One training sample is made, and its loss and gradient are computed.

    Args:
        config: config of the run.
        device: device on which the sample is computed.
        world: number of processes, which share the samples of a step.

    Raises:
        RefusionError: the data or the networks cannot be used.
    """
    stage = build_stage(config, device)
    if config.train.checkpoint_blocks:
        recompute_blocks(stage.module)
    with _sample(config) as batch:
        count = len(shares_of(config, world, 0, 1).indices(0, 0))
        size = measure_step(config, stage, to_device(batch, device), device, count)
    train, samples = config.train, config.data.batch_size
    states = 3 + STATES[train.optimizer.type]  # and gradient, average
    fixed = 4 * (size.parameters * states + size.frozen)
    part = size.shared + size.saved * count
    dtype = precision_name(choose_precision(train.precision, device))
    return [
        *config_text(config).splitlines(),
        f"# parameters: {size.parameters:,} trained, {size.frozen:,} frozen in the checkpoint",
        f"# one step: {size.flops * samples / 1e9:,.3f} GFLOP for {samples} samples, {dtype} on "
        f"{device.type}",
        f"# memory: {_mib(fixed + part)} MiB = {_mib(fixed)} MiB for weights, gradient, optimizer "
        f"and average + {_mib(part)} MiB for the backward pass of {count} samples; the libraries "
        "use more, and so do frozen networks that the checkpoint does not contain",
    ]


def _mib(size: int) -> str:
    return f"{size / 2**20:,.1f}"


def measure_step(
    config: RunConfig, stage: Stage, batch: Batch, device: torch.device, count: int
) -> StepSize:
    """Measure the size of a training step with a batch of one sample.

    If the run computes several samples at once, the loss of two is computed, too. The difference is
    what each sample keeps.

    Args:
        config: config of the run.
        stage: module and loss.
        batch: one training sample on the device, as a batch.
        device: device of the networks.
        count: number of samples that a process computes at once.
    """
    dtype = choose_precision(config.train.precision, device)
    with torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32):
        if config.data.cached_latents:
            batch = stage.encode(batch)  # once, before the steps
        with FlopCounterMode(display=False) as counter:
            total, saved = _loss(config, stage, batch, 1)
            total.backward()
        shared = 0
        if count > 1:
            one, two = saved, _loss(config, stage, batch, 2)[1]
            saved, shared = two - one, 2 * one - two
    return StepSize(
        parameters=sum(each.numel() for each in stage.module.parameters()),
        frozen=sum(each.numel() for each in stage.fixed.values()),
        flops=counter.get_total_flops(),
        saved=saved,
        shared=shared,
    )


def _loss(config: RunConfig, stage: Stage, batch: Batch, count: int) -> tuple[Tensor, int]:
    """Loss of `count` copies of a sample, and the bytes that are kept for its gradient."""
    copies = {name: torch.cat([value] * count) for name, value in batch.items()}
    generators = [keyed_generator(config.train.seed, SAMPLE_KEY, index) for index in range(count)]
    own = {each.untyped_storage().data_ptr() for each in stage.module.parameters()}
    saved: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        total = LossModule(stage)(copies, generators)["total"]
    return total, sum(saved.values())


@contextlib.contextmanager
def _sample(config: RunConfig) -> Iterator[Batch]:
    """The first training sample, as a batch; a data set with a cache uses a temporary one."""
    with tempfile.TemporaryDirectory(prefix="refusion-") as folder:
        train = config.data.train
        if "cache" in train.settings:
            train = replace(train, settings={**train.settings, "cache": folder})
        part = replace(config, data=replace(config.data, train=train))
        yield next(_batches(part, 1))


def _batches(config: RunConfig, count: int) -> Iterator[Batch]:
    """The first `count` training samples, each as a batch of one."""
    indices = [range(number, number + 1) for number in range(count)]
    how = {"title": TITLE, "workers": 0, "seed": config.train.seed}
    with contextlib.closing(load_batches(training_set(config), indices, **how)) as loaded:
        yield from loaded


def dump_pairs(config: RunConfig, folder: Path, count: int) -> Path:
    """Write the first training pairs as PNG files, the degraded photo beside the clean one.

    Args:
        config: config of the run.
        folder: run folder; it is created if it does not exist.
        count: number of pairs, >= 1.

    Returns:
        The folder of the files `00000.png` and so on.

    Raises:
        ConfigError: the folder cannot be created.
        SampleError: a sample cannot be made.
    """
    pairs = folder / PAIRS
    try:
        pairs.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{pairs}: cannot be created: {error.strerror}") from error
    for number, batch in enumerate(_batches(config, count)):
        lq, gt = batch["lq"][:, :3], batch["gt"][:, :3]
        picture = torch.cat([resize_like(lq, gt), gt], dim=-1).clamp(0, 1)
        write_image(pairs / f"{number:05}.png", picture[0])
    logger.info("%s: %d pairs, degraded beside clean", pairs, count)
    return pairs
