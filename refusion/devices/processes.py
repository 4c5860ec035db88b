"""The process group that `torchrun` starts; a program started without it is a group of one."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from refusion.devices.precision import choose_device
from refusion.devices.rank import is_launched
from refusion.errors import ConfigError

TIMEOUT = timedelta(hours=6)  # long, because processes may wait while one encodes latents


@dataclass(frozen=True)
class World:
    """This process in its process group (world), which trains a model or restores a folder.

    Every method below is collective if `size` > 1: all processes must call it in the same order.

    Attributes:
        rank: number of this process, 0..size - 1; process 0 is the main process.
        size: number of processes in the group, >= 1.
    """

    rank: int = 0
    size: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this is the main process, which writes files and messages."""
        return self.rank == 0

    def mean(self, values: Tensor) -> Tensor:
        """Mean of each element over the processes.

        Args:
            values: floats of any shape, the same shape in all processes.

        Returns:
            The same shape, equal in all processes.
        """
        if self.size == 1:
            return values
        values = values.clone()
        dist.all_reduce(values)
        return values / self.size

    def any(self, flag: bool) -> bool:
        """Whether the flag is true in at least one process; equal in all processes.

        Args:
            flag: value of this process.
        """
        return self.largest([float(flag)])[0] > 0

    def largest(self, values: Sequence[float]) -> list[float]:
        """Largest value over the processes at each position; equal in all processes.

        Args:
            values: finite numbers, the same number of them in all processes.
        """
        if self.size == 1:
            return list(values)
        shared = torch.tensor(values, dtype=torch.float64)  # on the CPU: no wait for a GPU
        dist.all_reduce(shared, op=dist.ReduceOp.MAX)
        return shared.tolist()

    def gathered(self, value: Any) -> list[Any]:
        """The values of all processes, in the order of their ranks; picklable objects."""
        if self.size == 1:
            return [value]
        values = [None] * self.size
        dist.all_gather_object(values, value)
        return values


SINGLE_PROCESS = World()
"""The world of a program that was not started by `torchrun`."""


@contextlib.contextmanager
def join_processes(device: str) -> Iterator[tuple[World, torch.device]]:
    """Context in which this process belongs to the process group that `torchrun` started.

    The group communicates by NCCL on GPUs and by gloo on CPUs. Flags and other plain values are
    exchanged on the CPU, so that they do not wait for a GPU. Without `torchrun` there
    is no group and the world is `SINGLE_PROCESS`.

    Args:
        device: 'auto', 'cpu' or 'cuda'. With 'cuda' each process uses the GPU of its local rank.

    Yields:
        The world and the device of this process.

    Raises:
        ConfigError: a machine has more processes than GPUs, or the device is unknown or missing.
    """
    chosen = choose_device(device)
    if not is_launched():
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
    both = "cpu:gloo,cuda:nccl"
    dist.init_process_group(both if chosen.type == "cuda" else "gloo", timeout=TIMEOUT)
    try:
        yield world, chosen
    finally:
        dist.destroy_process_group()
