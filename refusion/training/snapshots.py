"""The best weights of a run, kept beside the last ones.

`best.safetensors` has the best ones. With `train.keep_best` above 1, the folder `snapshots` has
that number of the best validated weights. The name of each file states its step and score. With 1
there is no snapshot: those of the run before it was continued with 1 are removed.
"""

from __future__ import annotations

import contextlib
import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from refusion.config import RunConfig, config_to_dict
from refusion.training.budget import Budget
from refusion.training.run_folder import BEST, SNAPSHOTS

_NAME = re.compile(r"step_(\d{1,15})_(psnr|ssim)_(-?\d{1,4}\.\d{4}|inf)\.safetensors", re.ASCII)


@dataclass(frozen=True)
class Snapshot:
    """A file of averaged weights in the middle of a run.

    Attributes:
        path: the file.
        step: number of steps done.
        metric: name of the metric.
        score: mean of the metric over the first validation set, rounded to 4 digits; the larger,
            the better.
    """

    path: Path
    step: int
    metric: str
    score: float


def snapshots_of(run: Path) -> list[Snapshot]:
    """The snapshots in the folder of a run, the best one first; of equal ones the later one first.

    Other files, and links, are left out.

    Args:
        run: folder of the run.
    """
    found = []
    for path in (run / SNAPSHOTS).glob("step_*"):
        parts = _NAME.fullmatch(path.name)
        if parts and path.is_file() and not path.is_symlink():
            found.append(Snapshot(path, int(parts[1]), parts[2], float(parts[3])))
    return sorted(found, key=lambda one: (one.score, one.step), reverse=True)


def keep_snapshot(
    run: Path,
    step: int,
    metric: str,
    score: float,
    *,
    count: int,
    is_comparable: bool,
    export: Callable[[Path], None],
) -> None:
    """Write the weights as a snapshot if they are among the best; remove those that no longer are.

    Snapshots of this step or later ones come from a process that was interrupted; they are
    removed, too. So after each call the folder has the files of a run without interruption.

    Args:
        run: folder of the run.
        step: number of steps done.
        metric: name of the metric.
        score: mean of the metric over the first validation set.
        count: largest number of snapshots.
        is_comparable: whether the snapshots so far were measured on the same photos.
        export: writes the weights to a file.
    """
    text = f"{score:.4f}"
    path = run / SNAPSHOTS / f"step_{step:08d}_{metric}_{text}.safetensors"
    known = snapshots_of(run)
    kept = [one for one in known if is_comparable and one.metric == metric and one.step < step]
    kept.append(Snapshot(path, step, metric, float(text)))
    kept = sorted(kept, key=lambda one: (one.score, one.step), reverse=True)[:count]
    chosen = {one.path for one in kept}
    if path in chosen:
        export(path)
    _remove(one.path for one in known if one.path not in chosen)


def remove_snapshots(run: Path) -> None:
    """Remove the snapshots in the folder of a run, and this folder if nothing else is in it."""
    _remove(one.path for one in snapshots_of(run))
    with contextlib.suppress(OSError):  # it has other files, or there is none
        (run / SNAPSHOTS).rmdir()


def _remove(paths: Iterable[Path]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)


def best_metric(scores: Mapping[str, float], metric: str = "psnr") -> float | None:
    """The score that decides which weights are the best ones; None without validation.

    It is that of the last result of the first validation set: of `restored`, or in stage
    `latent_unet` of `replacement`.

    Args:
        scores: means by name, in the order of the sets and of their results; see `validate`.
        metric: name of the metric.
    """
    first = next(iter(scores), "").partition("/")[0]
    names = [
        name for name in scores if name.startswith(f"{first}/") and name.endswith(f"/{metric}")
    ]
    return scores[names[-1]] if names else None


class BestWeights:
    """The best weights of a run so far.

    Args:
        run: folder of the run.

    Attributes:
        record: the best validation: `score`, see `best_metric`, and `photos`, a text that is equal
            for two validations of the same photos by the same metric. None before the first one.
    """

    def __init__(self, run: Path) -> None:
        self.run = run
        self.record: dict[str, Any] | None = None

    def note(
        self,
        step: int,
        scores: Mapping[str, float],
        config: RunConfig,
        budget: Budget,
        export: Callable[[Path], None] | None,
    ) -> None:
        """Note a validation; write its weights if they are among the best ones.

        A validation of other photos, or by another metric, cannot be compared with those before
        it: the ranking starts again. The initial weights of a run never become a snapshot.

        Args:
            step: number of steps done.
            scores: means of the validation.
            config: config of the run.
            budget: time of the run, with the number of photos.
            export: writes the weights to a file; None in a process that writes no files.
        """
        metric, count = config.train.best_metric, config.train.keep_best
        score, photos = best_metric(scores, metric), _photos(config, budget)
        if score is None or math.isnan(score):
            return
        is_comparable = self.record is not None and self.record["photos"] == photos
        if not is_comparable or score > self.record["score"]:
            self.record = {"score": score, "photos": photos}
            if export is not None:
                export(self.run / BEST)
        if export is None or not step:
            return
        if count == 1:
            remove_snapshots(self.run)
        else:
            how = {"count": count, "is_comparable": is_comparable, "export": export}
            keep_snapshot(self.run, step, metric, score, **how)


def _photos(config: RunConfig, budget: Budget) -> str:
    """A text that is equal for two validations that can be compared."""
    sections, metric = config_to_dict(config)["data"]["validation"], config.train.best_metric
    what = [sections, config.train.seed, budget.photos, *([] if metric == "psnr" else [metric])]
    return json.dumps(what, sort_keys=True)
