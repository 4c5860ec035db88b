"""Validation during training: averaged weights, whole images, metrics against the input."""

from __future__ import annotations

import logging
import statistics
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from refusion.config import find_table
from refusion.inference.resize import beside, shrink
from refusion.metrics import score_pair
from refusion.schema import NamedComponent
from refusion.training.stage import Viewer

if TYPE_CHECKING:
    from refusion.training.trainer import Trainer

PICTURES = 2  # pairs per validation set shown in TensorBoard
PICTURE_SIDE = 512  # pixels

logger = logging.getLogger(__name__)


@torch.inference_mode()
def validate(trainer: Trainer, board: SummaryWriter | None) -> dict[str, float]:
    """Mean metrics over each validation set, logged and shown; processes share the pictures.

    Returns:
        Means by name ``<set>/<picture>/<metric>``; the picture ``input`` is the degraded image.
    """
    means: dict[str, float] = {}
    view = trainer.stage.viewer(trainer.model(), trainer.device)
    for section in trainer.config.data.validation:
        rows = _rows(trainer, view, section, board)
        names = {name: None for row in rows for name in row}
        means |= {
            f"{section.name}/{name}": statistics.fmean(row[name] for row in rows) for name in names
        }
    for name, value in means.items():
        if board is not None:
            board.add_scalar(name, value, trainer.step)
        logger.info("validation at step %d: %s %.4f", trainer.step, name, value)
    return means


def _rows(
    trainer: Trainer, view: Viewer, section: NamedComponent, board: SummaryWriter | None
) -> list[dict[str, float]]:
    """Metrics of every picture of a set, in its order, whichever process measured it."""
    world, seed = trainer.world, trainer.config.train.seed
    dataset = find_table("datasets")[section.type](**section.settings, seed=seed)
    own = []
    for index in range(world.rank, len(dataset), world.size):
        item = _batch_of(dataset[index], trainer.device)
        lq, gt = item["lq"], item["gt"]
        pictures = {"input": (beside(lq, gt), gt), **view(item)}
        row = {
            f"{name}/{metric}": float(value)
            for name, (picture, target) in pictures.items()
            for metric, value in score_pair(picture, target).items()
        }
        own.append((index, row))
        if board is not None and len(own) <= PICTURES:
            shown = [*(picture for picture, _ in pictures.values()), gt]
            board.add_image(f"{section.name}/{index}", _strip(shown), trainer.step)
    measured = [pair for part in world.gathered(own) for pair in part]
    return [row for _, row in sorted(measured, key=lambda pair: pair[0])]


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
