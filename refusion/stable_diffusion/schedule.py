"""The noise that a diffusers scheduler adds, and what its network's output means.

    x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) noise

Times are counted as diffusers and the published code count them, t = 0..T-1: the clean image has no
number. Salimans and Ho (2022): v = sqrt(abar_t) noise - sqrt(1 - abar_t) x_0.
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
MAX_STEPS = 100_000  # far above any real one


@dataclass(frozen=True)
class Schedule:
    """Share of signal at each time, and the meaning of the output.

    Attributes:
        alpha_bar: at t = 0..T-1, float64 (T,), falling; 0 at the end with zero terminal SNR.
        prediction: key of `PREDICTIONS`.
    """

    alpha_bar: Tensor
    prediction: str

    @property
    def T(self) -> int:
        """Number of times."""
        return len(self.alpha_bar)

    def noised(self, x0: Tensor, noise: Tensor, t: int | Tensor) -> Tensor:
        """State x_t of x0 (B, C, H, W) with standard noise in it."""
        signal, spread = self._coefficients(t, x0)
        return signal * x0 + spread * noise

    def target(self, x0: Tensor, noise: Tensor, t: int | Tensor) -> Tensor:
        """What the network should say of the state `noised(x0, noise, t)`."""
        if self.prediction == "epsilon":
            return noise
        signal, spread = self._coefficients(t, x0)
        return signal * noise - spread * x0

    def x0(self, xt: Tensor, output: Tensor, t: int | Tensor) -> Tensor:
        """Clean image that the network's output for x_t says; epsilon needs abar_t > 0."""
        signal, spread = self._coefficients(t, xt)
        if self.prediction == "epsilon":
            return (xt - spread * output) / signal
        return signal * xt - spread * output

    def noise(self, xt: Tensor, output: Tensor, t: int | Tensor) -> Tensor:
        """Noise in x_t that the network's output says."""
        if self.prediction == "epsilon":
            return output
        signal, spread = self._coefficients(t, xt)
        return spread * xt + signal * output

    def output(self, xt: Tensor, x0: Tensor, t: int | Tensor) -> Tensor:
        """The output that says x0 of x_t; inverse of `x0`. Needs abar_t < 1, v also at abar_t = 0.

        From the output of another x0 only the part along x0 changes, x_t stays.
        """
        signal, spread = self._coefficients(t, xt)
        noise = (xt - signal * x0) / spread
        return noise if self.prediction == "epsilon" else signal * noise - spread * x0

    def _coefficients(self, t: int | Tensor, like: Tensor) -> tuple[Any, Any]:
        alpha_bar = self.alpha_bar[t.cpu() if isinstance(t, Tensor) else t]
        return expand_like(alpha_bar.sqrt(), like), expand_like((1 - alpha_bar).sqrt(), like)


def schedule_of(config: Mapping[str, Any], path: Path) -> Schedule:
    """Make the schedule of a diffusers `scheduler_config.json`.

    Args:
        config: its content; empty takes the defaults of DDPM.
        path: that errors name.

    Raises:
        CheckpointError: it names what is not known here, or noise is to be predicted of states
            that hold nothing else.
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
                f"{path}: rescale_betas_zero_snr needs prediction_type 'v_prediction': of pure "
                "noise, the noise says nothing about the image"
            )
        alpha_bar = zero_terminal_snr(alpha_bar)
    return Schedule(alpha_bar, prediction)


def zero_terminal_snr(alpha_bar: Tensor) -> Tensor:
    """Shift and scale sqrt(abar) so that the last is 0 and the first stays (Lin et al., 2024)."""
    root = alpha_bar.sqrt()
    return ((root - root[-1]) * root[0] / (root[0] - root[-1])) ** 2


def _checked_betas(config: Mapping[str, Any], path: Path) -> Tensor:
    """Variance of each step, float64 (T,), each in (0, 1)."""
    try:
        betas = _betas(config, path)
    except (TypeError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(f"{path}: the betas cannot be computed ({reason})") from None
    is_share = (betas > 0) & (betas < 1)
    if betas.ndim != 1 or not 1 <= len(betas) <= MAX_STEPS or not bool(is_share.all()):
        raise CheckpointError(
            f"{path}: expected betas between 0 and 1, one for each of up to {MAX_STEPS} steps"
        )
    return betas


def _betas(config: Mapping[str, Any], path: Path) -> Tensor:
    """Variances as a scheduler of diffusers computes them."""
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
