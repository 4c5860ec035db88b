"""Validation during training: metrics of the averaged weights on whole images."""

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
from refusion.training.failures import shared_failure
from refusion.training.stages.base import ResultAndTarget, Viewer
from refusion.training.workers import make_sample

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
    """Compute and log the mean metrics over each validation set.

    The processes divide the images among themselves.

    Args:
        view: computes the results of an item, see `Stage.viewer`.
        sets: data sets of whole photos by name, see `validation_sets`.
        step: number of optimizer steps.
        world: rank of this process and number of processes.
        device: device of the images.
        board: TensorBoard writer for metrics and images; None for none.

    Returns:
        Means by name `<set>/<result>/<metric>`; the result `input` is the degraded image.
    """
    means: dict[str, float] = {}
    for name, dataset in sets.items():
        title = _title(name)
        rows, pictures = _rows(view, dataset, title, world, device, shown=PICTURES if board else 0)
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
    """Make the data sets of whole photos, by the names of the validation sets.

    Raises:
        ConfigError: a set is endless, or its photos have no ground truth.
    """
    sets = {}
    for section in config.data.validation:
        dataset = find_table("datasets")[section.type](**section.settings, seed=config.train.seed)
        try:
            len(dataset)
        except TypeError:  # an endless stream has no length
            raise ConfigError(
                f"{_title(section.name)}: the stream is endless; leave out 'patch', "
                "or set 'whole: true' (SyntheticPairs)"
            ) from None
        if "gt" not in make_sample(dataset, 0, _title(section.name)):
            raise ConfigError(
                f"{_title(section.name)}: the photos have no ground truth; "
                "use photos with ground truth or leave the set out"
            )
        sets[section.name] = dataset
    return sets


def _title(name: str) -> str:
    return f"data.validation, set '{name}'"


def _rows(
    view: Viewer, dataset: Any, title: str, world: World, device: torch.device, *, shown: int
) -> tuple[list[dict[str, float]], dict[int, Tensor]]:
    """Metrics of all images of a set, in order, from all processes.

    Also returns image strips of the first `shown` items of this process, by index.
    """
    own, strips = [], {}
    with shared_failure(world, device):
        for index in range(world.rank, len(dataset), world.size):
            item = _batch_of(make_sample(dataset, index, title), device)
            lq, gt = item["lq"], item["gt"]
            pictures = {"input": (resize_like(lq, gt), gt), **view(item)}
            own.append((index, _row(pictures)))
            if len(strips) < shown:
                strips[index] = _strip([*(picture for picture, _ in pictures.values()), gt])
    measured = [pair for part in world.gathered(own) for pair in part]
    return [row for _, row in sorted(measured, key=lambda pair: pair[0])], strips


def _row(pictures: Mapping[str, ResultAndTarget]) -> dict[str, float]:
    return {
        f"{name}/{metric}": float(value)
        for name, (picture, target) in pictures.items()
        for metric, value in score_pair(picture, target).items()
    }


def _batch_of(item: Mapping[str, Any], device: torch.device) -> dict[str, Tensor]:
    """Batch of one item; the noise level, a scalar for the whole batch, gets no batch axis."""
    return {
        key: value[None].to(device) if value.ndim else value
        for key, value in item.items()
        if isinstance(value, Tensor)
    }


def _strip(pictures: Iterable[Tensor]) -> Tensor:
    """Reduced images side by side, (3, h, w); for a stereo pair only the left view.

    Args:
        pictures: images (1, C, H, W).
    """
    small = [shrink(x[:, :3].float().clamp(0, 1), PICTURE_SIDE) for x in pictures]
    return torch.cat(small, dim=-1)[0].cpu()
