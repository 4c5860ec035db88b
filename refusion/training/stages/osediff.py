"""Stage `osediff`: adapters that make a Stable Diffusion restore a photo in one call.

Wu et al., NeurIPS 2024. The generator is the Stable Diffusion with adapters of its own; variational
score distillation compares its latents with those of the frozen one, whose guidance makes them
look like good photos, through a critic that is the same network with other adapters. So there is
one U-Net in memory, and what is trained, averaged and saved are the adapters.
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
    FIRST,
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
from refusion.training.stages.base import Pictures, Viewer
from refusion.training.stages.diffusion import sample_noise

CRITIC = "critic"  # name of its adapters
TIMES = (0.02, 0.98)  # share of T between which latents are noised to be compared

logger = logging.getLogger(__name__)


class OSEDiffStage:
    """Stage ``osediff`` as the trainer sees it.

    Generator and critic take one step each per batch, from one loss: no term reaches both.

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
        self.module = self._adapted()

    def _adapted(self) -> nn.Module:
        """Give the networks their adapters; a module of all that is trained, by published names."""
        sd, settings = self.sd, self.settings
        modules = published_modules(sd)
        lora.attach(sd.vae, modules["vae"], settings.rank, sd.folder)
        lora.attach(sd.unet, modules["unet"], settings.rank, sd.folder)
        if self.has_critic:
            layers = [name for names in modules["unet"].values() for name in names]
            lora.attach(sd.unet, {CRITIC: layers}, settings.rank, sd.folder)
        for network in (sd.unet, sd.vae):
            for parameter in lora.parameters_of(network, [*UNET_ADAPTERS, CRITIC]).values():
                parameter.data = parameter.data.float()  # whatever the frozen weights are in
                parameter.requires_grad_(True)
        named = {
            f"generator.unet.{FIRST}.{name}": parameter
            for name, parameter in self.first.named_parameters()
        }
        for path, network, adapters in (
            ("generator.unet", sd.unet, UNET_ADAPTERS),
            ("generator.vae", sd.vae, VAE_ADAPTERS),
            ("critic", sd.unet, (CRITIC,)),
        ):
            own = lora.parameters_of(network, adapters)
            named |= {f"{path}.{name}": parameter for name, parameter in own.items()}
        return module_of(named)

    def compile(self) -> None:
        """Have the decoder compiled at its first call; networks that switch adapters are not."""
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
            batch: ``lq``, enlarged where it is smaller, and ``gt``, sides multiples of the
                networks' strides.
            generators: one per image.

        Raises:
            ConfigError: the sides are no such multiples.
        """
        weights = self.settings
        # The Stable Diffusion has the format it was loaded in; all else is float32.
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
        """Make what restores a validation picture with the averaged adapters."""

        def view(item: Mapping[str, Tensor]) -> dict[str, Pictures]:
            upscale = item["gt"].shape[-1] // item["lq"].shape[-1]
            with self._holding(model), self._generator() as sd:
                restorer = OSEDiff(sd, upscale=upscale, prompt=self.settings.prompt)
                return {"restored": (restorer.restore(item["lq"]), item["gt"])}

        return view

    def _generated(self, batch: Mapping[str, Tensor], generators: Sequence[Generator]) -> Tensor:
        """The generator's latents of the degraded photos, with gradient."""
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
        """The generator's distillation loss, and the critic's own: to know the latents."""
        known, schedule = z0.detach(), self.sd.schedule
        prompt = self.prompt.expand(len(known), -1, -1)
        zt, _, t = self._noised(known, TIMES, generators)
        with torch.no_grad():
            teacher = schedule.x0(zt, self._guided_noise(zt, t, prompt), t)
            with self._unet_of([CRITIC]) as sd:
                critic = schedule.x0(zt, sd.predict(zt, t, prompt), t)
        zt, noise, t = self._noised(known, (0, 1), generators)
        with self._unet_of([CRITIC]) as sd:
            learned = sd.predict(zt, t, prompt)
        return {
            # The published code takes the whole mean square, this project the half.
            "score": 2 * score_distillation_loss(z0, teacher, critic),
            "critic": mse_loss(learned, noise),
        }

    def _guided_noise(self, zt: Tensor, t: Tensor, prompt: Tensor) -> Tensor:
        """Noise that the frozen U-Net finds, led away from the negative prompt."""
        negative = self.negative_prompt.expand_as(prompt)
        with self._unet_of([]) as sd:
            both = sd.predict(torch.cat([zt, zt]), torch.cat([t, t]), torch.cat([negative, prompt]))
        away, towards = both.chunk(2)
        return away + self.settings.guidance * (towards - away)

    def _noised(
        self, x0: Tensor, share: tuple[float, float], generators: Sequence[Generator]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """States at a random time per image within that share of all times, noise and times."""
        T = self.sd.schedule.T
        low, high = (int(part * T) for part in share)
        drawn = [torch.randint(low, high, (), generator=g) for g in generators]
        t, noise = torch.stack(drawn).to(x0.device), sample_noise(x0, generators)
        return self.sd.schedule.noised(x0, noise, t), noise, t

    @contextlib.contextmanager
    def _unet_of(self, adapters: Sequence[str]) -> Iterator[StableDiffusion]:
        """The Stable Diffusion with these adapters of the U-Net, and none afterwards."""
        lora.activate(self.sd.unet, adapters)
        try:
            yield self.sd
        finally:
            lora.activate(self.sd.unet, [])

    @contextlib.contextmanager
    def _generator(self) -> Iterator[StableDiffusion]:
        """The Stable Diffusion as the generator: its adapters, and its first convolution."""
        base = self.sd.unet.conv_in.get_base_layer()
        base.forward = partial(_convolved, self.first)
        try:
            with self._unet_of(UNET_ADAPTERS) as sd:
                yield sd
        finally:
            del base.forward  # the class's own comes back

    @contextlib.contextmanager
    def _holding(self, weights: OSEDiffWeights) -> Iterator[None]:
        """Put other values into the generator's parameters within the block."""
        own = dict(self.module.get_submodule(self.kept).named_parameters())
        before = {name: parameter.detach().clone() for name, parameter in own.items()}
        now = {f"{p}.{name}": t for p in PARTS for name, t in getattr(weights, p).items()}
        try:
            _copy(now, own)
            yield
        finally:
            _copy(before, own)


def module_of(parameters: Mapping[str, nn.Parameter]) -> nn.Module:
    """A module of the parameters themselves, whose dotted names lead to them; it computes nothing.

    >>> weight = nn.Parameter(torch.ones(2))
    >>> [(name, p is weight) for name, p in module_of({"a.b.w": weight}).named_parameters()]
    [('a.b.w', True)]
    """
    root = nn.Module()
    for name, parameter in parameters.items():
        *folders, last = name.split(".")
        place = root
        for folder in folders:
            if folder not in dict(place.named_children()):
                place.add_module(folder, nn.Module())
            place = getattr(place, folder)
        place.register_parameter(last, parameter)
    return root


def _convolved(layer: nn.Conv2d, x: Tensor) -> Tensor:
    """A float32 convolution in the format of what it is given."""
    return F.conv2d(
        x, layer.weight.to(x.dtype), layer.bias.to(x.dtype), layer.stride, layer.padding
    )


@torch.no_grad()
def _copy(values: Mapping[str, Tensor], into: Mapping[str, nn.Parameter]) -> None:
    for name, parameter in into.items():
        parameter.copy_(values[name])
