"""Validation during training: metrics of the averaged weights on whole images."""

from __future__ import annotations

import logging
import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

import torch
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from refusion.config import RunConfig, find_table
from refusion.devices.processes import World
from refusion.errors import ConfigError
from refusion.images.resize import resize_like, shrink
from refusion.metrics import score_pair
from refusion.training.budget import VALIDATION_SHARE, Budget, duration
from refusion.training.failures import shared_failure
from refusion.training.stages.base import ResultAndTarget, Viewer
from refusion.training.workers import make_sample

PICTURES = 2  # pairs per validation set shown in TensorBoard
PICTURE_SIDE = 512  # pixels
MAPS = ("transmission", "mask")  # maps of a degradation that are shown if the data have them

Measure = Callable[..., tuple[dict[str, float], dict[str, int]]]

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
    photos: Mapping[str, int] | None = None,
    limit_s: float | None = None,
) -> tuple[dict[str, float], dict[str, int]]:
    """Compute and log the mean metrics over each validation set.

    The processes divide the images among themselves.

    Args:
        view: computes the results of an item, see `Stage.viewer`.
        sets: data sets of whole photos by name, see `validation_sets`.
        step: number of optimizer steps.
        world: rank of this process and number of processes.
        device: device of the images.
        board: TensorBoard writer for metrics and images; None for none.
        photos: number of images of a set by its name; by default all.
        limit_s: seconds after which no further image is begun, divided evenly among the sets; at
            least one image per set and process is measured. None for no limit.

    Returns:
        Means by name `<set>/<result>/<metric>`; the result `input` is the degraded image. Then the
        number of measured images by set.
    """
    means: dict[str, float] = {}
    counts: dict[str, int] = {}
    for name, dataset in sets.items():
        measure = _Measurement(
            view,
            _title(name),
            world,
            device,
            count=min(len(dataset), (photos or {}).get(name, len(dataset))),
            limit_s=None if limit_s is None else limit_s / len(sets),
            shown=PICTURES if board else 0,
        )
        rows, pictures = measure.rows(dataset)
        counts[name] = len(rows)
        for index, picture in pictures.items():
            board.add_image(f"{name}/{index}", picture, step)
        means |= {
            f"{name}/{metric}": statistics.fmean(row[metric] for row in rows) for metric in rows[0]
        }
    for name, value in means.items():
        if board is not None:
            board.add_scalar(name, value, step)
        logger.info("validation at step %d: %s %.4f", step, name, value)
    return means, counts


def validate_in_time(
    budget: Budget, sets: Mapping[str, Any], world: World, measure: Measure
) -> dict[str, float]:
    """Validate; if the time of the run is limited, with as many photos as fit.

    The first validation of a run decides on the photos. The others use the same ones, so that
    their scores can be compared.

    Args:
        budget: time of the run; the number of photos and the duration are stored in it.
        sets: data sets of whole photos by name.
        world: rank of this process and number of processes.
        measure: `validate`, called with `photos` and `limit_s`.

    Returns:
        Means, see `validate`.
    """
    begun, limit_s = budget.clock(), budget.validation_limit()
    is_first = limit_s is not None and not sets.keys() <= budget.photos.keys()
    scores, counts = measure(photos=budget.photos, limit_s=limit_s if is_first else None)
    budget.note("validation", world.largest([budget.clock() - begun])[0])
    if is_first:
        budget.photos |= counts
        for line in _limit_texts(sets, budget):
            logger.warning("validation: %s", line)
    return scores


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


def _limit_texts(sets: Mapping[str, Any], budget: Budget) -> list[str]:
    """Lines about what is left out of the validation because of the time of the run.

    Args:
        sets: data sets of whole photos by name.
        budget: time of the run, after its first validation.
    """
    advice = (
        "use fewer or smaller photos (length and max_side in data.validation), lower "
        "sampling.steps, or raise train.minutes"
    )
    if not budget.validates():
        spent, there = duration(budget.costs["validation"]), duration(budget.seconds)
        return [f"it takes {spent} of {there}, so it is not repeated; {advice}"]
    return [
        f"{budget.photos[name]} of {len(dataset)} photos of set '{name}' are used, because "
        f"all would take more than 1/{1 / VALIDATION_SHARE:.0f} of the time; {advice}"
        for name, dataset in sets.items()
        if budget.photos[name] < len(dataset)
    ]


def _title(name: str) -> str:
    return f"data.validation, set '{name}'"


@dataclass(frozen=True)
class _Measurement:
    """How the images of one set are measured; see `validate`."""

    view: Viewer
    title: str
    world: World
    device: torch.device
    count: int
    limit_s: float | None
    shown: int

    def rows(self, dataset: Any) -> tuple[list[dict[str, float]], dict[int, Tensor]]:
        """Metrics of the first images of a set, in order, from all processes.

        Also returns image strips of the first `shown` items of this process, by index.
        """
        own, strips, begun = {}, {}, time.monotonic()
        with shared_failure(self.world):
            for index in range(self.world.rank, self.count, self.world.size):
                if own and not self._has_time(time.monotonic() - begun, len(own)):
                    break
                item = _batch_of(make_sample(dataset, index, self.title), self.device)
                lq, gt = item["lq"], item["gt"]
                pictures = {"input": (resize_like(lq, gt), gt), **self.view(item)}
                own[index] = _row(pictures)
                if len(strips) < self.shown:
                    maps = [item[name] for name in MAPS if name in item]
                    strips[index] = _strip([*(p for p, _ in pictures.values()), gt, *maps])
        measured = {i: row for part in self.world.gathered(own) for i, row in part.items()}
        # With a limit, a process can be faster than another one; images without a gap count.
        return [measured[i] for i in takewhile(measured.__contains__, range(self.count))], strips

    def _has_time(self, spent_s: float, done: int) -> bool:
        """Whether another image fits in the limit, if it takes as long as those before."""
        return self.limit_s is None or spent_s * (done + 1) / done <= self.limit_s


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
        pictures: images (1, C, H, W) of one size; one channel is shown as gray.
    """
    small = [shrink(_rgb(x).float().clamp(0, 1), PICTURE_SIDE) for x in pictures]
    return torch.cat(small, dim=-1)[0].cpu()


def _rgb(picture: Tensor) -> Tensor:
    return picture[:, :3] if picture.shape[1] >= 3 else picture[:, :1].expand(-1, 3, -1, -1)
