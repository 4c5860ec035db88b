"""Names and shapes of the tensors that the networks of a weights file need."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NoReturn

import torch

from refusion.config import ModelConfig
from refusion.config.networks import network_shapes
from refusion.errors import CheckpointError, ConfigError, printable

PARTS = ("network", "latent_unet")
_LARGEST_VALUE = 8  # bytes of a value in a file
_SPARE = 2**20  # bytes; small files with wrong tensors get a message that names them


def fail(path: Path, message: str) -> NoReturn:
    """Raise a CheckpointError that names the file."""
    raise CheckpointError(f"{printable(path, 200)}: {message}") from None


def expected_shapes(path: Path, model: ModelConfig) -> dict[str, torch.Size]:
    """Shapes of the tensors of all networks of a model by their names in the file.

    Args:
        path: the file, for the message.
        model: config of the model.

    Raises:
        CheckpointError: a network cannot be built from the config, or is too large.
    """
    shapes: dict[str, torch.Size] = {}
    for part in PARTS:
        component = getattr(model, part)
        try:
            own = {} if component is None else network_shapes(component)
        except ConfigError as error:
            fail(path, f"stored config: {part} {error}")
        shapes |= {f"{part}.{name}": shape for name, shape in own.items()}
    return shapes


def check_size(path: Path, shapes: Mapping[str, torch.Size]) -> None:
    """Check, before tensors are read, that a file is not much larger than its networks.

    Args:
        path: the file.
        shapes: shapes of the tensors of its networks.

    Raises:
        CheckpointError: it is larger.
    """
    size, values = path.stat().st_size, sum(map(math.prod, shapes.values()))
    largest = _LARGEST_VALUE * values + 2 * _SPARE
    if size > largest:
        fail(
            path,
            f"is {size} bytes long, but the networks of its stored config have {values} values, "
            f"at most {largest} bytes; use the file as it was written",
        )


def check_shapes(
    path: Path, found: Mapping[str, torch.Size], shapes: Mapping[str, torch.Size]
) -> None:
    """Check that a file has exactly the tensors of its networks.

    Args:
        path: the file, for the message.
        found: shapes of the tensors in the file.
        shapes: shapes of the tensors of its networks.

    Raises:
        CheckpointError: lists the first tensors that are missing, unexpected or of another shape.
    """
    problems = {
        "missing": [name for name in shapes if name not in found],
        "unexpected": [name for name in found if name not in shapes],
        "wrong shape": [
            f"{name} {tuple(found[name])} instead of {tuple(shape)}"
            for name, shape in shapes.items()
            if name in found and found[name] != shape
        ],
    }
    if any(problems.values()):
        lines = "; ".join(f"{what}: {_first(names)}" for what, names in problems.items() if names)
        fail(
            path,
            f"its tensors do not fit its stored config. {lines}. Use the file as it was written, "
            "with the version of refusion that wrote it",
        )


def _first(names: Iterable[str], limit: int = 3) -> str:
    names = sorted(names)
    more = f", ... ({len(names)} in all)" if len(names) > limit else ""
    return ", ".join(printable(name, 60) for name in names[:limit]) + more
