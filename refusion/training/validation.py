"""Validation during training: averaged weights, whole images, metrics against the input."""

from __future__ import annotations

import logging
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.tensorboard import SummaryWriter

from refusion.config import NamedComponent, find_table
from refusion.inference.guided import shrink
from refusion.metrics import score_pair

if TYPE_CHECKING:
    from refusion.training.trainer import Trainer

PICTURES = 2  # pairs per validation set shown in TensorBoard
PICTURE_SIDE = 512  # pixels

logger = logging.getLogger(__name__)


@torch.inference_mode()
def validate(trainer: Trainer, board: SummaryWriter) -> dict[str, float]:
    """Mean metrics over each validation set, logged and shown.

    Returns:
        Means by name ``<set>/<picture>/<metric>``; the picture ``input`` is the degraded image.
    """
    means: dict[str, float] = {}
    model = trainer.model()
    for section in trainer.config.data.validation:
        scores = defaultdict(list)
        for number, item in enumerate(_dataset(section, trainer.config.train.seed)):
            lq, gt = (item[key][None].to(trainer.device) for key in ("lq", "gt"))
            pictures = trainer.stage.outputs(model, lq, gt)
            for name, (picture, target) in {"input": (lq, gt), **pictures}.items():
                for metric, value in score_pair(picture, target).items():
                    scores[f"{section.name}/{name}/{metric}"].append(value)
            if number < PICTURES:
                row = [lq, *(picture for picture, _ in pictures.values()), gt]
                strip = torch.cat(
                    [shrink(x.float().clamp(0, 1), PICTURE_SIDE) for x in row], dim=-1
                )
                board.add_image(f"{section.name}/{number}", strip[0].cpu(), trainer.step)
        means |= {name: sum(values) / len(values) for name, values in scores.items()}
    for name, value in means.items():
        board.add_scalar(name, value, trainer.step)
        logger.info("validation at step %d: %s %.4f", trainer.step, name, value)
    return means


def _dataset(section: NamedComponent, seed: int) -> Any:
    dataset = find_table("datasets")[section.type](**section.settings, seed=seed)
    return (dataset[index] for index in range(len(dataset)))
