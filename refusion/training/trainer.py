"""The training loop. Interrupted at any moment, the same command continues as if nothing happened.

Data order, times and noise are functions of (seed, sample), and everything with a memory (weights,
their average, optimizer) is written to one file, aside and renamed. Under `torchrun` the same
batches are shared among the processes.
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
import yaml
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.tensorboard import SummaryWriter

from refusion.config import RunConfig, config_to_dict
from refusion.devices.precision import choose_precision
from refusion.devices.processes import SINGLE_PROCESS, World
from refusion.errors import ConfigError, RefusionError
from refusion.randomness import keyed_generator
from refusion.training.batches import BatchShares
from refusion.training.ema import Ema
from refusion.training.interrupts import Interrupts
from refusion.training.latents import weights_key
from refusion.training.loading import Batch, batches, latent_set, to_device, training_set
from refusion.training.lock import run_lock
from refusion.training.optim import build_optimizer, learning_rate
from refusion.training.stages import STAGES
from refusion.training.stages.base import LossModule, Stage
from refusion.training.state import PLAIN, load_state, save_state, start_from
from refusion.training.validation import validate, validation_sets

WEIGHTS_KEY, SAMPLE_KEY = 1, 2  # keep the random streams of initialisation and samples apart

logger = logging.getLogger(__name__)
Progress = Callable[[int, int, dict[str, float]], None]


class Trainer:
    """One run: ``Trainer(config, ...).train()``.

    Args:
        config: the run; its folder is ``runs/<name>``.
        device: where to train.
        runs: folder of run folders.
        world: this process among those that train together.

    Files in the run folder: ``config.yml`` (resolved), ``model.safetensors`` (averaged weights, a
    checkpoint as inference reads it), ``state.pt`` (to resume), ``tensorboard/``.

    Raises:
        ConfigError: the batch cannot be shared among the processes.
        CheckpointError: the latent U-Net or the weights to start from cannot be used.
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
        self.shares(0)  # refuses a batch that cannot be cut before any work
        self.folder = Path(runs) / config.name
        _make_folder(self.folder)
        self.dtype = choose_precision(config.train.precision, device)
        with torch.random.fork_rng(devices=[]):
            # Layers draw their first weights from the global generator; this keeps it ours.
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
        self.waited_s = 0.0  # of it, for the data loader
        self.scores: dict[str, float] = {}
        self.validation: dict[str, Any] = {}
        self.encoder_key = weights_key(self.stage.fixed)

    @property
    def state_file(self) -> Path:
        """Where the state to resume from lies."""
        return self.folder / "state.pt"

    @property
    def model_file(self) -> Path:
        """Where the averaged weights lie."""
        return self.folder / "model.safetensors"

    def shares(self, start: int, stop: int | None = None) -> BatchShares:
        """This process's samples from step `start` on, to before step `stop` or the last."""
        train = self.config.train
        size = self.config.data.batch_size
        return BatchShares(size, train.accumulate, self.world, start, stop or train.steps)

    def train(self, progress: Progress | None = None) -> dict[str, float]:
        """Train to ``config.train.steps``, from ``state.pt`` if there is one.

        Args:
            progress: called after every step as (step, steps, terms of the loss).

        Returns:
            Scores of the last validation.

        Raises:
            RefusionError: the loss is not finite (the last checkpoint stays as it is), or
                ``state.pt`` belongs to another configuration.
        """
        with run_lock(self.folder) if self.world.is_main else contextlib.nullcontext():
            if self.state_file.is_file():
                self._load_state()
            resolved = yaml.safe_dump(config_to_dict(self.config), sort_keys=False)
            if self.world.is_main:
                (self.folder / "config.yml").write_text(resolved, encoding="utf-8")
            self.validation = validation_sets(self.config)
            with self._board() as board:
                self._train(board, progress)
            self.save()  # also of a complete run: its sampling defaults may have changed
        return self.scores

    def _train(self, board: SummaryWriter | None, progress: Progress | None) -> None:
        """All steps that are left."""
        stop = self.config.train.steps
        if self.step >= stop:
            logger.info("%s: already at step %d of %d", self.config.name, self.step, stop)
            return
        stream = self._batches()  # may encode latents for minutes: Ctrl-C then stops at once
        with Interrupts() as interrupts:
            while self.step < stop:
                terms = self._timed_step(stream)
                self._after_step(board, terms)
                if progress is not None:
                    progress(self.step, stop, {name: float(term) for name, term in terms.items()})
                if self.world.any(interrupts.received > 0, self.device):
                    self._stop(interrupts.received)

    def _stop(self, number: int) -> NoReturn:
        """Save, and end as the signal asks."""
        self.save()
        logger.info("%s: interrupted, saved at step %d", self.config.name, self.step)
        if number == signal.SIGTERM:
            raise SystemExit(128 + signal.SIGTERM)
        raise KeyboardInterrupt

    def save(self) -> None:
        """Write the averaged weights and the state to resume from, each whole or not at all."""
        if not self.world.is_main:
            return
        self.export(self.model_file)
        plain = {key: getattr(self, key) for key in PLAIN}
        save_state(self.state_file, self._parts(), plain, self.config, self.encoder_key)

    def export(self, path: str | Path, dtype: torch.dtype | None = None) -> None:
        """Write the averaged weights as inference reads them; ``dtype`` float16 halves the file."""
        info = {"step": self.step, "trained_s": round(self.trained_s), "scores": self.scores}
        self.stage.save(path, self.weights(), info, dtype)

    def weights(self) -> dict[str, Tensor]:
        """Averaged weights under their names in a checkpoint."""
        own = self.ema.module.get_submodule(self.stage.kept).state_dict()
        return self.stage.fixed | {self.stage.prefix + k: v for k, v in own.items()}

    def model(self) -> Any:
        """The averaged weights as inference would load them."""
        return self.stage.build(self.weights(), self.model_file)

    def _timed_step(self, stream: Iterator[Batch]) -> dict[str, Tensor]:
        """One step and its time, of which that spent waiting for data."""
        begun = time.monotonic()
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
        if not self.scaler.is_enabled():  # in fp16 an infinite gradient is skipped and scaled down
            total += 0 * norm.item()
        if not math.isfinite(total):
            raise RefusionError(
                f"{self.config.name}: the loss is {total} at step {self.step}; "
                f"weights up to the last checkpoint are in {self.model_file}. Lower "
                "train.optimizer.lr, set train.grad_clip, or use train.precision: fp32"
            )
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.ema.update(self.module, self.step + 1)
        return terms | {"grad_norm": norm.detach()}

    def _gradients(self, parts: list[Batch]) -> dict[str, Tensor]:
        """Add up the gradients of a batch's parts; returns the terms of the whole batch's loss."""
        shares, seed = self.shares(self.step), self.config.train.seed
        collected: list[dict[str, Tensor]] = []
        for number, batch in enumerate(parts):
            indices = shares.indices(self.step, number)
            generators = [keyed_generator(seed, SAMPLE_KEY, index) for index in indices]
            is_last = number == len(parts) - 1
            waits = self.world.size > 1 and not is_last  # gradients are exchanged once a step
            with self.losses.no_sync() if waits else contextlib.nullcontext():
                with self._autocast():
                    terms = self.losses(batch, generators)
                self.scaler.scale(terms["total"] / len(parts)).backward()
            collected.append({name: term.detach() for name, term in terms.items()})
        stacked = torch.stack([torch.stack(list(terms.values())) for terms in collected])
        return dict(zip(collected[0], self.world.mean(stacked.mean(dim=0)), strict=True))

    def _after_step(self, board: SummaryWriter | None, terms: dict[str, Tensor]) -> None:
        """Log, validate and save where it is time to."""
        train = self.config.train
        is_last = self.step == train.steps
        if self.step % train.log_every == 0 or is_last:
            self._log(board, terms)
        if self.step % train.validate_every == 0 or is_last:
            self.scores = self._validated(board)
        if self.step % train.checkpoint_every == 0 and not is_last:
            self.save()

    def _validated(self, board: SummaryWriter | None) -> dict[str, float]:
        """Scores of the averaged weights."""
        view = self.stage.viewer(self.model(), self.device)
        where = {"world": self.world, "device": self.device, "board": board}
        return validate(view, self.validation, self.step, **where)

    def _batches(self) -> Iterator[Batch]:
        """Batches from the current step on; what each holds depends on its step only."""
        data, stop = self.config.data, self.config.train.steps
        if data.cached_latents:
            return self._rounds(self._latents())
        return self._loaded(training_set(self.config), data.workers, stop)

    def _rounds(self, latents: Any) -> Iterator[Batch]:
        """Batches of the current round's latents, then of the following rounds'."""
        stop = last = self.config.train.steps
        if every := self.config.data.refresh_latents:
            stop = min(last, (self.step // every + 1) * every)
        yield from self._loaded(latents, 0, stop)
        if stop < last:
            yield from self._rounds(self._latents())

    def _loaded(self, dataset: Any, workers: int, stop: int) -> Iterator[Batch]:
        """Batches of a dataset from the current step to before step `stop`."""
        shares, seed = self.shares(self.step, stop), self.config.train.seed
        return batches(dataset, shares, workers=workers, seed=seed, device=self.device)

    def _latents(self) -> Any:
        def encode(batch: Batch) -> Batch:
            with self._autocast():
                return self.stage.encode(to_device(batch, self.device))

        def find(*, make: bool) -> Any:
            key = f"{self.encoder_key} {self.dtype}"
            return latent_set(self.config, self.folder, encode, key, self.step, make=make)

        if self.world.is_main:
            found = find(make=True)
            self.world.wait()
            return found
        self.world.wait()
        return find(make=False)

    def _autocast(self) -> torch.autocast:
        is_narrow = self.dtype != torch.float32
        return torch.autocast(self.device.type, dtype=self.dtype, enabled=is_narrow)

    def _board(self) -> contextlib.AbstractContextManager[SummaryWriter | None]:
        if not self.world.is_main:
            return contextlib.nullcontext()
        return SummaryWriter(self.folder / "tensorboard", purge_step=self.step + 1)

    def _parts(self) -> dict[str, Any]:
        """What has a memory."""
        return {
            "module": self.module,
            "ema": self.ema,
            "optimizer": self.optimizer,
            "scaler": self.scaler,
        }

    def _load_state(self) -> None:
        plain = load_state(
            self.state_file, self._parts(), self.config, self.encoder_key, self.device
        )
        for key, value in plain.items():
            setattr(self, key, value)
        optimizer = self.config.train.optimizer
        for group in self.optimizer.param_groups:  # the config's word counts, not the state's
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


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--runs: no folder '{folder}': {error.strerror}") from error
