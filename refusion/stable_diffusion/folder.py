"""Reads a Stable Diffusion 2.1 from a folder in the layout of diffusers.

Nothing is downloaded, and pickles are refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from refusion.arguments import check_arguments
from refusion.devices.precision import choose_device, choose_precision, precision_name
from refusion.errors import CheckpointError
from refusion.files import check_regular
from refusion.stable_diffusion.libraries import import_library, read_json
from refusion.stable_diffusion.schedule import Schedule, schedule_of

SOURCE = (
    "the folder of Stable Diffusion 2.1 (base) in the layout of diffusers, with unet, vae, "
    "text_encoder, tokenizer and scheduler, from huggingface.co, "
    "stabilityai/stable-diffusion-2-1-base or a mirror; this program downloads nothing"
)
_NETWORKS = {  # folder: library, class
    "unet": ("diffusers", "UNet2DConditionModel"),
    "vae": ("diffusers", "AutoencoderKL"),
    "text_encoder": ("transformers", "CLIPTextModel"),
}


@dataclass(frozen=True)
class StableDiffusion:
    """The parts of a Stable Diffusion: frozen, in evaluation mode, with one device and dtype.

    Attributes:
        folder: folder that the parts were read from.
        unet: diffusers' UNet2DConditionModel.
        vae: diffusers' AutoencoderKL.
        text_encoder: transformers' CLIPTextModel.
        tokenizer: transformers' CLIPTokenizer.
        scheduler: content of scheduler_config.json, to build schedulers of diffusers.
        schedule: noise schedule and prediction type, from the same file.
    """

    folder: Path
    unet: nn.Module
    vae: nn.Module
    text_encoder: nn.Module
    tokenizer: Any
    scheduler: Mapping[str, Any]
    schedule: Schedule

    @property
    def device(self) -> torch.device:
        """Device of the networks."""
        return self.unet.device

    @property
    def dtype(self) -> torch.dtype:
        """Floating-point type of the networks."""
        return self.unet.dtype

    @property
    def precision(self) -> str:
        """Name of `dtype`: 'fp32', 'bf16' or 'fp16'."""
        return precision_name(self.dtype)

    @property
    def factor(self) -> int:
        """Side of a latent pixel in pixels of the photo."""
        return 2 ** (len(self.vae.config.block_out_channels) - 1)

    @property
    def align(self) -> int:
        """Stride of the U-Net; the sides of latents are multiples of it."""
        return 2 ** (len(self.unet.config.block_out_channels) - 1)

    @property
    def side(self) -> int:
        """Side in pixels of the training images."""
        return self.unet.config.sample_size * self.factor

    def embed(self, prompts: Sequence[str]) -> Tensor:
        """Text embeddings (B, tokens, D) of B prompts; long prompts are cut at `tokens` tokens."""
        ids = self.tokenizer(
            list(prompts),
            padding="max_length",
            max_length=self.text_encoder.config.max_position_embeddings,
            truncation=True,
            return_tensors="pt",
        ).input_ids
        return self.text_encoder(ids.to(self.device))[0]

    def predict(self, zt: Tensor, t: int | Tensor, prompts: Tensor, **residuals: Any) -> Tensor:
        """Run the U-Net.

        Args:
            zt: latent state (B, 4, h, w), any float dtype.
            t: time 0..T-1, a number or (B,).
            prompts: text embeddings from `embed`, (B, tokens, D).
            residuals: keyword arguments of the U-Net with the residuals of a ControlNet.

        Returns:
            Output of the U-Net, float32 (B, 4, h, w); `schedule` converts it.
        """
        with torch.autocast(zt.device.type, enabled=False):
            output = self.unet(
                zt.to(self.dtype), t, encoder_hidden_states=prompts.to(self.dtype), **residuals
            )
        return output.sample.to(torch.float32)

    def networks(self) -> tuple[nn.Module, ...]:
        """U-Net, VAE and text encoder."""
        return self.unet, self.vae, self.text_encoder


def cast(
    network: nn.Module, device: torch.device | None = None, dtype: torch.dtype | None = None
) -> nn.Module:
    """Move a network of diffusers to a device and dtype, without the advice that its `to` logs."""
    return nn.Module.to(network, device, dtype)


def load_stable_diffusion(
    folder: str | Path, *, device: str | torch.device = "auto", precision: str = "auto"
) -> StableDiffusion:
    """Read a Stable Diffusion from a local folder.

    Nothing is downloaded, and no code from the folder is run.

    Args:
        folder: folder in the layout of diffusers, with .safetensors files.
        device: 'auto', 'cpu' or 'cuda'.
        precision: 'auto', 'fp32', 'bf16' or 'fp16'.

    Raises:
        CheckpointError: a file is missing, damaged, a pickle or from another model; a tensor is
            missing or unexpected; or the libraries are not installed.
        ConfigError: device or precision is unknown or not available.
    """
    check_arguments(load_stable_diffusion, locals())
    folder, where = Path(folder), choose_device(device)
    dtype = choose_precision(precision, where)
    _check_folder(folder)
    scheduler_file = folder / "scheduler" / "scheduler_config.json"
    scheduler = read_json(scheduler_file)
    schedule = schedule_of(scheduler, scheduler_file)
    networks = {}
    for part, (library, name) in _NETWORKS.items():
        network = load_network(folder / part, getattr(import_library(library, folder), name))
        networks[part] = cast(network, where, dtype)
    tokenizer = _tokenizer(folder / "tokenizer")
    found = StableDiffusion(folder, **networks, tokenizer=tokenizer, scheduler=scheduler,
                            schedule=schedule)  # fmt: skip
    _check_match(found)
    return found


def load_network(folder: Path, network_class: Any) -> nn.Module:
    """Read one network of diffusers or transformers.

    Args:
        folder: folder with config.json and .safetensors files; a variant such as fp16 is read if
            the folder has no other.
        network_class: class that config.json describes.

    Returns:
        The network, float32, frozen, in evaluation mode, with all its tensors from the files.

    Raises:
        CheckpointError: see `load_stable_diffusion`.
    """
    _check_files(folder)
    files = sorted(file.name for file in folder.glob("*.safetensors"))
    if not files:
        pickles = any(folder.glob("*.bin")) or any(folder.glob("*.pt*"))
        _fail(
            folder,
            "holds a pickle (.bin), which can run code when read; get the .safetensors version"
            if pickles
            else "holds no .safetensors file; copy the folder again",
        )
    plain = [name for name in files if name.count(".") == 1]
    variant = None if plain else files[0].split(".")[1].split("-")[0]
    try:
        network, loading_info = network_class.from_pretrained(
            str(folder),
            local_files_only=True,
            use_safetensors=True,
            variant=variant,
            torch_dtype=torch.float32,
            output_loading_info=True,
        )
    except Exception as error:  # the errors of these libraries are not documented
        _fail(folder, f"cannot be read ({' '.join(str(error).split())[:200]})")
    wrong = [
        f"{kind.split('_')[0]}: {', '.join(map(str, sorted(loading_info[kind])[:3]))}"
        for kind in ("missing_keys", "unexpected_keys", "mismatched_keys")
        if loading_info.get(kind)
    ]
    if wrong:
        _fail(folder, f"its tensors do not fit its config ({'; '.join(wrong)})")
    return network.eval().requires_grad_(False)


def _tokenizer(folder: Path) -> Any:
    _check_files(folder)
    tokenizer_class = import_library("transformers", folder).CLIPTokenizer
    try:
        return tokenizer_class.from_pretrained(str(folder), local_files_only=True)
    except Exception as error:  # the errors of this library are not documented
        _fail(folder, f"cannot be read ({' '.join(str(error).split())[:200]})")


def _check_folder(folder: Path) -> None:
    """Check the layout and the model classes of a folder before any library is imported."""
    files = [f"{part}/config.json" for part in _NETWORKS]
    files += ["tokenizer", "scheduler/scheduler_config.json"]
    missing = [name for name in files if not (folder / name).exists()]
    if missing:
        _fail(folder, f"without {', '.join(missing)}; expected {SOURCE}")
    for part, (_, name) in _NETWORKS.items():
        config = read_json(folder / part / "config.json")
        described = config.get("_class_name") or config.get("architectures") or "nothing"
        if described not in (name, [name]):
            _fail(folder / part, f"describes {described}, expected {name}; {SOURCE}")


def _check_files(folder: Path) -> None:
    """Check the files of a folder that libraries open; reading a pipe could wait without end."""
    try:
        for path in folder.iterdir():
            if not path.is_dir():
                check_regular(path)
    except OSError as error:
        _fail(Path(error.filename or folder), f"{error.strerror}; copy the folder again")


def _check_match(found: StableDiffusion) -> None:
    """Check that the networks fit each other and are those of a Stable Diffusion 2.1."""
    unet, vae, text = (network.config for network in found.networks())
    problems = {
        f"a U-Net of {unet.in_channels} latent channels and a VAE of {vae.latent_channels}": (
            unet.in_channels != vae.latent_channels
        ),
        f"a U-Net with {unet.cross_attention_dim} values per token and a text encoder with "
        f"{text.hidden_size}": unet.cross_attention_dim != text.hidden_size,
        f"a tokenizer of {len(found.tokenizer)} tokens and a text encoder of {text.vocab_size}": (
            len(found.tokenizer) > text.vocab_size
        ),
        f"a U-Net for latents of side {unet.sample_size!r}": not _is_above_0(unet.sample_size, int),
        f"a VAE with the scale {vae.scaling_factor!r}": not _is_above_0(vae.scaling_factor, float),
        "a U-Net with more conditions than a text (SDXL)": unet.addition_embed_type is not None
        or unet.class_embed_type is not None,
    }
    for problem, is_there in problems.items():
        if is_there:
            _fail(found.folder, f"{problem}; expected {SOURCE}")


def _is_above_0(value: object, kind: type) -> bool:
    return isinstance(value, kind) and value > 0


def _fail(folder: Path, message: str) -> NoReturn:
    raise CheckpointError(f"{folder}: {message}") from None
