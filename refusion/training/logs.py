"""Lines of the log about the steps and the end of a run."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from torch.utils.tensorboard import SummaryWriter

from refusion.training.budget import Budget, duration

_WITHOUT_TEXT = ("lr", "waiting_for_data")  # shown in TensorBoard, not as a term of the loss

logger = logging.getLogger(__name__)


def log_step(
    board: SummaryWriter | None,
    step: int,
    values: Mapping[str, float],
    trained_s: float,
    left_s: float,
) -> None:
    """Log one step.

    Args:
        board: TensorBoard writer; None for none.
        step: number of steps done.
        values: terms of the loss, `lr` and `waiting_for_data` (a share of the time).
        trained_s: seconds of all steps.
        left_s: expected seconds to the end of the run.
    """
    if board is not None:
        for name, value in values.items():
            board.add_scalar(f"train/{name}", value, step)
    terms = [f"{name} {value:.4g}" for name, value in values.items() if name not in _WITHOUT_TEXT]
    logger.info(
        "step %d: %s (%.0f s, %.1f %% waiting for data, %s left)",
        step,
        " ".join(terms),
        trained_s,
        100 * values["waiting_for_data"],
        duration(left_s),
    )


def log_end(name: str, budget: Budget, step: int) -> None:
    """Log why a run ends.

    Args:
        name: name of the run.
        budget: steps and time of the run.
        step: number of steps done.
    """
    if budget.steps is not None and step >= budget.steps:
        logger.info("%s: at step %d of %d", name, step, budget.steps)
        return
    used = f"{duration(budget.used_s)} of {duration(budget.seconds)} used"
    logger.info("%s: the time ends at step %d (%s)", name, step, used)
    if not step:
        logger.warning(
            "%s: no time was left for a step: validation takes %s, saving %s; raise "
            "train.minutes, or use fewer or smaller photos in data.validation",
            name,
            duration(budget.costs["validation"]),
            duration(budget.costs["saving"]),
        )
