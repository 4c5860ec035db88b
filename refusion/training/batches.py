"""Which samples each process sees at each step: a function of the step alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from refusion.devices.processes import World
from refusion.errors import ConfigError


@dataclass(frozen=True)
class BatchShares:
    """This process's parts of the batches of steps `start` to `stop - 1`.

    A batch is cut among the processes, and each process's share into equal parts that are
    computed one after the other (gradient accumulation). So the samples of a step, and the mean
    over them, depend neither on the number of processes nor on that of parts.

    Attributes:
        batch_size: samples of a step over all processes.
        parts: parts of a share.
        world: this process among the others.
        start: first step.
        stop: step after the last one.

    Raises:
        ConfigError: the batch cannot be cut into equal parts.
    """

    batch_size: int
    parts: int
    world: World
    start: int
    stop: int

    def __post_init__(self) -> None:
        """Check that all parts have the same size, which makes their mean that of the batch."""
        if self.batch_size % (self.world.size * self.parts):
            raise ConfigError(
                f"data.batch_size: {self.batch_size} samples cannot be cut into "
                f"{self.world.size} processes x {self.parts} parts (train.accumulate) of equal size"
            )

    def indices(self, step: int, part: int) -> range:
        """Numbers in the stream of the samples of one part, >= 0."""
        size = self.batch_size // (self.world.size * self.parts)
        first = step * self.batch_size + (self.world.rank * self.parts + part) * size
        return range(first, first + size)

    def __iter__(self) -> Iterator[range]:
        for step in range(self.start, self.stop):
            for part in range(self.parts):
                yield self.indices(step, part)

    def __len__(self) -> int:
        """Number of parts of all steps."""
        return (self.stop - self.start) * self.parts
