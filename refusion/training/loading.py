"""Batches on the device from the data set of a config, optionally through cached latents."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from refusion.config import RunConfig, config_to_dict, find_table
from refusion.config.parser import Component
from refusion.errors import ConfigError
from refusion.randomness import keyed_generator
from refusion.training.batches import BatchShares
from refusion.training.interrupts import ignore_interrupts
from refusion.training.latents import LatentPairs, cache_key, load_latents, store_latents
from refusion.training.paths import FOLDER_KEYS

logger = logging.getLogger(__name__)
Batch = dict[str, Tensor]


class Encoder(Protocol):
    """Function that encodes a batch of images to the pairs that a diffusion is trained on."""

    def __call__(self, batch: Batch) -> Batch:
        """Encode `lq`, `gt` to `mu`, `x0`; conditions of the network are kept."""


def to_device(batch: Batch, device: torch.device) -> Batch:
    """Move a batch to a device; images get the layout channels-last, for fast convolutions."""

    def moved(value: Tensor) -> Tensor:
        layout = torch.channels_last if value.ndim == 4 else torch.contiguous_format
        return value.to(device, non_blocking=True, memory_format=layout)

    return {name: moved(value) for name, value in batch.items()}


def training_set(config: RunConfig) -> Any:
    """Make the endless stream of image pairs that a run trains on.

    Raises:
        ConfigError: the data cannot be used, or the data set is finite.
    """
    component = config.data.train
    dataset = find_table("datasets")[component.type](**component.settings, seed=config.train.seed)
    try:
        count = len(dataset)
    except TypeError:  # an endless stream has no length
        return dataset
    raise ConfigError(
        f"data.train: a set of {count} samples ends, but training needs an endless stream of "
        "patches: set 'patch', leave out 'whole' and 'length'"
    )


def latent_round(config: RunConfig, step: int) -> int:
    """Number of times that the cached latents were replaced before a step."""
    return step // (config.data.refresh_latents or config.train.steps)


def latent_set(
    config: RunConfig, folder: Path, encode: Encoder, encoder_key: str, step: int, *, make: bool
) -> LatentPairs:
    """Latents of `cached_latents` samples, read from the run folder or encoded.

    They are the first samples of the stream, or with `refresh_latents` the samples of the step's
    round.

    Args:
        config: config of the run.
        folder: run folder.
        encode: function that moves a batch to the device and encodes it.
        encoder_key: fingerprint of the encoder's weights and dtype.
        step: current step of the run.
        make: whether this process may encode missing latents.

    Raises:
        ConfigError: the latents are missing, and another process should have written them.
    """
    seed, plain = config.train.seed, config_to_dict(config)
    described = [plain["data"]["train"], plain["upscale"], config.data.cached_latents]
    number = latent_round(config, step)
    key = cache_key([*described, _file_versions(config.data.train), seed, encoder_key, number])
    path = folder / "latents.safetensors"
    pairs = load_latents(path, key)
    if pairs is None and make:
        store_latents(path, key, _encoded(config, encode, number))
        pairs = load_latents(path, key)
    if pairs is None:
        raise ConfigError(
            f"{path}: written by process 0, but not visible for this process; use a run folder "
            "(--runs) on a disk that all processes share"
        )
    return LatentPairs(pairs, seed)


def batches(
    dataset: Any, shares: BatchShares, *, workers: int, seed: int, device: torch.device
) -> Iterator[Batch]:
    """This process's parts of all batches, in order, on the device.

    Args:
        dataset: endless stream of samples.
        shares: indices of the samples of each part.
        workers: number of loader processes; 0 loads in this process.
        seed: seed of the loader processes.
        device: device of the batches.
    """
    loader = DataLoader(
        dataset,
        batch_sampler=shares,
        num_workers=workers,
        generator=keyed_generator(seed),  # else the global generator would be used
        pin_memory=device.type == "cuda",
        prefetch_factor=4 if workers else None,
        worker_init_fn=ignore_interrupts,
    )
    for batch in loader:
        yield to_device(batch, device)


def _file_versions(component: Component) -> list[tuple[str, int, int]]:
    """Path, size and modification time of all files that a data set and its degradation read."""
    found = []
    for key, value in component.settings.items():
        for part in value if isinstance(value, (list, tuple)) else [value]:
            if isinstance(part, Component):
                found += _file_versions(part)
            elif key in FOLDER_KEYS and part is not None:
                files = sorted(path for path in Path(part).rglob("*") if path.is_file())
                stats = [(str(path), path.stat()) for path in files]
                found += [(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats]
    return found


def _encoded(config: RunConfig, encode: Encoder, number: int) -> Iterator[Batch]:
    """Encode the pairs of a round in batches; the rounds have no sample in common."""
    data, first = config.data, number * config.data.cached_latents
    loader = DataLoader(
        training_set(config),
        batch_size=data.batch_size,
        sampler=range(first, first + data.cached_latents),
        num_workers=data.workers,
        generator=keyed_generator(config.train.seed),
        worker_init_fn=ignore_interrupts,
    )
    for index, batch in enumerate(loader):
        if index % 50 == 0:
            done = index * data.batch_size
            logger.info("encoding latents: %d of %d pairs", done, data.cached_latents)
        yield encode(batch)
