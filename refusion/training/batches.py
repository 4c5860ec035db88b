"""Division of batches among processes; the samples of a step depend on the step alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count

from refusion.config import RunConfig
from refusion.devices.processes import World
from refusion.errors import ConfigError


@dataclass(frozen=True)
class BatchShares:
    """Indices of the samples of this process in the steps `start` to `stop` - 1.

    A batch is divided among the processes. The share of a process is divided into equal parts that
    are computed one after the other (gradient accumulation). So the samples of a step, and the mean
    over them, do not depend on the number of processes or parts.

    Attributes:
        batch_size: samples of a step over all processes.
        parts: number of parts of a share.
        world: rank of this process and number of processes.
        start: first step.
        stop: step after the last one; None for an endless run, whose time is limited.

    Raises:
        ConfigError: the batch cannot be divided into equal parts.
    """

    batch_size: int
    parts: int
    world: World
    start: int
    stop: int | None

    def __post_init__(self) -> None:
        """Check that all parts have the same size, so that the mean of their means is correct."""
        if self.batch_size % (self.world.size * self.parts):
            raise ConfigError(
                f"data.batch_size: {self.batch_size} samples cannot be divided into "
                f"{self.world.size} processes x {self.parts} parts (train.accumulate) of equal size"
            )

    def indices(self, step: int, part: int) -> range:
        """Indices >= 0 in the data stream of the samples of one part."""
        size = self.batch_size // (self.world.size * self.parts)
        first = step * self.batch_size + (self.world.rank * self.parts + part) * size
        return range(first, first + size)

    def __iter__(self) -> Iterator[range]:
        steps = count(self.start) if self.stop is None else range(self.start, self.stop)
        for step in steps:
            for part in range(self.parts):
                yield self.indices(step, part)

    def __len__(self) -> int:
        """Number of parts in all steps; a TypeError for an endless run."""
        return (self.stop - self.start) * self.parts


def shares_of(config: RunConfig, world: World, start: int, stop: int | None = None) -> BatchShares:
    """Samples of this process in the steps `start` to `stop` - 1 of a run, by default to its end.

    The end of a run whose time is limited is not known, so its stream may be endless.

    Raises:
        ConfigError: the batch cannot be divided among the processes.
    """
    size, train = config.data.batch_size, config.train
    return BatchShares(size, train.accumulate, world, start, stop or train.steps)
