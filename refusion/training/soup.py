"""Averages of the best snapshots of one run (Wortsman et al., "Model soups", ICML 2022).

The snapshots of one run have similar weights, so a network with their average works. It can be
better than each of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from refusion.checkpoint import Checkpoint
from refusion.checkpoint.averaging import average_weights
from refusion.config import RunConfig
from refusion.devices.processes import SINGLE_PROCESS
from refusion.errors import ConfigError
from refusion.training.snapshots import Snapshot, best_metric, snapshots_of
from refusion.training.stages import build_stage
from refusion.training.validation import validate, validation_sets

Score = Callable[[dict[str, Tensor]], float]
"""Measures weights on validation photos; the larger, the better."""


def best_snapshots(run: Path, count: int | None = None) -> list[Snapshot]:
    """The best snapshots of a run, the best one first.

    Args:
        run: folder of the run.
        count: their number; None for all that the run keeps.

    Raises:
        ConfigError: the run keeps no snapshots or fewer ones, or they were ranked by several
            metrics.
    """
    found = snapshots_of(run)
    if not found:
        raise ConfigError(
            f"{run}: keeps no snapshots; train with train.keep_best=3 or more, or name the weights "
            "files to average"
        )
    if len({one.metric for one in found}) > 1:
        raise ConfigError(
            f"{run}: its snapshots have scores of psnr and of ssim; remove those of one metric"
        )
    if count is not None and not 1 <= count <= len(found):
        raise ConfigError(f"--best {count}: {run} keeps {len(found)}; expected 1 to {len(found)}")
    return found[:count]


def rank_shares(count: int) -> list[float]:
    """Weights that fall linearly with the rank; their sum is 1.

    >>> rank_shares(2)
    [0.6666666666666666, 0.3333333333333333]
    """
    total = count * (count + 1) / 2
    return [(count - rank) / total for rank in range(count)]


@dataclass(frozen=True)
class GreedySoup:
    """Result of `greedy_soup`.

    Attributes:
        chosen: indices of the averaged checkpoints.
        score: score of their average.
        tried: for each checkpoint the score of the average with it.
    """

    chosen: list[int]
    score: float
    tried: list[float]


def greedy_soup(checkpoints: Sequence[Checkpoint], score: Score) -> GreedySoup:
    """Add checkpoints to an average in turn; one that lowers the score is left out.

    This is recipe 1 of the paper.

    Args:
        checkpoints: the best one first, at least one.
        score: measures an average.
    """
    chosen: list[int] = []
    tried: list[float] = []
    best = float("-inf")
    for index in range(len(checkpoints)):
        parts = [*chosen, index]
        own = [checkpoints[part] for part in parts]
        tried.append(score(average_weights(own, [1 / len(own)] * len(own))))
        if tried[-1] >= best:
            chosen, best = parts, tried[-1]
    return GreedySoup(chosen, best, tried)


def validation_score(config: RunConfig, metric: str, device: torch.device) -> Score:
    """The score that a run gives weights: on all photos of its first validation set.

    Args:
        config: config of the run.
        metric: name of the metric.
        device: device of the networks.

    Raises:
        CheckpointError: a file that the stage uses cannot be read.
        ConfigError: the run has no validation set, or its photos cannot be used.
    """
    if not config.data.validation:
        raise ConfigError(
            f"{config.name}: --soup greedy needs photos to measure on; add data.validation to the "
            "config.yml of the run, or use --soup rank"
        )
    name, dataset = next(iter(validation_sets(config).items()))
    stage = build_stage(config, device)

    def score(tensors: dict[str, Tensor]) -> float:
        view = stage.viewer(stage.build(tensors, Path(config.name)), device)
        where = {"world": SINGLE_PROCESS, "device": device, "board": None}
        scores, _ = validate(view, {name: dataset}, 0, **where)
        return best_metric(scores, metric)

    return score
