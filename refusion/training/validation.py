"""Validation during training: averaged weights, whole images, metrics against the input."""

from __future__ import annotations

import logging
import statistics
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from refusion.config import RunConfig, find_table
from refusion.errors import ConfigError
from refusion.inference.resize import beside, shrink
from refusion.metrics import score_pair
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
    for name, dataset in trainer.validation.items():
        rows = _rows(trainer, view, name, dataset, board)
        means |= {
            f"{name}/{metric}": statistics.fmean(row[metric] for row in rows) for metric in rows[0]
        }
    for name, value in means.items():
        if board is not None:
            board.add_scalar(name, value, trainer.step)
        logger.info("validation at step %d: %s %.4f", trainer.step, name, value)
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
    trainer: Trainer, view: Viewer, name: str, dataset: Any, board: SummaryWriter | None
) -> list[dict[str, float]]:
    """Metrics of every picture of a set, in its order, whichever process measured it."""
    world, own = trainer.world, []
    for index in range(world.rank, len(dataset), world.size):
        item = _batch_of(dataset[index], trainer.device)
        lq, gt = item["lq"], item["gt"]
        pictures = {"input": (beside(lq, gt), gt), **view(item)}
        row = {
            f"{shown}/{metric}": float(value)
            for shown, (picture, target) in pictures.items()
            for metric, value in score_pair(picture, target).items()
        }
        own.append((index, row))
        if board is not None and len(own) <= PICTURES:
            shown = [*(picture for picture, _ in pictures.values()), gt]
            board.add_image(f"{name}/{index}", _strip(shown), trainer.step)
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
