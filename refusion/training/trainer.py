"""The training loop. Interrupted at any moment, the same command continues as if nothing happened.

Data order, times and noise are functions of (seed, step), and everything with a memory (weights,
their average, optimizer) is written to one file, aside and renamed.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torch.utils.tensorboard import SummaryWriter

from refusion.checkpoint import PARTS, Checkpoint, build_model, save_checkpoint
from refusion.config import RunConfig, config_to_dict, find_table
from refusion.data.stream import keyed_generator
from refusion.errors import CheckpointError, RefusionError
from refusion.inference.precision import choose_precision
from refusion.training.diffusion import DiffusionStage
from refusion.training.ema import Ema
from refusion.training.latent_replacement import LatentUNetStage
from refusion.training.latents import LatentPairs, cache_key, load_latents, store_latents
from refusion.training.optim import build_optimizer, learning_rate
from refusion.training.validation import validate

STAGES = {"latent_unet": LatentUNetStage, "diffusion": DiffusionStage}
WEIGHTS_KEY, STEP_KEY = 1, 2  # keep the random streams of initialisation and steps apart

logger = logging.getLogger(__name__)
Progress = Callable[[int, int, dict[str, float]], None]


class Trainer:
    """One run: ``Trainer(config, ...).train()``.

    Args:
        config: the run; its folder is ``runs/<name>``.
        device: where to train.
        runs: folder of run folders.

    Files in the run folder: ``config.yml`` (resolved), ``model.safetensors`` (averaged weights, a
    checkpoint as inference reads it), ``state.pt`` (to resume), ``tensorboard/``.
    """

    def __init__(
        self, config: RunConfig, *, device: torch.device, runs: str | Path = "runs"
    ) -> None:
        self.config, self.device = config, device
        self.folder = Path(runs) / config.name
        self.folder.mkdir(parents=True, exist_ok=True)
        self.dtype = choose_precision(config.train.precision, device)
        with torch.random.fork_rng(devices=[]):
            # Layers draw their first weights from the global generator; this keeps it ours.
            torch.manual_seed(keyed_generator(config.train.seed, WEIGHTS_KEY).initial_seed())
            self.stage = STAGES[config.stage](config, device)
        self.module: nn.Module = self.stage.module.to(memory_format=torch.channels_last)
        self.parameters = list(self.module.parameters())
        self.optimizer = build_optimizer(self.parameters, config.train.optimizer)
        self.ema = Ema(self.module, config.train.ema_decay)
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.dtype == torch.float16)
        self.step = 0
        self.trained_s = 0.0
        self.scores: dict[str, float] = {}

    @property
    def state_file(self) -> Path:
        """Where the state to resume from lies."""
        return self.folder / "state.pt"

    @property
    def model_file(self) -> Path:
        """Where the averaged weights lie."""
        return self.folder / "model.safetensors"

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
        train = self.config.train
        if self.state_file.is_file():
            self._load_state()
        resolved = yaml.safe_dump(config_to_dict(self.config), sort_keys=False)
        (self.folder / "config.yml").write_text(resolved, encoding="utf-8")
        batches = self._batches()
        with SummaryWriter(self.folder / "tensorboard", purge_step=self.step) as board:
            started, before = time.monotonic(), self.trained_s
            while self.step < train.steps:
                terms = self._step(next(batches))
                self.step += 1
                self.trained_s = before + time.monotonic() - started
                last = self.step == train.steps
                if self.step % train.log_every == 0 or last:
                    self._log(board, terms)
                if self.step % train.validate_every == 0 or last:
                    self.scores = validate(self, board)
                if self.step % train.checkpoint_every == 0 and not last:
                    self.save()
                if progress is not None:
                    progress(self.step, train.steps, {k: float(v) for k, v in terms.items()})
        self.save()  # also of a run that was complete: its sampling defaults may have changed
        return self.scores

    def save(self) -> None:
        """Write the averaged weights and the state to resume from, each whole or not at all."""
        self.export(self.model_file)
        state = {
            "config": self._fingerprint(),
            "step": self.step,
            "trained_s": self.trained_s,
            "scores": self.scores,
            "module": self.module.state_dict(),
            "ema": self.ema.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
        }
        aside = self.state_file.with_suffix(".part")
        torch.save(state, aside)
        aside.replace(self.state_file)

    def export(self, path: str | Path, dtype: torch.dtype | None = None) -> None:
        """Write the averaged weights as inference reads them; ``dtype`` float16 halves the file."""
        info = {"step": self.step, "trained_s": round(self.trained_s), "scores": self.scores}
        save_checkpoint(path, self.stage.model_config, self.weights(), info, dtype)

    def weights(self) -> dict[str, Tensor]:
        """Averaged weights under their names in a checkpoint."""
        own = self.ema.module.state_dict()
        return self.stage.fixed | {f"{self.stage.part}.{k}": v for k, v in own.items()}

    def model(self) -> Any:
        """The averaged weights as inference would load them."""
        checkpoint = Checkpoint(self.stage.model_config, self.weights(), {}, self.model_file)
        model = build_model(checkpoint)
        for part in PARTS:
            net = getattr(model, part)
            if net is not None:
                net.to(self.device)
        return model

    def _step(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        train = self.config.train
        generator = keyed_generator(train.seed, STEP_KEY, self.step)
        peak, schedule = train.optimizer.lr, train.lr_schedule
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.step, train.steps, peak, schedule)
        self.module.train()
        with torch.autocast(
            self.device.type, dtype=self.dtype, enabled=self.dtype != torch.float32
        ):
            terms = self.stage.loss(batch, generator)
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(terms["total"]).backward()
        self.scaler.unscale_(self.optimizer)
        norm = nn.utils.clip_grad_norm_(self.parameters, train.grad_clip or math.inf)
        if not math.isfinite(terms["total"].item()):
            raise RefusionError(
                f"{self.config.name}: the loss is {terms['total'].item()} at step {self.step}; "
                f"weights up to the last checkpoint are in {self.model_file}. Lower "
                "train.optimizer.lr, set train.grad_clip, or use train.precision: fp32"
            )
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.ema.update(self.module)
        return {name: term.detach() for name, term in terms.items()} | {"grad_norm": norm.detach()}

    def _batches(self) -> Iterator[dict[str, Tensor]]:
        """Batches from the current step on; what each holds depends on its step only."""
        data, train = self.config.data, self.config.train
        dataset = self._dataset()
        size = data.batch_size
        loader = DataLoader(
            dataset,
            batch_size=size,
            sampler=range(self.step * size, train.steps * size),
            num_workers=0 if isinstance(dataset, LatentPairs) else data.workers,
            generator=keyed_generator(train.seed),  # else workers are seeded from the global one
            pin_memory=self.device.type == "cuda",
        )
        for batch in loader:
            yield {
                name: value.to(self.device, non_blocking=True, memory_format=torch.channels_last)
                for name, value in batch.items()
            }

    def _dataset(self) -> Any:
        data = self.config.data
        component = data.train
        images = find_table("datasets")[component.type](
            **component.settings, seed=self.config.train.seed
        )
        if not data.cached_latents:
            return images
        seed, plain = self.config.train.seed, config_to_dict(self.config)["data"]
        key = cache_key([plain["train"], data.cached_latents, seed, self._encoder_key()])
        path = self.folder / "latents.safetensors"
        pairs = load_latents(path, key)
        if pairs is None:
            store_latents(path, key, self._encoded(images))
            pairs = load_latents(path, key)
        return LatentPairs(*pairs, seed)

    def _encoded(self, images: Any) -> Iterator[tuple[Tensor, Tensor]]:
        data = self.config.data
        loader = DataLoader(
            images,
            batch_size=data.batch_size,
            sampler=range(data.cached_latents),
            num_workers=data.workers,
            generator=keyed_generator(self.config.train.seed),
        )
        for number, batch in enumerate(loader):
            if number % 50 == 0:
                done = number * data.batch_size
                logger.info("encoding latents: %d of %d pairs", done, data.cached_latents)
            both = torch.cat([batch["lq"], batch["gt"]])
            both = both.to(self.device, memory_format=torch.channels_last)
            with torch.autocast(
                self.device.type, dtype=self.dtype, enabled=self.dtype != torch.float32
            ):
                yield self.stage.encode(both).float().chunk(2)

    def _encoder_key(self) -> str:
        """Fingerprint of the latent U-Net's weights, if there is one."""
        return cache_key([float(v.double().abs().sum()) for v in self.stage.fixed.values()])

    def _fingerprint(self) -> dict[str, Any]:
        """What must not change between a run and its continuation."""
        config = config_to_dict(self.config)
        own = {key: config.get(key) for key in ("stage", "network", "latent_unet", "prediction")}
        # A network belongs to the latent it was trained in: a retrained U-Net is another model.
        return own | {"encoder": self._encoder_key()}

    def _load_state(self) -> None:
        try:
            state = torch.load(self.state_file, map_location=self.device, weights_only=True)
        except Exception as error:
            raise CheckpointError(
                f"{self.state_file}: cannot be resumed from ({error}); remove it to start anew"
            ) from error
        if state["config"] != self._fingerprint():
            raise CheckpointError(
                f"{self.state_file}: belongs to another model than the config describes; "
                "choose another name, or remove the run folder to start anew"
            )
        self.module.load_state_dict(state["module"])
        self.ema.load_state_dict(state["ema"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        self.step, self.trained_s = state["step"], state["trained_s"]
        self.scores = state["scores"]
        logger.info("%s: continuing at step %d", self.config.name, self.step)

    def _log(self, board: SummaryWriter, terms: dict[str, Tensor]) -> None:
        for name, value in terms.items():
            board.add_scalar(f"train/{name}", value, self.step)
        board.add_scalar("train/lr", self.optimizer.param_groups[0]["lr"], self.step)
        losses = " ".join(f"{name} {float(value):.4g}" for name, value in terms.items())
        logger.info("step %d: %s (%.0f s)", self.step, losses, self.trained_s)
