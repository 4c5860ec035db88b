"""The number of this process among those that `torchrun` started, without PyTorch."""

from __future__ import annotations

import os

_VARIABLES = {"RANK", "LOCAL_RANK", "WORLD_SIZE"}


def is_launched() -> bool:
    """Whether `torchrun` started this process."""
    return os.environ.keys() >= _VARIABLES


def is_main_process() -> bool:
    """Whether this process writes messages before it joins its process group; see `World`."""
    return not is_launched() or int(os.environ["RANK"]) == 0
