"""The training loop. After an interrupt at any moment, the same command continues exactly.

Data order, times and noise are functions of (seed, index of the sample). All other state (weights,
their average, optimizer) is saved in one file, which is replaced as a whole. Under `torchrun` the
processes divide each batch among themselves.
"""

from __future__ import annotations

import contextlib
import logging
import math
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.tensorboard import SummaryWriter

from refusion.config import RunConfig
from refusion.devices.precision import choose_precision
from refusion.devices.processes import SINGLE_PROCESS, World
from refusion.errors import RefusionError
from refusion.randomness import keyed_generator
from refusion.training.batches import BatchShares, shares_of
from refusion.training.ema import Ema
from refusion.training.failures import (
    OtherProcessError,
    lost_processes_explained,
    shared_failure,
)
from refusion.training.interrupts import InterruptedWaitError, Interrupts
from refusion.training.latents import weights_key
from refusion.training.loading import BatchStream, to_device
from refusion.training.optim import build_optimizer, learning_rate
from refusion.training.run_folder import (
    MODEL,
    STATE,
    make_run_folder,
    open_board,
    run_lock,
    write_config,
)
from refusion.training.stages import STAGES
from refusion.training.stages.base import LossModule, Stage
from refusion.training.state import PLAIN, load_state, save_state, start_from
from refusion.training.validation import validate, validation_sets
from refusion.training.workers import Batch, SampleError

WEIGHTS_KEY, SAMPLE_KEY = 1, 2  # keys of random streams: initialisation, samples

logger = logging.getLogger(__name__)
Progress = Callable[[int, int, dict[str, float]], None]


class Trainer:
    """One run: ``Trainer(config, ...).train()``.

    Args:
        config: settings of the run; the run folder is `runs/<name>`.
        device: device of the networks.
        runs: folder that contains the run folders.
        world: rank of this process and number of processes.

    Files in the run folder: `config.yml` (with all defaults), `model.safetensors` (averaged
    weights, a checkpoint for inference), `state.pt` (to resume the run), `tensorboard/`.

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
    ) -> None:
        self.config, self.device, self.world = config, device, world
        self.shares(0)  # raises early if the batch cannot be divided
        self.folder = Path(runs) / config.name
        make_run_folder(self.folder)
        self.dtype = choose_precision(config.train.precision, device)
        with torch.random.fork_rng(devices=[]):
            # PyTorch initialises layers with the global generator, so seed it within this block.
            torch.manual_seed(keyed_generator(config.train.seed, WEIGHTS_KEY).initial_seed())
            self.stage: Stage = STAGES[config.stage](config, device)
        if config.init is not None and not self.state_file.is_file():
            start_from(config.init, self.stage)
        self.module: nn.Module = self.stage.module.to(memory_format=torch.channels_last)
        if config.train.compile:
            self.stage.compile()
        self.losses: nn.Module = LossModule(self.stage)
        if world.size > 1:
            self.losses = DistributedDataParallel(self.losses, gradient_as_bucket_view=True)
        self.parameters = list(self.module.parameters())
        self.optimizer = build_optimizer(self.parameters, config.train.optimizer)
        self.ema = Ema(self.module, config.train.ema_decay, config.train.ema_every)
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.dtype == torch.float16)
        self.step = 0
        self.trained_s = 0.0
        self.waited_s = 0.0  # part of `trained_s` spent waiting for the data loader
        self.scores: dict[str, float] = {}
        self.validation: dict[str, Any] = {}
        self.encoder_key = weights_key(self.stage.fixed)

    @property
    def state_file(self) -> Path:
        """File of the state to resume from."""
        return self.folder / STATE

    @property
    def model_file(self) -> Path:
        """File of the averaged weights."""
        return self.folder / MODEL

    def shares(self, start: int, stop: int | None = None) -> BatchShares:
        """Samples of this process in steps `start` to `stop` - 1, by default to the end."""
        return shares_of(self.config, self.world, start, stop)

    def train(self, progress: Progress | None = None) -> dict[str, float]:
        """Train up to `config.train.steps`; continue from `state.pt` if it exists.

        Args:
            progress: called after every step with (step, steps, terms of the loss).

        Returns:
            Scores of the last validation by name.

        Raises:
            RefusionError: the loss is not finite (the last checkpoint is kept), `state.pt` belongs
                to another configuration, or a process was killed.
            SampleError: a sample cannot be made; the run is saved at the last complete step.
            OtherProcessError: another process failed, and shows the message.
        """
        is_main, nothing = self.world.is_main, contextlib.nullcontext()
        with (
            lost_processes_explained(self.world),
            run_lock(self.folder) if is_main else nothing,
        ):
            with self._shared_failure():
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
        stop = self.config.train.steps
        if self.step >= stop:
            logger.info("%s: already at step %d of %d", self.config.name, self.step, stop)
            return
        with self._saved_on_failure(), self._shared_failure():
            stream = self._batches()  # encodes latents for minutes; Ctrl-C stops immediately
        with contextlib.closing(stream), Interrupts() as interrupts:
            while self.step < stop:
                try:
                    terms = self._timed_step(stream, interrupts)
                except InterruptedWaitError:
                    self._stop(interrupts.received)
                self._after_step(board, terms)
                if progress is not None:
                    progress(self.step, stop, {name: float(term) for name, term in terms.items()})
                if self.world.any(interrupts.received > 0, self.device):
                    self._stop(interrupts.received)

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
        with self._shared_failure():
            if self.world.is_main:
                self.export(self.model_file)
                plain = {key: getattr(self, key) for key in PLAIN}
                save_state(self.state_file, self._parts(), plain, self.config, self.encoder_key)

    def _shared_failure(self) -> contextlib.AbstractContextManager[None]:
        return shared_failure(self.world, self.device)

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
        with self._saved_on_failure(), self._shared_failure(), wait:
            parts = [next(stream) for _ in range(self.config.train.accumulate)]
        self.waited_s += time.monotonic() - begun
        terms = self._step(parts)
        self.step += 1
        self.trained_s += time.monotonic() - begun
        return terms

    def _step(self, parts: list[Batch]) -> dict[str, Tensor]:
        train = self.config.train
        peak, schedule = train.optimizer.lr, train.lr_schedule
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.step, train.steps, peak, schedule)
        self.module.train()
        self.optimizer.zero_grad(set_to_none=True)
        terms = self._gradients(parts)
        self.scaler.unscale_(self.optimizer)
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        norm = nn.utils.get_total_norm(gradients)
        if train.grad_clip is not None:
            nn.utils.clip_grads_with_norm_(self.parameters, train.grad_clip, norm)
        total = terms["total"].item()
        if not self.scaler.is_enabled():  # the scaler skips infinite gradients in fp16
            total += 0 * norm.item()
        if not math.isfinite(total):  # in all processes
            raise (RefusionError if self.world.is_main else OtherProcessError)(
                f"{self.config.name}: the loss is {total} at step {self.step}; "
                f"the weights of the last checkpoint are in {self.model_file}. Lower "
                "train.optimizer.lr, set train.grad_clip, or use train.precision: fp32"
            )
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.ema.update(self.module, self.step + 1)
        return terms | {"grad_norm": norm.detach()}

    def _gradients(self, parts: list[Batch]) -> dict[str, Tensor]:
        """Accumulate the gradients of the parts of a batch; return the loss terms of the batch."""
        shares, seed = self.shares(self.step), self.config.train.seed
        collected: list[dict[str, Tensor]] = []
        for number, batch in enumerate(parts):
            indices = shares.indices(self.step, number)
            generators = [keyed_generator(seed, SAMPLE_KEY, index) for index in indices]
            is_last = number == len(parts) - 1
            is_local = self.world.size > 1 and not is_last  # gradients are exchanged once a step
            with self.losses.no_sync() if is_local else contextlib.nullcontext():
                with self._autocast():
                    terms = self.losses(batch, generators)
                self.scaler.scale(terms["total"] / len(parts)).backward()
            collected.append({name: term.detach() for name, term in terms.items()})
        stacked = torch.stack([torch.stack(list(terms.values())) for terms in collected])
        return dict(zip(collected[0], self.world.mean(stacked.mean(dim=0)), strict=True))

    def _after_step(self, board: SummaryWriter | None, terms: dict[str, Tensor]) -> None:
        """Log, validate and save at the intervals of the config."""
        train = self.config.train
        is_last = self.step == train.steps
        if self.step % train.log_every == 0 or is_last:
            self._log(board, terms)
        if self.step % train.validate_every == 0 or is_last:
            with self._saved_on_failure():
                self.scores = self._validated(board)
        if self.step % train.checkpoint_every == 0 and not is_last:
            self.save()

    def _validated(self, board: SummaryWriter | None) -> dict[str, float]:
        """Validate the averaged weights."""
        view = self.stage.viewer(self.model(), self.device)
        where = {"world": self.world, "device": self.device, "board": board}
        return validate(view, self.validation, self.step, **where)

    def _batches(self) -> Iterator[Batch]:
        """Batches from the current step on; their content depends on the step only."""

        def encode(batch: Batch) -> Batch:
            with self._autocast():
                return self.stage.encode(to_device(batch, self.device))

        key = f"{self.encoder_key} {self.dtype}"
        stream = BatchStream(self.config, self.folder, self.world, self.device, encode, key)
        return stream.batches(self.step)

    def _autocast(self) -> torch.autocast:
        is_narrow = self.dtype != torch.float32
        return torch.autocast(self.device.type, dtype=self.dtype, enabled=is_narrow)

    def _parts(self) -> dict[str, Any]:
        """Objects whose state must be saved."""
        return {name: getattr(self, name) for name in ("module", "ema", "optimizer", "scaler")}

    def _load_state(self) -> None:
        plain = load_state(
            self.state_file, self._parts(), self.config, self.encoder_key, self.device
        )
        for key, value in plain.items():
            setattr(self, key, value)
        optimizer = self.config.train.optimizer
        for group in self.optimizer.param_groups:  # from the config, not from the state
            group["betas"], group["weight_decay"] = optimizer.betas, optimizer.weight_decay
        logger.info("%s: continuing at step %d", self.config.name, self.step)

    def _log(self, board: SummaryWriter | None, terms: dict[str, Tensor]) -> None:
        rate, waiting = self.optimizer.param_groups[0]["lr"], self.waited_s / self.trained_s
        if board is not None:
            for name, value in terms.items():
                board.add_scalar(f"train/{name}", value, self.step)
            board.add_scalar("train/lr", rate, self.step)
            board.add_scalar("train/waiting_for_data", waiting, self.step)
        losses = " ".join(f"{name} {float(value):.4g}" for name, value in terms.items())
        logger.info(
            "step %d: %s (%.0f s, %.1f %% waiting for data)",
            self.step,
            losses,
            self.trained_s,
            100 * waiting,
        )
