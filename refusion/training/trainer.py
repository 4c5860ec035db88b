"""The training loop. After an interrupt at any moment, the same command continues exactly.

Data order, times and noise are functions of (seed, index of the sample). All other state (weights,
their average, optimizer) is saved in one file, which is replaced as a whole. Under `torchrun` the
processes divide each batch among themselves.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from refusion.arguments import check_arguments
from refusion.config import RunConfig
from refusion.devices.processes import SINGLE_PROCESS, World
from refusion.errors import RefusionError
from refusion.training.batches import shares_of
from refusion.training.budget import SAVE_EVERY, VALIDATE_EVERY, Budget
from refusion.training.failures import (
    OtherProcessError,
    lost_processes_explained,
    shared_failure,
)
from refusion.training.interrupts import InterruptedWaitError, Interrupts
from refusion.training.latents import weights_key
from refusion.training.loading import BatchStream, to_device
from refusion.training.logs import log_end, log_step
from refusion.training.run_folder import (
    BEST,
    MODEL,
    STATE,
    make_run_folder,
    open_board,
    run_lock,
    write_config,
)
from refusion.training.snapshots import BestWeights
from refusion.training.stages import build_stage
from refusion.training.state import BEST_KEY, BUDGET_KEY, PLAIN, load_state, save_state, start_from
from refusion.training.updates import Updates, loss_error
from refusion.training.validation import validate, validate_in_time, validation_sets
from refusion.training.workers import Batch, SampleError

logger = logging.getLogger(__name__)
Progress = Callable[[int, int | None, dict[str, float]], None]


class Trainer:
    """One run: ``Trainer(config, ...).train()``.

    Args:
        config: settings of the run; the run folder is `runs/<name>`.
        device: device of the networks.
        runs: folder that contains the run folders.
        world: rank of this process and number of processes.
        begun: `time.monotonic()` when the program began, for `train.minutes`; None for now.

    Files in the run folder: `config.yml` (with all defaults), `model.safetensors` (averaged
    weights, a checkpoint for inference), `best.safetensors` (the same of the best validation),
    `snapshots/` (those of the best validations), `state.pt` (to resume the run), `tensorboard/`.

    Attributes:
        module, parameters, optimizer, ema: those of `updates`.
        state_file, model_file, best_file: files in the run folder, see above.
        step: number of steps done.
        budget: steps and time of the run.
        scores: scores of the last validation by name.
        best: the best weights so far.
        read_every: steps between two readings of the loss. On a GPU a reading waits for all that
            the GPU has to do, so only every `train.log_every` steps; on a CPU each step.

    Raises:
        ConfigError: the batch cannot be divided among the processes, or the run folder cannot be
            used.
        CheckpointError: the latent U-Net or the initial weights cannot be used.
    """

    def __init__(
        self,
        config: RunConfig,
        *,
        device: torch.device,
        runs: str | Path = "runs",
        world: World = SINGLE_PROCESS,
        begun: float | None = None,
    ) -> None:
        check_arguments(Trainer.__init__, locals())
        self.config, self.device, self.world = config, device, world
        train = config.train
        self.budget = Budget(train.steps, train.minutes, workers=config.data.workers, begun=begun)
        shares_of(config, world, 0)  # raises early if the batch cannot be divided
        self.folder = Path(runs) / config.name
        make_run_folder(self.folder)
        self.state_file, self.model_file, self.best_file = (
            self.folder / name for name in (STATE, MODEL, BEST)
        )
        self.stage = build_stage(config, device)
        if config.init is not None and not self.state_file.is_file():
            start_from(config.init, self.stage)
        if config.train.compile:
            self.stage.compile()
        self.updates = Updates(config, self.stage, world=world, device=device)
        self.module, self.parameters = self.updates.module, self.updates.parameters
        self.optimizer, self.ema = self.updates.optimizer, self.updates.ema
        self.read_every = 1 if device.type == "cpu" else config.train.log_every
        self.step = 0
        self.trained_s = 0.0
        self.waited_s = 0.0  # part of `trained_s` spent waiting for the data loader
        self.scores: dict[str, float] = {}
        self.best = BestWeights(self.folder)
        self.validated_at = -1  # step of the last validation
        self.validation: dict[str, Any] = {}
        self.encoder_key = weights_key(self.stage.fixed)

    def train(self, progress: Progress | None = None) -> dict[str, float]:
        """Train until the steps or the minutes of the run end; continue from `state.pt`, if any.

        Args:
            progress: called after every step with (step, steps or None, terms of the loss); the
                terms are those of the last step that was read, see `read_every`.

        Returns:
            Scores of the last validation by name.

        Raises:
            RefusionError: the loss is not finite (the last checkpoint is kept), `state.pt` belongs
                to another configuration, the memory is not sufficient, or a process was killed.
            SampleError: a sample cannot be made; the run is saved at the last complete step.
            OtherProcessError: another process failed, and shows the message.
        """
        is_main, nothing = self.world.is_main, contextlib.nullcontext()
        lock = run_lock(self.folder) if is_main else nothing
        with lost_processes_explained(self.world), lock:
            with shared_failure(self.world):
                if self.state_file.is_file():
                    self._load_state()
                if is_main:
                    write_config(self.folder, self.config)
                self.validation = validation_sets(self.config)
            with open_board(self.folder, self.step) if is_main else nothing as board:
                self._train(board, progress)
            self.save()  # also after a complete run: the sampling defaults may have changed
        return self.scores

    def _train(self, board: SummaryWriter | None, progress: Progress | None) -> None:
        """Run all remaining steps."""
        self._agree()
        if self.budget.is_over(self.step):
            log_end(self.config.name, self.budget, self.step)
            return
        self._measure_end(board)
        with self._saved_on_failure(), shared_failure(self.world):
            stream = self._batches()  # encodes latents for minutes; Ctrl-C stops immediately
        terms: dict[str, float] = {}
        with contextlib.closing(stream), Interrupts() as interrupts:
            self._agree()
            while not self.budget.is_over(self.step):
                begun = time.monotonic()
                try:
                    latest = self._timed_step(stream, interrupts)
                except InterruptedWaitError:
                    self._stop(interrupts.received)
                self.budget.note("step", time.monotonic() - begun)
                self._agree()
                if self._is_read(self.step) or self.budget.is_over(self.step):
                    terms = {name: float(term) for name, term in latest.items()}
                self._after_step(board, terms)
                if progress is not None:
                    progress(self.step, self.config.train.steps, terms)
                if self.world.any(interrupts.received > 0):
                    self._stop(interrupts.received)
        if self.validated_at != self.step:  # an intermediate validation or saving took long
            self._validate(board)
        if self.config.train.minutes is not None:
            log_end(self.config.name, self.budget, self.step)

    def _measure_end(self, board: SummaryWriter | None) -> None:
        """Validate and save at the start of a run by time, to know what its end takes."""
        budget = self.budget
        is_known = budget.costs["saving"] > 0 and self.validation.keys() <= budget.photos.keys()
        if self.config.train.minutes is None or is_known:
            return
        budget.costs["validation"] = 0.0  # of a run without limit, in which all photos are measured
        self._validate(board)
        self.save()
        self._agree()
        self.budget.mark()

    def _agree(self) -> None:
        """Give all processes the same time."""
        self.budget.agree(*self.world.largest([self.budget.now(), self.budget.needed()]))

    def _stop(self, number: int) -> NoReturn:
        """Save, then end the process as usual for the signal."""
        self.save()
        logger.info("%s: interrupted, saved at step %d", self.config.name, self.step)
        if number == signal.SIGTERM:
            raise SystemExit(128 + signal.SIGTERM)
        raise KeyboardInterrupt

    def save(self) -> None:
        """Write the averaged weights and the state to resume from; there are no partial files.

        All processes must call this method; the main process writes.
        """
        self._check_loss()
        begun = self.budget.clock()
        with shared_failure(self.world):
            if self.world.is_main:
                self.export(self.model_file)
                plain = {key: getattr(self, key) for key in PLAIN}
                plain |= {BUDGET_KEY: self.budget.state()}
                plain |= {} if self.best.record is None else {BEST_KEY: self.best.record}
                where = (self.state_file, self.updates.parts(), plain)
                save_state(*where, self.config, self.encoder_key)
        self.budget.note("saving", self.budget.clock() - begun)

    @contextlib.contextmanager
    def _saved_on_failure(self) -> Iterator[None]:
        """Save the last complete step if reading data or validation fails, in all processes."""
        try:
            yield
        except Exception as error:
            if self.step:
                self.save()
            if not isinstance(error, (SampleError, OtherProcessError)):
                raise
            kept = f"is saved at step {self.step}" if self.step else "has not begun"
            raise type(error)(
                f"{error}. {self.config.name} {kept}; correct this and run the command again"
            ) from error

    def export(self, path: str | Path, dtype: torch.dtype | None = None) -> None:
        """Write the averaged weights for inference, with `dtype` float16 in half the size."""
        info = {"step": self.step, "trained_s": round(self.trained_s), "scores": self.scores}
        self.stage.save(path, self.weights(), info, dtype)

    def weights(self) -> dict[str, Tensor]:
        """Averaged weights by their names in a checkpoint."""
        own = self.ema.module.get_submodule(self.stage.kept).state_dict()
        return self.stage.fixed | {self.stage.prefix + k: v for k, v in own.items()}

    def model(self) -> Any:
        """Build the model for inference from the averaged weights."""
        return self.stage.build(self.weights(), self.model_file)

    def _timed_step(self, stream: Iterator[Batch], interrupts: Interrupts) -> dict[str, Tensor]:
        """Run one step; measure its time and the time spent waiting for data."""
        begun = time.monotonic()
        # Other processes would wait for this one.
        wait = interrupts.end_the_wait() if self.world.size == 1 else contextlib.nullcontext()
        with self._saved_on_failure(), shared_failure(self.world), wait:
            parts = [next(stream) for _ in range(self.config.train.accumulate)]
        self.waited_s += time.monotonic() - begun
        terms = self.updates.update(self.step, parts, self.budget.share())
        if self._is_read(self.step + 1):
            self._check_loss()  # before the step counts
        self.step += 1
        self.trained_s += time.monotonic() - begun
        return terms

    def _is_read(self, step: int) -> bool:
        """Whether the loss is read after `step` steps, see `read_every`."""
        return step % self.read_every == 0

    def _check_loss(self) -> None:
        """Raise the error of a step whose loss is not finite, in all processes."""
        failure = self.updates.failure()
        if failure is not None:
            error = RefusionError if self.world.is_main else OtherProcessError
            raise error(loss_error(self.config, failure, self.model_file))

    def _after_step(self, board: SummaryWriter | None, terms: dict[str, float]) -> None:
        """Log, validate and save at the intervals of the config, or of the time."""
        train, is_last = self.config.train, self.budget.is_over(self.step)
        is_due = functools.partial(self.budget.is_due, self.step)
        if self.step % train.log_every == 0 or is_last:
            self._log(board, terms)
        if is_last or is_due(train.validate_every, VALIDATE_EVERY):
            self._validate(board)
        if not is_last and is_due(train.checkpoint_every, SAVE_EVERY):
            self.save()
        self.budget.mark()

    def _validate(self, board: SummaryWriter | None) -> None:
        """Validate the averaged weights, unless it takes too much time; keep the best weights."""
        self.validated_at, begun = self.step, self.budget.clock()
        if not self.budget.validates():
            return
        self._check_loss()
        with self._saved_on_failure():
            view = self.stage.viewer(self.model(), self.device)
            where = {"world": self.world, "device": self.device, "board": board}
            measure = functools.partial(validate, view, self.validation, self.step, **where)
            self.scores = validate_in_time(self.budget, self.validation, self.world, measure)
        with shared_failure(self.world):
            export = self.export if self.world.is_main else None
            self.best.note(self.step, self.scores, self.config, self.budget, export)
        self.budget.note("validation", self.world.largest([self.budget.clock() - begun])[0])

    def _batches(self) -> Iterator[Batch]:
        """Batches from the current step on; their content depends on the step only."""

        def encode(batch: Batch) -> Batch:
            with self.updates.autocast():
                return self.stage.encode(to_device(batch, self.device))

        key = f"{self.encoder_key} {self.updates.dtype}"
        where = (self.config, self.folder, self.world, self.device)
        stream = BatchStream(*where, encode, key, self.budget.encoding_limit)
        return stream.batches(self.step)

    def _load_state(self) -> None:
        where = (self.config, self.encoder_key, self.device)
        plain = load_state(self.state_file, self.updates.parts(), *where)
        if BUDGET_KEY in plain:
            self.budget.load(plain.pop(BUDGET_KEY))
        self.best.record = plain.pop(BEST_KEY, None)
        for key, value in plain.items():
            setattr(self, key, value)
        self.updates.use_config()
        logger.info("%s: continuing at step %d", self.config.name, self.step)

    def _log(self, board: SummaryWriter | None, terms: dict[str, float]) -> None:
        values = terms | {"lr": self.optimizer.param_groups[0]["lr"]}
        values |= {"waiting_for_data": self.waited_s / self.trained_s}
        log_step(board, self.step, values, self.trained_s, self.left_s())

    def left_s(self) -> float:
        """Expected seconds to the end of the run, from the mean duration of its steps."""
        return self.budget.left_s(self.step, self.trained_s / max(1, self.step))
