"""The processes that work together, as `torchrun` starts them; alone, a world of one."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from refusion.devices.precision import choose_device
from refusion.errors import ConfigError

TIMEOUT = timedelta(hours=6)  # others wait while one encodes latents


@dataclass(frozen=True)
class World:
    """This process among those that train, or restore a folder, together.

    Attributes:
        rank: number of this process; 0 writes files and speaks.
        size: number of processes.
    """

    rank: int = 0
    size: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and speaks."""
        return self.rank == 0

    def mean(self, values: Tensor) -> Tensor:
        """Mean of each element over the processes."""
        if self.size == 1:
            return values
        values = values.clone()
        dist.all_reduce(values)
        return values / self.size

    def any(self, flag: bool, device: torch.device) -> bool:
        """Whether the flag is set in any process; all come to the same answer."""
        return bool(self.mean(torch.tensor(float(flag), device=device)) > 0)

    def gathered(self, value: Any) -> list[Any]:
        """The values of all processes, in the order of their ranks."""
        if self.size == 1:
            return [value]
        values = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    def wait(self) -> None:
        """Return once all processes are here."""
        if self.size > 1:
            dist.barrier()


SINGLE_PROCESS = World()


@contextlib.contextmanager
def join_processes(device: str) -> Iterator[tuple[World, torch.device]]:
    """Join the processes `torchrun` started; NCCL between GPUs, gloo between processors.

    Args:
        device: 'auto', 'cpu' or 'cuda'; with 'cuda' each process takes the GPU of its local rank.

    Raises:
        ConfigError: more processes on a machine than GPUs, or an unknown device.
    """
    chosen = choose_device(device)
    if not os.environ.keys() >= {"RANK", "LOCAL_RANK", "WORLD_SIZE"}:
        yield SINGLE_PROCESS, chosen
        return
    world = World(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]))
    if chosen.type == "cuda":
        local, gpus = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
        if local >= gpus:
            raise ConfigError(
                f"device: torchrun started more processes than the {gpus} GPUs of this machine; "
                f"use --nproc-per-node {gpus}"
            )
        chosen = torch.device("cuda", local)
        torch.cuda.set_device(chosen)
    dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo", timeout=TIMEOUT)
    try:
        yield world, chosen
    finally:
        dist.destroy_process_group()
