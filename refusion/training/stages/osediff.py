"""Stage `osediff`: LoRA adapters with which a Stable Diffusion restores a photo in one step.

Wu et al., NeurIPS 2024. The generator is the Stable Diffusion with adapters. Variational score
distillation compares two estimates for its noisy latents: that of the frozen Stable Diffusion with
classifier-free guidance, and that of a critic, which is the same network with other adapters. So
there is one U-Net in memory, and only the adapters are trained, averaged and saved.
"""

from __future__ import annotations

import contextlib
import copy
import logging
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn
from torch.nn.functional import mse_loss

from refusion.config import RunConfig
from refusion.errors import ConfigError
from refusion.metrics.lpips import LpipsDistance
from refusion.restorers.osediff.restorer import OSEDiff, check_predicts_noise, one_step
from refusion.restorers.osediff.weights import (
    FIRST_CONV,
    PARTS,
    UNET_ADAPTERS,
    VAE_ADAPTERS,
    OSEDiffWeights,
    published_modules,
    save_osediff,
    split_parts,
)
from refusion.sde.distillation import score_distillation_loss
from refusion.stable_diffusion import (
    StableDiffusion,
    decode_latent,
    encode_photo,
    load_stable_diffusion,
    lora,
)
from refusion.training.stages.base import ResultAndTarget, Viewer
from refusion.training.stages.diffusion import sample_noise

CRITIC = "critic"  # name of the critic's adapters
TIMES = (0.02, 0.98)  # range of the times of the noisy latents, in units of T

logger = logging.getLogger(__name__)


class OSEDiffStage:
    """Stage `osediff`, see `Stage`.

    Generator and critic are updated in the same step with one loss; each term of the loss has
    gradients for one of them only.

    Raises:
        CheckpointError: the Stable Diffusion or the weights of LPIPS cannot be used.
    """

    prefix = ""
    kept = "generator"

    def __init__(self, config: RunConfig, device: torch.device) -> None:
        settings = self.settings = config.osediff
        self.fixed: dict[str, Tensor] = {}
        self.sd = load_stable_diffusion(
            settings.sd, device=device, precision=config.train.precision
        )
        check_predicts_noise(self.sd)
        self.lpips: LpipsDistance | None = None
        if settings.lpips is None:
            logger.warning("%s: trains without LPIPS", config.name)
        elif settings.lpips_weight > 0:
            files = settings.lpips.vgg, settings.lpips.lin
            self.lpips = LpipsDistance(*files, network="vgg").to(device)
        with torch.no_grad():
            texts = self.sd.embed([settings.prompt, settings.negative_prompt])
        self.prompt, self.negative_prompt = texts.split(1)
        self.has_critic = settings.score_weight > 0
        self.first = copy.deepcopy(self.sd.unet.conv_in).float().requires_grad_(True)
        self.module = self._add_adapters()

    def _add_adapters(self) -> nn.Module:
        """Add the adapters to the networks; returns all trained parameters in one module.

        The names of the parameters are those of the published file.
        """
        sd, settings = self.sd, self.settings
        modules = published_modules(sd)
        lora.attach(sd.vae, modules["vae"], settings.rank, sd.folder)
        lora.attach(sd.unet, modules["unet"], settings.rank, sd.folder)
        if self.has_critic:
            layers = [name for names in modules["unet"].values() for name in names]
            lora.attach(sd.unet, {CRITIC: layers}, settings.rank, sd.folder)
        for network in (sd.unet, sd.vae):
            for parameter in lora.parameters_of(network, [*UNET_ADAPTERS, CRITIC]).values():
                parameter.data = parameter.data.float()  # also if the frozen weights are 16-bit
                parameter.requires_grad_(True)
        named = {
            f"generator.unet.{FIRST_CONV}.{name}": parameter
            for name, parameter in self.first.named_parameters()
        }
        for path, network, adapters in (
            ("generator.unet", sd.unet, UNET_ADAPTERS),
            ("generator.vae", sd.vae, VAE_ADAPTERS),
            ("critic", sd.unet, (CRITIC,)),
        ):
            own = lora.parameters_of(network, adapters)
            named |= {f"{path}.{name}": parameter for name, parameter in own.items()}
        return module_from_parameters(named)

    def compile(self) -> None:
        """See `Stage.compile`; only the decoder is compiled, the other networks switch adapters."""
        self.sd.vae.decoder.compile()

    def build(self, tensors: dict[str, Tensor], path: Path) -> OSEDiffWeights:
        """See `Stage.build`."""
        return split_parts(tensors)

    def save(
        self,
        path: str | Path,
        tensors: dict[str, Tensor],
        info: Mapping[str, Any],
        dtype: torch.dtype | None,
    ) -> None:
        """See `Stage.save`."""
        save_osediff(path, split_parts(tensors), info, dtype)

    def loss(
        self, batch: Mapping[str, Tensor], generators: Sequence[Generator]
    ) -> dict[str, Tensor]:
        """Terms of the loss of a batch of image pairs; see `OSEDiffConfig` for their weights.

        Args:
            batch: `lq` and `gt`; the sides of `gt` are multiples of the networks' strides, and a
                smaller `lq` is enlarged to the size of `gt`.
            generators: one CPU generator per image.

        Raises:
            ConfigError: the sides are not multiples of the networks' strides.
        """
        weights = self.settings
        # The Stable Diffusion keeps the dtype it was loaded with; everything else is float32.
        with torch.autocast(batch["gt"].device.type, enabled=False):
            z0 = self._generated(batch, generators)
            restored = decode_latent(self.sd, z0).clamp(0, 1)
            terms = {"pixels": mse_loss(2 * restored, 2 * batch["gt"])}  # of images in [-1, 1]
            total = weights.pixels_weight * terms["pixels"]
            if self.lpips is not None:
                terms["lpips"] = self.lpips(restored, batch["gt"]).mean()
                total = total + weights.lpips_weight * terms["lpips"]
            if self.has_critic:
                terms |= self._score_terms(z0, generators)
                total = total + weights.score_weight * terms["score"]
                total = total + weights.critic_weight * terms["critic"]
        return {"total": total, **terms}

    def viewer(self, model: OSEDiffWeights, device: torch.device) -> Viewer:
        """Make the function that restores a validation image with the averaged adapters."""

        def view(item: Mapping[str, Tensor]) -> dict[str, ResultAndTarget]:
            upscale = item["gt"].shape[-1] // item["lq"].shape[-1]
            with self._averaged_weights(model), self._generator() as sd:
                restorer = OSEDiff(sd, upscale=upscale, prompt=self.settings.prompt)
                return {"restored": (restorer.restore(item["lq"]), item["gt"])}

        return view

    def _generated(self, batch: Mapping[str, Tensor], generators: Sequence[Generator]) -> Tensor:
        """Latents that the generator restores from the degraded photos, with gradient."""
        lq, size = batch["lq"], batch["gt"].shape[-2:]
        multiple = self.sd.factor * self.sd.align
        if any(side % multiple for side in size):
            raise ConfigError(
                f"data.train.patch: stage osediff needs multiples of {multiple}, got {tuple(size)}"
            )
        if lq.shape[-2:] != size:
            lq = F.interpolate(lq, size=size, mode="bicubic", antialias=True).clamp(0, 1)
        with self._generator() as sd:
            z = encode_photo(sd, lq, noise=lambda mean: sample_noise(mean, generators))
            return one_step(sd, z, self.prompt.expand(len(z), -1, -1))

    def _score_terms(self, z0: Tensor, generators: Sequence[Generator]) -> dict[str, Tensor]:
        """Distillation loss of the generator, and denoising loss of the critic on its latents."""
        target, schedule = z0.detach(), self.sd.schedule
        prompt = self.prompt.expand(len(target), -1, -1)
        zt, _, t = self._noised(target, TIMES, generators)
        with torch.no_grad():
            teacher = schedule.x0(zt, self._guided_noise(zt, t, prompt), t)
            with self._unet_of([CRITIC]) as sd:
                critic = schedule.x0(zt, _predict(sd, zt, t, prompt), t)
        zt, noise, t = self._noised(target, (0, 1), generators)
        with self._unet_of([CRITIC]) as sd:
            predicted = _predict(sd, zt, t, prompt)
        return {
            # The published code uses the mean square, this project half of it.
            "score": 2 * score_distillation_loss(z0, teacher, critic),
            "critic": mse_loss(predicted, noise),
        }

    def _guided_noise(self, zt: Tensor, t: Tensor, prompt: Tensor) -> Tensor:
        """Noise prediction of the frozen U-Net with classifier-free guidance."""
        negative = self.negative_prompt.expand_as(prompt)
        with self._unet_of([]) as sd:
            both = _predict(sd, torch.cat([zt, zt]), t.repeat(2), torch.cat([negative, prompt]))
        negative, positive = both.chunk(2)
        return negative + self.settings.guidance * (positive - negative)

    def _noised(
        self, x0: Tensor, times: tuple[float, float], generators: Sequence[Generator]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Noisy states at random times in `times` (units of T), noise, and the times on the CPU."""
        T = self.sd.schedule.T
        low, high = (int(part * T) for part in times)
        chosen = [torch.randint(low, high, (), generator=g) for g in generators]
        t, noise = torch.stack(chosen), sample_noise(x0, generators)
        return self.sd.schedule.noised(x0, noise, t), noise, t

    @contextlib.contextmanager
    def _unet_of(self, adapters: Sequence[str]) -> Iterator[StableDiffusion]:
        """Use these adapters of the U-Net within the block, and no adapters afterwards."""
        lora.activate(self.sd.unet, adapters)
        try:
            yield self.sd
        finally:
            lora.activate(self.sd.unet, [])

    @contextlib.contextmanager
    def _generator(self) -> Iterator[StableDiffusion]:
        """Use the adapters and the trained first convolution of the generator within the block."""
        base = self.sd.unet.conv_in.get_base_layer()
        base.forward = partial(_convolve, self.first)
        try:
            with self._unet_of(UNET_ADAPTERS) as sd:
                yield sd
        finally:
            del base.forward  # restores the method of the class

    @contextlib.contextmanager
    def _averaged_weights(self, weights: OSEDiffWeights) -> Iterator[None]:
        """Use other values of the generator's parameters within the block."""
        own = dict(self.module.get_submodule(self.kept).named_parameters())
        before = {name: parameter.detach().clone() for name, parameter in own.items()}
        averaged = {f"{p}.{name}": t for p in PARTS for name, t in getattr(weights, p).items()}
        try:
            _copy(averaged, own)
            yield
        finally:
            _copy(before, own)


def module_from_parameters(parameters: Mapping[str, nn.Parameter]) -> nn.Module:
    """Make a module that contains the given parameters by their dotted names.

    The parameters are not copied. The module has no forward pass.

    >>> weight = nn.Parameter(torch.ones(2))
    >>> module = module_from_parameters({"a.b.w": weight})
    >>> [(name, p is weight) for name, p in module.named_parameters()]
    [('a.b.w', True)]
    """
    root = nn.Module()
    for name, parameter in parameters.items():
        *parents, last = name.split(".")
        module = root
        for parent in parents:
            if parent not in dict(module.named_children()):
                module.add_module(parent, nn.Module())
            module = getattr(module, parent)
        module.register_parameter(last, parameter)
    return root


def _predict(sd: StableDiffusion, zt: Tensor, t: Tensor, prompt: Tensor) -> Tensor:
    """Output of the U-Net for times on the CPU; the CPU does not wait for a GPU."""
    return sd.predict(zt, t.to(zt.device, non_blocking=True), prompt)


def _convolve(layer: nn.Conv2d, x: Tensor) -> Tensor:
    """Apply a float32 convolution with the dtype of its input."""
    return F.conv2d(
        x, layer.weight.to(x.dtype), layer.bias.to(x.dtype), layer.stride, layer.padding
    )


@torch.no_grad()
def _copy(values: Mapping[str, Tensor], into: Mapping[str, nn.Parameter]) -> None:
    """Copy values into parameters of the same names."""
    for name, parameter in into.items():
        parameter.copy_(values[name])
