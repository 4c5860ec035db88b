"""One run of `refusion test`: its sets one by one, and the files that report on all of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refusion import __version__
from refusion.errors import printable
from refusion.evaluation.baselines import find_baselines
from refusion.evaluation.entry import write_entry
from refusion.evaluation.fingerprint import fingerprint
from refusion.evaluation.learned_metrics import fid_network, fid_of_set, learned_metrics
from refusion.evaluation.options import RunOptions
from refusion.evaluation.outputs import Outputs
from refusion.evaluation.result_files import ProgressFile, ResultFiles, written_files
from refusion.evaluation.score_files import write_csv, write_json
from refusion.evaluation.sets import EvaluationSet
from refusion.files import sha256_of

if TYPE_CHECKING:  # these import torch, which `refusion test --help` does not need
    from refusion.checkpoint import Checkpoint
    from refusion.evaluation.scoring import Evaluation, Score
    from refusion.restorers.base import Restorer

_NO_FID = "not measured, it needs ground truth and two photos at least"


class EvaluationRun:
    """Evaluates sets with one restorer and writes the files that are asked for.

    Args:
        checkpoint: of the restorer.
        restorer: what to measure.
        options: how photos are restored and measured.
        outputs: which files are written; `Outputs.prepare` was called.

    Raises:
        ConfigError: the model does not have a baseline that is asked for.
        CheckpointError: a file of a metric cannot be used.
    """

    def __init__(
        self, checkpoint: Checkpoint, restorer: Restorer, options: RunOptions, outputs: Outputs
    ) -> None:
        from refusion.metrics import reported_metrics

        self._checkpoint, self._restorer = checkpoint, restorer
        self._options, self._outputs = options, outputs
        self._learned = learned_metrics(options.metric_files, options.crop_border)
        self._metrics = reported_metrics(options.crop_border) | self._learned
        self._baselines = find_baselines(options.baselines, checkpoint, restorer.info, options.tile)
        self._fid_network = fid_network(options.metric_files)
        self._results: dict[str, tuple[EvaluationSet, Evaluation]] = {}
        self._fid: dict[str, Mapping[str, float]] = {}
        self._progress: list[ProgressFile] = []

    def add(self, chosen: EvaluationSet) -> str:
        """Evaluate a set.

        Args:
            chosen: the set; its name differs from those of the sets before.

        Returns:
            Tables to show, as text.

        Raises:
            RefusionError: as `evaluate`, or a result cannot be written.
        """
        result = self._evaluate(chosen)
        self._results[chosen.name] = chosen, result
        lines = [chosen.name, result.table(), "", result.methods_table(self._metrics)]
        missing = [name for name in self._learned if name not in result.mean.result]
        lines += [f"{', '.join(missing)}: not measured, without ground truth"] if missing else []
        if self._fid_network:
            files = _files(chosen, result)
            values = fid_of_set(self._fid_network, chosen.dataset, files)
            self._fid[chosen.name] = values
            lines.append(f"fid of {len(files)}: {_listed(values) or _NO_FID}")
        return "\n".join(lines) + "\n\n"

    def finish(self) -> None:
        """Write the reports of all sets, and remove the progress files.

        Raises:
            ConfigError: a file cannot be written.
        """
        outputs = self._outputs
        results = {name: result for name, (_, result) in self._results.items()}
        if outputs.json:
            write_json(outputs.json, self._report(results))
        if outputs.csv:
            write_csv(outputs.csv, results)
        if outputs.html:
            self._write_page(outputs.html)
        if outputs.entry:
            ((chosen, result),) = self._results.values()
            write_entry(outputs.entry, self._restorer.info, chosen, result)
        for progress in self._progress:
            progress.remove()

    def _evaluate(self, chosen: EvaluationSet) -> Evaluation:
        from tqdm import tqdm

        from refusion.evaluation.scoring import evaluate

        options, progress, write = self._options, None, None
        if self._outputs.folder:
            progress = ProgressFile(chosen.folder, self._fingerprint(chosen))
            self._progress.append(progress)
            write = ResultFiles(chosen.folder, (s.name for s in progress.done.values())).write
        previous = dict(progress.done) if progress else {}
        with tqdm(unit="photo", disable=None, desc=printable(chosen.name, 60), leave=False) as bar:

            def done(number: int, total: int, score: Score) -> None:
                bar.total = total
                bar.update(number - bar.n)
                if progress and number > len(previous):
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
                previous_scores=previous,
                write=write,
                callback=done,
            )

    def _fingerprint(self, chosen: EvaluationSet) -> dict[str, Any]:
        return fingerprint(self._checkpoint.path, self._restorer.info, self._options, chosen)

    def _write_page(self, path: Path) -> None:
        from refusion.evaluation.page import PageSet, photos_beside, write_page

        sets = []
        for chosen, result in self._results.values():
            notes = [f"{n}: {self._metrics[n].stated}" for n in result.mean.result]
            notes += [f"fid: {_listed(v)}" for v in [self._fid.get(chosen.name)] if v]
            files = _files(chosen, result)
            others = self._baselines, photos_beside(self._outputs.beside)
            sets.append(PageSet(chosen.name, chosen.dataset, result, files, notes, *others))
        write_page(path, f"{self._restorer.info.task}: {self._checkpoint.path.name}", sets)

    def _report(self, results: Mapping[str, Evaluation]) -> dict[str, Any]:
        """The scores, and everything that is needed to compute them again."""
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
            **options.conditions,
        }
        sets = {
            name: result.to_dict() | ({"fid": fid} if (fid := self._fid.get(name)) else {})
            for name, result in results.items()
        }
        return {
            "refusion": __version__,
            "model": model,
            "limit": options.limit,
            "max_side": options.max_side,
            "metrics": {name: metric.stated for name, metric in self._metrics.items()},
            "sets": sets,
        }


def _files(chosen: EvaluationSet, result: Evaluation) -> list[list[Path]]:
    """Files of the results, in the order of the set."""
    return written_files(chosen.folder, (row.name for row in result.rows))


def _listed(values: Mapping[str, float]) -> str:
    return ", ".join(f"{key} {value:.4f}" for key, value in values.items())
