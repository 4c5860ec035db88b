"""Noise schedule of a diffusers scheduler, and conversions of the network's output.

    x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) noise

Times are t = 0..T-1, as in diffusers and the published code. The clean image has no time.
The network predicts the noise ("epsilon"), or v = sqrt(abar_t) noise - sqrt(1 - abar_t) x_0
("v_prediction", Salimans and Ho, 2022).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from refusion.errors import CheckpointError
from refusion.sde.irsde import expand_like

PREDICTIONS = ("epsilon", "v_prediction")
MAX_STEPS = 100_000  # upper bound for damaged files; published models have 1000


@dataclass(frozen=True)
class Schedule:
    """Noise schedule, and the quantity that the network predicts.

    `t` is a time 0..T-1, as a number or a LongTensor (B,).

    Attributes:
        alpha_bar: abar_t at t = 0..T-1, float64 (T,), descending; the last value is 0 with zero
            terminal SNR.
        prediction: one of `PREDICTIONS`.
    """

    alpha_bar: Tensor
    prediction: str

    @property
    def T(self) -> int:
        """Number of times."""
        return len(self.alpha_bar)

    def noised(self, x0: Tensor, noise: Tensor, t: int | Tensor) -> Tensor:
        """State x_t of clean latents `x0` and standard normal `noise`, both (B, C, h, w)."""
        signal, std = self._coefficients(t, x0)
        return signal * x0 + std * noise

    def target(self, x0: Tensor, noise: Tensor, t: int | Tensor) -> Tensor:
        """Output that the network is trained to predict for the state `noised(x0, noise, t)`."""
        if self.prediction == "epsilon":
            return noise
        signal, std = self._coefficients(t, x0)
        return signal * noise - std * x0

    def x0(self, xt: Tensor, output: Tensor, t: int | Tensor) -> Tensor:
        """Estimate of x_0 from the network's `output` for `xt`; "epsilon" needs abar_t > 0."""
        signal, std = self._coefficients(t, xt)
        if self.prediction == "epsilon":
            return (xt - std * output) / signal
        return signal * xt - std * output

    def noise(self, xt: Tensor, output: Tensor, t: int | Tensor) -> Tensor:
        """Estimate of the noise in `xt` from the network's `output`."""
        if self.prediction == "epsilon":
            return output
        signal, std = self._coefficients(t, xt)
        return std * xt + signal * output

    def output(self, xt: Tensor, x0: Tensor, t: int | Tensor) -> Tensor:
        """Network output whose estimate of x_0 at `xt` is `x0`; the inverse of the method `x0`.

        Needs abar_t < 1. "v_prediction" also works at abar_t = 0.
        """
        signal, std = self._coefficients(t, xt)
        noise = (xt - signal * x0) / std
        return noise if self.prediction == "epsilon" else signal * noise - std * x0

    def _coefficients(self, t: int | Tensor, like: Tensor) -> tuple[Any, Any]:
        """sqrt(abar_t) and sqrt(1 - abar_t), broadcastable to `like`."""
        alpha_bar = self.alpha_bar[t.cpu() if isinstance(t, Tensor) else t]
        return expand_like(alpha_bar.sqrt(), like), expand_like((1 - alpha_bar).sqrt(), like)


def schedule_of(config: Mapping[str, Any], path: Path) -> Schedule:
    """Make the schedule that a diffusers `scheduler_config.json` describes.

    Args:
        config: content of the file; missing keys take the defaults of DDPM in diffusers.
        path: the file, for error messages.

    Raises:
        CheckpointError: an unknown prediction type or beta schedule, betas out of (0, 1), or
            zero terminal SNR together with the prediction type "epsilon".
    """
    prediction = config.get("prediction_type", "epsilon")
    if prediction not in PREDICTIONS:
        raise CheckpointError(
            f"{path}: prediction_type '{prediction}'; only {' and '.join(PREDICTIONS)} can be used"
        )
    alpha_bar = (1 - _checked_betas(config, path)).cumprod(0)
    if config.get("rescale_betas_zero_snr"):
        if prediction == "epsilon":
            raise CheckpointError(
                f"{path}: rescale_betas_zero_snr needs prediction_type 'v_prediction': the last "
                "state is pure noise, from which a noise prediction gives no image"
            )
        alpha_bar = zero_terminal_snr(alpha_bar)
    return Schedule(alpha_bar, prediction)


def zero_terminal_snr(alpha_bar: Tensor) -> Tensor:
    """Shift and scale sqrt(abar) so that its last value is 0 (Lin et al., 2024, Algorithm 1).

    Args:
        alpha_bar: (T,), descending. The first value does not change.
    """
    root = alpha_bar.sqrt()
    return ((root - root[-1]) * root[0] / (root[0] - root[-1])) ** 2


def _checked_betas(config: Mapping[str, Any], path: Path) -> Tensor:
    """Variance of each step, float64 (T,), each in (0, 1)."""
    try:
        betas = _betas(config, path)
    except (TypeError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(f"{path}: the betas cannot be computed ({reason})") from None
    is_valid = (betas > 0) & (betas < 1)
    if betas.ndim != 1 or not 1 <= len(betas) <= MAX_STEPS or not bool(is_valid.all()):
        raise CheckpointError(
            f"{path}: expected betas between 0 and 1, one for each of up to {MAX_STEPS} steps"
        )
    return betas


def _betas(config: Mapping[str, Any], path: Path) -> Tensor:
    """Betas of a schedule, float64 (T,), with the formulas of diffusers."""
    if config.get("trained_betas") is not None:
        return torch.tensor(config["trained_betas"], dtype=torch.float64)
    steps = config.get("num_train_timesteps", 1000)
    first, last = config.get("beta_start", 1e-4), config.get("beta_end", 0.02)
    if not 1 <= steps <= MAX_STEPS:
        raise ValueError(f"num_train_timesteps is {steps}")
    kind = config.get("beta_schedule", "linear")
    if kind == "linear":
        return torch.linspace(first, last, steps, dtype=torch.float64)
    if kind == "scaled_linear":
        return torch.linspace(first**0.5, last**0.5, steps, dtype=torch.float64) ** 2
    if kind == "squaredcos_cap_v2":
        t = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
        signal = torch.cos((t + 0.008) / 1.008 * torch.pi / 2) ** 2
        return (1 - signal[1:] / signal[:-1]).clamp(max=0.999)
    raise CheckpointError(
        f"{path}: unknown beta_schedule '{kind}'; expected linear, scaled_linear or "
        "squaredcos_cap_v2"
    )
