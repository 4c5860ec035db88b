"""From the dataset of a config to batches on the device, through cached latents where asked for."""

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
    """What turns a batch of images into the pairs that a diffusion is trained on."""

    def __call__(self, batch: Batch) -> Batch:
        """`lq`, `gt` and more -> `mu`, `x0` and more."""


def to_device(batch: Batch, device: torch.device) -> Batch:
    """Move a batch; images become channels-last, which convolutions are fastest on."""

    def moved(value: Tensor) -> Tensor:
        layout = torch.channels_last if value.ndim == 4 else torch.contiguous_format
        return value.to(device, non_blocking=True, memory_format=layout)

    return {name: moved(value) for name, value in batch.items()}


def training_set(config: RunConfig) -> Any:
    """The endless stream of image pairs that a run trains on.

    Raises:
        ConfigError: the data cannot be used, or are whole photos or a stream that ends.
    """
    component = config.data.train
    dataset = find_table("datasets")[component.type](**component.settings, seed=config.train.seed)
    try:
        count = len(dataset)
    except TypeError:  # what an endless stream answers
        return dataset
    raise ConfigError(
        f"data.train: a set of {count} samples ends; training needs patches without end: set "
        "'patch', leave out 'whole' and 'length'"
    )


def latent_round(config: RunConfig, step: int) -> int:
    """How often latents were made anew before a step."""
    return step // (config.data.refresh_latents or config.train.steps)


def latent_set(
    config: RunConfig, folder: Path, encode: Encoder, encoder_key: str, step: int, *, make: bool
) -> LatentPairs:
    """Latents of `cached_latents` samples, from the run folder if they are there.

    They are the first ones of the stream, or with `refresh_latents` those of the step's round.

    Args:
        config: the run.
        folder: the run's folder.
        encode: moves a batch to the device and encodes it.
        encoder_key: fingerprint of its weights and number format.
        step: of the run.
        make: whether this process may encode what is missing.

    Raises:
        ConfigError: they are missing and another process should have made them.
    """
    seed, plain = config.train.seed, config_to_dict(config)
    described = [plain["data"]["train"], plain["upscale"], config.data.cached_latents]
    number = latent_round(config, step)
    key = cache_key([*described, _photos_of(config.data.train), seed, encoder_key, number])
    path = folder / "latents.safetensors"
    pairs = load_latents(path, key)
    if pairs is None and make:
        store_latents(path, key, _encoded(config, encode, number))
        pairs = load_latents(path, key)
    if pairs is None:
        raise ConfigError(
            f"{path}: process 0 made it but this one does not see it; give all processes one "
            "run folder (--runs) on a shared disk"
        )
    return LatentPairs(pairs, seed)


def batches(
    dataset: Any, shares: BatchShares, *, workers: int, seed: int, device: torch.device
) -> Iterator[Batch]:
    """This process's parts of all batches, in order, on the device."""
    loader = DataLoader(
        dataset,
        batch_sampler=shares,
        num_workers=workers,
        generator=keyed_generator(seed),  # else workers are seeded from the global generator
        pin_memory=device.type == "cuda",
        prefetch_factor=4 if workers else None,
        worker_init_fn=ignore_interrupts,
    )
    for batch in loader:
        yield to_device(batch, device)


def _photos_of(component: Component) -> list[tuple[str, int, int]]:
    """Name, size and time of every file that a dataset, or its degradation, may read."""
    found = []
    for key, value in component.settings.items():
        for part in value if isinstance(value, (list, tuple)) else [value]:
            if isinstance(part, Component):
                found += _photos_of(part)
            elif key in FOLDER_KEYS and part is not None:
                files = sorted(path for path in Path(part).rglob("*") if path.is_file())
                stats = [(str(path), path.stat()) for path in files]
                found += [(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats]
    return found


def _encoded(config: RunConfig, encode: Encoder, number: int) -> Iterator[Batch]:
    """Pairs of a round, a batch at a time; the rounds share no sample."""
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
