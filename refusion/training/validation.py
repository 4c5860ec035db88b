"""Validation during training: averaged weights, whole images, metrics against the input."""

from __future__ import annotations

import logging
import statistics
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from refusion.config import RunConfig, find_table
from refusion.devices.processes import World
from refusion.errors import ConfigError
from refusion.images.resize import resize_like, shrink
from refusion.metrics import score_pair
from refusion.training.stages.base import Viewer

PICTURES = 2  # pairs per validation set shown in TensorBoard
PICTURE_SIDE = 512  # pixels

logger = logging.getLogger(__name__)


@torch.inference_mode()
def validate(
    view: Viewer,
    sets: Mapping[str, Any],
    step: int,
    *,
    world: World,
    device: torch.device,
    board: SummaryWriter | None,
) -> dict[str, float]:
    """Mean metrics over each validation set, logged and shown; processes share the pictures.

    Args:
        view: restores the photos of an item, see `Stage.viewer`.
        sets: datasets of whole photos by name, see `validation_sets`.
        step: optimizer steps done.
        world: the processes that share the pictures.
        device: where photos go.
        board: where to show them, None for nowhere.

    Returns:
        Means by name ``<set>/<picture>/<metric>``; the picture ``input`` is the degraded image.
    """
    means: dict[str, float] = {}
    for name, dataset in sets.items():
        rows, pictures = _rows(view, dataset, world, device, shown=PICTURES if board else 0)
        for index, picture in pictures.items():
            board.add_image(f"{name}/{index}", picture, step)
        means |= {
            f"{name}/{metric}": statistics.fmean(row[metric] for row in rows) for metric in rows[0]
        }
    for name, value in means.items():
        if board is not None:
            board.add_scalar(name, value, step)
        logger.info("validation at step %d: %s %.4f", step, name, value)
    return means


def validation_sets(config: RunConfig) -> dict[str, Any]:
    """Datasets of whole photos by the names of the validation sets.

    Raises:
        ConfigError: a set cannot be used: it is endless, or its photos have no ground truth.
    """
    sets = {}
    for section in config.data.validation:
        dataset = find_table("datasets")[section.type](**section.settings, seed=config.train.seed)
        try:
            len(dataset)
        except TypeError:  # what an endless stream answers
            raise ConfigError(
                f"data.validation, set '{section.name}': its stream has no end; leave out 'patch', "
                "or set 'whole: true' (SyntheticPairs)"
            ) from None
        if "gt" not in dataset[0]:
            raise ConfigError(
                f"data.validation, set '{section.name}': its photos have no ground truth to be "
                "compared with"
            )
        sets[section.name] = dataset
    return sets


def _rows(
    view: Viewer, dataset: Any, world: World, device: torch.device, *, shown: int
) -> tuple[list[dict[str, float]], dict[int, Tensor]]:
    """Metrics of every picture of a set, in its order, whichever process measured it.

    Also strips of the first `shown` items of this process, by index.
    """
    own, strips = [], {}
    for index in range(world.rank, len(dataset), world.size):
        item = _batch_of(dataset[index], device)
        lq, gt = item["lq"], item["gt"]
        pictures = {"input": (resize_like(lq, gt), gt), **view(item)}
        row = {
            f"{name}/{metric}": float(value)
            for name, (picture, target) in pictures.items()
            for metric, value in score_pair(picture, target).items()
        }
        own.append((index, row))
        if len(strips) < shown:
            strips[index] = _strip([*(picture for picture, _ in pictures.values()), gt])
    measured = [pair for part in world.gathered(own) for pair in part]
    return [row for _, row in sorted(measured, key=lambda pair: pair[0])], strips


def _batch_of(item: Mapping[str, Any], device: torch.device) -> dict[str, Tensor]:
    """Batch of one; the noise level, which is one for a whole batch, stays a number."""
    return {
        key: value[None].to(device) if value.ndim else value
        for key, value in item.items()
        if isinstance(value, Tensor)
    }


def _strip(pictures: Iterable[Tensor]) -> Tensor:
    """Pictures (1, C, H, W) side by side, small, (3, h, w); of a stereo pair the left view."""
    small = [shrink(x[:, :3].float().clamp(0, 1), PICTURE_SIDE) for x in pictures]
    return torch.cat(small, dim=-1)[0].cpu()
