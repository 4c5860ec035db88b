"""One run of `refusion test`: its sets one by one, and the files that report on all of them."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refusion import __version__
from refusion.cli.options.learned_metrics import fid_network, fid_of_set, learned_metrics
from refusion.cli.options.model import CONDITION_OPTIONS
from refusion.cli.options.submit import submit
from refusion.errors import ConfigError
from refusion.evaluation.result_files import ProgressFile, ResultFiles, files_at, photos_state
from refusion.evaluation.score_files import write_csv, write_json
from refusion.evaluation.sets import EvaluationSet

if TYPE_CHECKING:  # these import torch, for which --help must not wait
    from refusion.checkpoint import Checkpoint
    from refusion.evaluation.scoring import Baseline, Evaluation, Score
    from refusion.restorers.base import Restorer

_SETS = ("runs", "data", "lq", "gt", "opt")  # covered by the photos' state and the file's hash
_NO_FID = "not measured, it needs ground truth and two photos at least"
_REPORTS = ("output", "json", "csv", "html", "submit", "track", "extra_data", "description")


class EvaluationRun:
    """Evaluates sets with one restorer and writes what the options ask for.

    Args:
        checkpoint: of the restorer.
        restorer: what to measure.
        options: of the command.

    Raises:
        ConfigError: a baseline that the model does not have.
        CheckpointError: a file of a metric cannot be used.
    """

    def __init__(
        self, checkpoint: Checkpoint, restorer: Restorer, options: argparse.Namespace
    ) -> None:
        from refusion.metrics import reported_metrics

        self._checkpoint, self._restorer, self._options = checkpoint, restorer, options
        self._learned = learned_metrics(options)
        self._metrics = reported_metrics(options.crop_border) | self._learned
        self._baselines = _baselines(checkpoint, restorer, options)
        self._results: dict[str, tuple[EvaluationSet, Evaluation]] = {}
        self._fid_network = fid_network(options)
        self._fid: dict[str, Mapping[str, float]] = {}
        self._progress: list[ProgressFile] = []

    def add(self, chosen: EvaluationSet) -> str:
        """Evaluate a set; the text to show."""
        result = self._evaluate(chosen)
        self._results[chosen.name] = chosen, result
        lines = [chosen.name, result.table(), "", result.methods_table(self._metrics)]
        lacking = [name for name in self._learned if name not in result.mean.result]
        lines += [f"{', '.join(lacking)}: not measured, without ground truth"] if lacking else []
        if self._fid_network:
            files = _files(chosen, result)
            values = fid_of_set(self._fid_network, chosen.dataset, files)
            self._fid[chosen.name] = values
            lines.append(f"fid of {len(files)}: {_listed(values) or _NO_FID}")
        return "\n".join(lines) + "\n\n"

    def finish(self) -> None:
        """Write the files; the next run begins anew.

        Raises:
            ConfigError: a file cannot be written.
        """
        options, output = self._options, self._options.output
        results = {name: result for name, (_, result) in self._results.items()}
        csv = options.csv or (output and output / "scores.csv")
        json = options.json or (output and output / "scores.json")
        if json:
            write_json(json, self._report(results))
        if csv:
            write_csv(csv, results)
        if options.html:
            self._write_page()
        if options.submit:
            submit(options, self._restorer.info, list(self._results.values()))
        for progress in self._progress:
            progress.remove()

    def _evaluate(self, chosen: EvaluationSet) -> Evaluation:
        from tqdm import tqdm

        from refusion.evaluation.scoring import evaluate

        options, progress, write = self._options, None, None
        if options.output:
            progress = ProgressFile(chosen.folder, self._depends_on(chosen))
            self._progress.append(progress)
            write = ResultFiles(chosen.folder, (s.name for s in progress.done.values())).write
        known = dict(progress.done) if progress else {}
        with tqdm(unit="photo", disable=None, desc=chosen.name, leave=False) as bar:

            def done(number: int, total: int, score: Score) -> None:
                bar.total = total
                bar.update(number - bar.n)
                if progress and number > len(known):
                    progress.add(score)

            return evaluate(
                self._restorer,
                chosen.dataset,
                metrics=self._metrics,
                steps=options.steps,
                sampler=options.sampler,
                seed=options.seed,
                tile=options.tile,
                limit=options.limit,
                baselines=self._baselines,
                previous_scores=known,
                write=write,
                callback=done,
            )

    def _depends_on(self, chosen: EvaluationSet) -> dict[str, Any]:
        """All that the numbers of a set depend on, so that no others are taken for them."""
        from refusion.batch.log import sha256_of

        path = self._checkpoint.path
        said = {
            key: str(v) for key, v in vars(self._options).items() if key not in (*_REPORTS, *_SETS)
        }
        files = {"weights": path, "opt": self._options.opt}
        return said | {
            "version": __version__,
            **{k: sha256_of(file) for k, file in files.items() if file and file.is_file()},
            "restorer": str(self._restorer.info),
            "photos": photos_state(chosen.sources),
        }

    def _write_page(self) -> None:
        from refusion.evaluation.page import PageSet, write_page

        sets = []
        for chosen, result in self._results.values():
            notes = [f"{n}: {self._metrics[n].stated}" for n in result.mean.result]
            notes += [f"fid: {_listed(v)}" for v in [self._fid.get(chosen.name)] if v]
            files = _files(chosen, result)
            sets.append(PageSet(chosen.name, chosen.dataset, result, files, notes))
        info = self._restorer.info
        write_page(self._options.html, f"{info.task}: {self._checkpoint.path.name}", sets)

    def _report(self, results: dict[str, Evaluation]) -> dict[str, Any]:
        """All that is needed to compute the numbers again, and the numbers."""
        from refusion.batch.log import sha256_of

        info, options = self._restorer.info, self._options
        model = {
            "task": info.task,
            "weights": str(self._checkpoint.path),
            "sha256": sha256_of(self._checkpoint.path),
            "sampler": options.sampler or info.sampler,
            "steps": options.steps or info.steps,
            "seed": options.seed,
            "tile": options.tile,
            "device": info.device,
            "precision": info.precision,
        }
        model |= {
            key: value for key in CONDITION_OPTIONS if (value := getattr(options, key)) is not None
        }
        size = {"limit": options.limit, "max_side": options.max_side}
        stated = {name: metric.stated for name, metric in self._metrics.items()}
        sets = {
            name: result.to_dict() | ({"fid": fid} if (fid := self._fid.get(name)) else {})
            for name, result in results.items()
        }
        return {"refusion": __version__, "model": model, **size, "metrics": stated, "sets": sets}


def _files(chosen: EvaluationSet, result: Evaluation) -> list[list[Path]]:
    """Files of the results, in the order of the set."""
    files = ResultFiles(chosen.folder)
    return [files_at(files.next_path(row.name)) for row in result.rows]


def _listed(values: Mapping[str, float]) -> str:
    return ", ".join(f"{key} {value:.4f}" for key, value in values.items())


def _baselines(
    checkpoint: Checkpoint, restorer: Restorer, options: argparse.Namespace
) -> dict[str, Baseline]:
    from refusion.restorers.dark_channel import dark_channel_prior

    info = restorer.info
    if options.baselines and (info.views, info.scale) != (1, 1):
        raise ConfigError(f"--baselines: none for the '{info.task}' model")
    chosen: dict[str, Baseline] = {}
    if "latent_unet" in options.baselines:
        unet = _latent_unet(checkpoint, info.device, info.precision)
        chosen["latent_unet"] = lambda lq, conditions: unet.restore(
            lq, tile=options.tile, conditions=conditions
        )
    if "dark_channel" in options.baselines:
        chosen["dark_channel"] = lambda lq, _: dark_channel_prior(lq)
    return chosen


def _latent_unet(checkpoint: Checkpoint, device: str, precision: str) -> Restorer:
    """The U-Net alone, which reconstructs photos."""
    from refusion.checkpoint import Checkpoint, build_model
    from refusion.config import ModelConfig
    from refusion.restorers import Refusion

    model = checkpoint.model
    if model.latent_unet is None:
        raise ConfigError(f"--baselines: the '{model.task}' model has no latent U-Net")
    own = {k: v for k, v in checkpoint.tensors.items() if k.startswith("latent_unet.")}
    alone = Checkpoint(ModelConfig(model.task, model.latent_unet), own, {}, checkpoint.path)
    return Refusion(build_model(alone), device=device, precision=precision)
