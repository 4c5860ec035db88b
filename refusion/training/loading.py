"""Batches on the device from the data set of a config, optionally through cached latents."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from refusion.config import RunConfig, config_to_dict, find_table
from refusion.config.parser import Component
from refusion.devices.processes import World
from refusion.errors import ConfigError
from refusion.training.batches import shares_of
from refusion.training.failures import shared_failure
from refusion.training.latents import LatentPairs, cache_key, load_latents, store_latents
from refusion.training.paths import FOLDER_KEYS
from refusion.training.run_folder import LATENTS
from refusion.training.workers import Batch, load_batches

TITLE = "data.train"  # of the samples, in messages

logger = logging.getLogger(__name__)


class Encoder(Protocol):
    """Function that encodes a batch of images to the pairs that a diffusion is trained on."""

    def __call__(self, batch: Batch) -> Batch:
        """Encode `lq`, `gt` to `mu`, `x0`; conditions of the network are kept."""


@dataclass(frozen=True)
class BatchStream:
    """The batches of a run on the device of this process, from any step on.

    Attributes:
        config: config of the run.
        folder: run folder.
        world: rank of this process and number of processes.
        device: device of the batches.
        encode: function that moves a batch to the device and encodes it, for cached latents.
        encoder_key: fingerprint of the encoder's weights and dtype.
        limit: function that returns the seconds which encoding may take now, None for no limit.
    """

    config: RunConfig
    folder: Path
    world: World
    device: torch.device
    encode: Encoder
    encoder_key: str
    limit: Callable[[], float | None] = lambda: None

    def batches(self, step: int) -> Iterator[Batch]:
        """This process's parts of the batches from a step on; encodes missing latents at once.

        Close the iterator (`contextlib.closing`) after use: it ends the worker processes.

        Raises:
            ConfigError: the data cannot be used.
            SampleError: a sample cannot be made.
        """
        data, stop = self.config.data, self.config.train.steps
        if data.cached_latents:
            return self._rounds(self._latents(step), step)
        return self._loaded(training_set(self.config), data.workers, step, stop)

    def _rounds(self, latents: LatentPairs, step: int) -> Iterator[Batch]:
        """Batches from the latents of the current round, then from those of the next rounds."""
        last, every = self.config.train.steps, self.config.data.refresh_latents
        while True:
            ends = [end for end in (last, every and (step // every + 1) * every) if end is not None]
            stop = min(ends, default=None)
            yield from self._loaded(latents, 0, step, stop)  # endless if there is no end
            if stop == last:
                return
            latents, step = self._latents(stop), stop

    def _loaded(self, dataset: Any, workers: int, start: int, stop: int | None) -> Iterator[Batch]:
        """Batches of a data set from step `start` to step `stop` - 1, without an end for None."""
        how = {"title": TITLE, "workers": workers, "seed": self.config.train.seed}
        shares = shares_of(self.config, self.world, start, stop)
        loaded = load_batches(dataset, shares, **how, pin_memory=self.device.type == "cuda")
        with contextlib.closing(loaded):
            yield from copied_ahead(loaded, self.device)

    def _latents(self, step: int) -> LatentPairs:
        """Latents of a step; the main process encodes them, then the others read them."""
        found: list[LatentPairs] = []
        for makes in (True, False):
            with shared_failure(self.world):
                if makes == self.world.is_main:
                    where = (self.config, self.folder, self.encode, self.encoder_key, step)
                    found.append(latent_set(*where, make=makes, limit_s=self.limit()))
        return found[0]


def copied_ahead(batches: Iterable[Batch], device: torch.device) -> Iterator[Batch]:
    """Move batches to a device; a GPU copies the next batch while it computes with the current one.

    Args:
        batches: batches on the CPU, in page-locked memory if the device is a GPU.
        device: device of the returned batches.
    """
    if device.type != "cuda":
        for batch in batches:
            yield to_device(batch, device)
        return
    side, ahead = torch.cuda.Stream(device), None
    for batch in batches:
        with torch.cuda.stream(side):
            copied = to_device(batch, device)
        if ahead is not None:
            yield _received(ahead, side)
        ahead = copied
    if ahead is not None:
        yield _received(ahead, side)


def _received(batch: Batch, side: torch.cuda.Stream) -> Batch:
    """A batch that another stream has copied, for use in the current stream."""
    current = torch.cuda.current_stream(side.device)
    current.wait_stream(side)
    for value in batch.values():
        value.record_stream(current)  # its memory is not reused before the current stream is done
    return batch


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
    every = config.data.refresh_latents or config.train.steps
    return 0 if every is None else step // every


def latent_set(
    config: RunConfig,
    folder: Path,
    encode: Encoder,
    encoder_key: str,
    step: int,
    *,
    make: bool,
    limit_s: float | None = None,
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
        limit_s: seconds after which no further batch is encoded; None for no limit. With a limit
            the file may contain fewer pairs.

    Raises:
        ConfigError: the latents are missing, and another process should have written them.
    """
    seed, plain = config.train.seed, config_to_dict(config)
    described = [plain["data"]["train"], plain["upscale"], config.data.cached_latents]
    number = latent_round(config, step)
    key = cache_key([*described, _file_versions(config.data.train), seed, encoder_key, number])
    path = folder / LATENTS
    pairs = load_latents(path, key)
    is_short = pairs is not None and len(pairs["mu"]) < config.data.cached_latents
    if (pairs is None or (is_short and limit_s is None)) and make:
        with contextlib.closing(_encoded(config, encode, number, limit_s)) as encoded:
            store_latents(path, key, encoded)
        pairs = load_latents(path, key)
    if pairs is None:
        raise ConfigError(
            f"{path}: written by process 0, but not visible for this process; use a run folder "
            "(--runs) on a disk that all processes share"
        )
    return LatentPairs(pairs, seed)


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


def _encoded(
    config: RunConfig, encode: Encoder, number: int, limit_s: float | None
) -> Iterator[Batch]:
    """Encode the pairs of a round in batches; the rounds have no sample in common."""
    begun = time.monotonic()
    data, first = config.data, number * config.data.cached_latents
    samples = range(first, first + data.cached_latents)
    parts = [samples[i : i + data.batch_size] for i in range(0, len(samples), data.batch_size)]
    how = {"title": TITLE, "workers": data.workers, "seed": config.train.seed}
    with contextlib.closing(load_batches(training_set(config), parts, **how)) as loaded:
        for index, batch in enumerate(loaded):
            done = index * data.batch_size
            if index % 50 == 0:
                logger.info("encoding latents: %d of %d pairs", done, data.cached_latents)
            if limit_s is not None and index and time.monotonic() - begun > limit_s:
                logger.warning(
                    "encoding latents: a quarter of the remaining time is over, so the run uses "
                    "%d pairs instead of %d; lower data.cached_latents, or raise train.minutes and "
                    "remove %s",
                    done,
                    data.cached_latents,
                    LATENTS,
                )
                return
            yield encode(batch)
