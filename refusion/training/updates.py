"""One optimizer step: gradients of a batch, update of the weights and of their average."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from refusion.config import RunConfig
from refusion.devices.precision import choose_precision, fast_float32
from refusion.devices.processes import World
from refusion.errors import RefusionError
from refusion.memory import is_out_of_memory
from refusion.randomness import keyed_generator
from refusion.training.batches import shares_of
from refusion.training.ema import Ema
from refusion.training.optim import build_optimizer, learning_rate
from refusion.training.recomputation import recompute_blocks
from refusion.training.stages.base import LossModule, Stage
from refusion.training.workers import Batch

SAMPLE_KEY = 2  # key of the random stream of the samples


class Updates:
    """The optimizer steps of a run.

    Args:
        config: config of the run.
        stage: module and loss.
        world: rank of this process and number of processes.
        device: device of the networks.

    Attributes:
        module: the trained module.
        parameters: its parameters.
        optimizer: the optimizer.
        ema: average of the weights.
        scaler: scaler of the loss, which is active in fp16 only.
        dtype: number format of the networks.
        failed: step and loss of the first step whose loss is not finite, (-1, 0) for none; float64
            (2,) on the device, so that a step does not wait for the GPU.
    """

    def __init__(
        self, config: RunConfig, stage: Stage, *, world: World, device: torch.device
    ) -> None:
        self.config, self.world, self.device = config, world, device
        self.dtype = choose_precision(config.train.precision, device)
        self.module: nn.Module = stage.module.to(memory_format=torch.channels_last)
        self.losses: nn.Module = LossModule(stage)
        if world.size > 1:
            self.losses = DistributedDataParallel(self.losses, gradient_as_bucket_view=True)
        self.parameters = list(self.module.parameters())
        self.optimizer = build_optimizer(self.parameters, config.train.optimizer)
        self.ema = Ema(self.module, config.train.ema_decay, config.train.ema_every)
        if config.train.checkpoint_blocks:
            recompute_blocks(self.module)
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.dtype == torch.float16)
        self.failed = torch.tensor([-1.0, 0.0], dtype=torch.float64, device=device)

    def parts(self) -> dict[str, Any]:
        """Objects whose state must be saved."""
        return {name: getattr(self, name) for name in ("module", "ema", "optimizer", "scaler")}

    def use_config(self) -> None:
        """Take the constants of the optimizer from the config instead of a loaded state."""
        settings = self.config.train.optimizer
        for group in self.optimizer.param_groups:
            group["betas"], group["weight_decay"] = settings.betas, settings.weight_decay

    def autocast(self) -> torch.autocast:
        """Context in which the networks use their number format."""
        is_narrow = self.dtype != torch.float32
        return torch.autocast(self.device.type, dtype=self.dtype, enabled=is_narrow)

    def update(self, step: int, parts: list[Batch], share: float) -> dict[str, Tensor]:
        """Run one optimizer step; except for Lion in fp16 it does not wait for a GPU.

        Args:
            step: number of the step, from 0.
            parts: parts of the batch of this process.
            share: share of the time of the run that is used, 0..1; see `learning_rate`.

        Returns:
            Terms of the loss, means over the batch, and `grad_norm`; scalars on the device. A loss
            that is not finite raises no error; call `failure` before the weights are used.

        Raises:
            RefusionError: the batch does not fit in the memory.
        """
        train = self.config.train
        rate = learning_rate(step, train.steps, train.optimizer.lr, train.lr_schedule, share)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.module.train()
        self.optimizer.zero_grad(set_to_none=True)
        with fast_float32(self.device), self._memory_explained(step):
            terms = self._gradients(step, parts)
            self.scaler.unscale_(self.optimizer)
            gradients = [p.grad for p in self.parameters if p.grad is not None]
            norm = nn.utils.get_total_norm(gradients)
            if train.grad_clip is not None:
                nn.utils.clip_grads_with_norm_(self.parameters, train.grad_clip, norm)
            self._note(step, terms["total"], norm)
            self.scaler.step(self.optimizer)
        self.scaler.update()
        self.ema.update(self.module, step + 1)
        return terms | {"grad_norm": norm.detach()}

    def failure(self) -> tuple[int, float] | None:
        """Step and loss of the first step whose loss is not finite; waits for the device."""
        step, loss = self.failed.tolist()
        return None if step < 0 else (int(step), loss)

    def _note(self, step: int, total: Tensor, norm: Tensor) -> None:
        """Note the step if its loss or, except in fp16, its gradient is not finite."""
        total = total.detach().double()
        if not self.scaler.is_enabled():  # the scaler skips infinite gradients in fp16
            total = total + 0 * norm.detach()
        now = torch.stack([torch.full_like(total, step), total])
        is_first = ~total.isfinite() & (self.failed[0] < 0)
        self.failed = torch.where(is_first, now, self.failed)

    @contextlib.contextmanager
    def _memory_explained(self, step: int) -> Iterator[None]:
        try:
            yield
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            train, size = self.config.train, self.config.data.batch_size
            parts = f"{train.accumulate} part{'s' if train.accumulate > 1 else ''}"
            also = "" if train.checkpoint_blocks else " or set train.checkpoint_blocks=true"
            text = (
                f"{self.config.name}: not enough memory at step {step} for data.batch_size {size} "
                f"in {parts} (train.accumulate); raise train.accumulate{also} and run the command "
                "again, or lower data.batch_size (with another name) or patch; the last checkpoint "
                "is kept"
            )
            raise RefusionError(text) from None

    def _gradients(self, step: int, parts: list[Batch]) -> dict[str, Tensor]:
        """Accumulate the gradients of the parts of a batch; return the loss terms of the batch."""
        shares, seed = shares_of(self.config, self.world, step), self.config.train.seed
        collected: list[dict[str, Tensor]] = []
        for number, batch in enumerate(parts):
            indices = shares.indices(step, number)
            generators = [keyed_generator(seed, SAMPLE_KEY, index) for index in indices]
            is_last = number == len(parts) - 1
            is_local = self.world.size > 1 and not is_last  # gradients are exchanged once a step
            with self.losses.no_sync() if is_local else contextlib.nullcontext():
                with self.autocast():
                    terms = self.losses(batch, generators)
                self.scaler.scale(terms["total"] / len(parts)).backward()
            collected.append({name: term.detach() for name, term in terms.items()})
        stacked = torch.stack([torch.stack(list(terms.values())) for terms in collected])
        return dict(zip(collected[0], self.world.mean(stacked.mean(dim=0)), strict=True))


def loss_error(config: RunConfig, failure: tuple[int, float], model_file: object) -> str:
    """Message about a loss that is not finite.

    Args:
        config: config of the run.
        failure: step and loss, see `Updates.failure`.
        model_file: file of the last checkpoint.
    """
    step, loss = failure
    value = f"{loss:g}" if not math.isfinite(loss) else "not finite"
    return (
        f"{config.name}: the loss is {value} at step {step}; the weights of the last checkpoint "
        f"are in {model_file}. Lower train.optimizer.lr, set train.grad_clip, or use "
        "train.precision: fp32"
    )
