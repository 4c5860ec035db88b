"""A Stable Diffusion 2.1 in the layout of diffusers, read from disk: no download, no pickle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from refusion.devices.precision import PRECISIONS, choose_device, choose_precision
from refusion.errors import CheckpointError
from refusion.stable_diffusion.libraries import import_library, read_json
from refusion.stable_diffusion.schedule import Schedule, schedule_of

SOURCE = (
    "the folder of Stable Diffusion 2.1 (base) in the layout of diffusers, with unet, vae, "
    "text_encoder, tokenizer and scheduler, as huggingface.co has it under "
    "stabilityai/stable-diffusion-2-1-base and its mirrors; nothing is downloaded here"
)
_NETWORKS = {  # folder: library, class
    "unet": ("diffusers", "UNet2DConditionModel"),
    "vae": ("diffusers", "AutoencoderKL"),
    "text_encoder": ("transformers", "CLIPTextModel"),
}


@dataclass(frozen=True)
class StableDiffusion:
    """The parts of a Stable Diffusion: frozen, in evaluation mode, on one device, in one format.

    Attributes:
        folder: where they came from.
        unet: diffusers' UNet2DConditionModel.
        vae: diffusers' AutoencoderKL.
        text_encoder: transformers' CLIPTextModel.
        tokenizer: transformers' CLIPTokenizer.
        scheduler: content of scheduler_config.json, for schedulers of diffusers.
        schedule: what it says of noise and of the output of the U-Net.
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
        """Where the networks run."""
        return self.unet.device

    @property
    def dtype(self) -> torch.dtype:
        """Number format of the networks."""
        return self.unet.dtype

    @property
    def precision(self) -> str:
        """The same as a word: 'fp32', 'bf16' or 'fp16'."""
        return next(word for word, known in PRECISIONS.items() if known == self.dtype)

    @property
    def factor(self) -> int:
        """Pixels per latent pixel and axis."""
        return 2 ** (len(self.vae.config.block_out_channels) - 1)

    @property
    def align(self) -> int:
        """The U-Net's stride: latents have sides that are multiples of this."""
        return 2 ** (len(self.unet.config.block_out_channels) - 1)

    @property
    def side(self) -> int:
        """Side in pixels of the pictures it was trained on."""
        return self.unet.config.sample_size * self.factor

    def embed(self, prompts: Sequence[str]) -> Tensor:
        """What the U-Net is told of texts, (B, tokens, D); longer texts are cut."""
        ids = self.tokenizer(
            list(prompts),
            padding="max_length",
            max_length=self.text_encoder.config.max_position_embeddings,
            truncation=True,
            return_tensors="pt",
        ).input_ids
        return self.text_encoder(ids.to(self.device))[0]

    def predict(self, zt: Tensor, t: int | Tensor, prompts: Tensor, **steering: Any) -> Tensor:
        """Output of the U-Net, float32 (B, 4, h, w); `schedule` says what it means.

        Args:
            zt: latent state, of any float format.
            t: time 0..T-1, one or (B,).
            prompts: of `embed`, (B, tokens, D).
            steering: residuals of a ControlNet, as the U-Net takes them.
        """
        with torch.autocast(zt.device.type, enabled=False):
            output = self.unet(
                zt.to(self.dtype), t, encoder_hidden_states=prompts.to(self.dtype), **steering
            )
        return output.sample.to(torch.float32)

    def networks(self) -> tuple[nn.Module, ...]:
        """All its networks."""
        return self.unet, self.vae, self.text_encoder


def cast(
    network: nn.Module, device: torch.device | None = None, dtype: torch.dtype | None = None
) -> nn.Module:
    """Move a network of diffusers, whose own `to` logs advice on every change of format."""
    return nn.Module.to(network, device, dtype)


def load_stable_diffusion(
    folder: str | Path, *, device: str | torch.device = "auto", precision: str = "auto"
) -> StableDiffusion:
    """Read a Stable Diffusion from a local folder; nothing is downloaded and no code of it is run.

    Args:
        folder: in the layout of diffusers, with safetensors.
        device: 'auto', 'cpu' or 'cuda'.
        precision: 'auto', 'fp32', 'bf16' or 'fp16'.

    Raises:
        CheckpointError: a file is missing, damaged, a pickle or of another model, a tensor is
            missing or left over, or the libraries are not installed.
        ConfigError: device or precision unknown or not to be had.
    """
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
    """Read one network of diffusers or transformers: float32, frozen, every tensor in its place.

    Args:
        folder: with config.json and .safetensors files; a `variant` such as fp16 if it is the only.
        network_class: the class that its config describes.

    Raises:
        CheckpointError: see `load_stable_diffusion`.
    """
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
        network, said = network_class.from_pretrained(
            str(folder),
            local_files_only=True,
            use_safetensors=True,
            variant=variant,
            torch_dtype=torch.float32,
            output_loading_info=True,
        )
    except Exception as error:  # what a damaged file makes these libraries raise is not documented
        _fail(folder, f"cannot be read ({' '.join(str(error).split())[:200]})")
    wrong = [
        f"{kind.split('_')[0]}: {', '.join(map(str, sorted(said[kind])[:3]))}"
        for kind in ("missing_keys", "unexpected_keys", "mismatched_keys")
        if said.get(kind)
    ]
    if wrong:
        _fail(folder, f"its tensors do not fit its config ({'; '.join(wrong)})")
    return network.eval().requires_grad_(False)


def _tokenizer(folder: Path) -> Any:
    tokenizer_class = import_library("transformers", folder).CLIPTokenizer
    try:
        return tokenizer_class.from_pretrained(str(folder), local_files_only=True)
    except Exception as error:  # as above
        _fail(folder, f"cannot be read ({' '.join(str(error).split())[:200]})")


def _check_folder(folder: Path) -> None:
    """Refuse what has another layout or is another model, before any library is imported."""
    files = [f"{part}/config.json" for part in _NETWORKS]
    files += ["tokenizer", "scheduler/scheduler_config.json"]
    missing = [name for name in files if not (folder / name).exists()]
    if missing:
        _fail(folder, f"without {', '.join(missing)}; expected {SOURCE}")
    for part, (_, name) in _NETWORKS.items():
        config = read_json(folder / part / "config.json")
        said = config.get("_class_name") or config.get("architectures") or "nothing"
        if said not in (name, [name]):
            _fail(folder / part, f"describes {said}, expected {name}; {SOURCE}")


def _check_match(found: StableDiffusion) -> None:
    """Refuse a Stable Diffusion of another kind, which these methods were not made for."""
    unet, vae, text = (network.config for network in found.networks())
    problems = {
        f"a U-Net of {unet.in_channels} latent channels and a VAE of {vae.latent_channels}": (
            unet.in_channels != vae.latent_channels
        ),
        f"a U-Net told {unet.cross_attention_dim} values per word by a text encoder of "
        f"{text.hidden_size}": unet.cross_attention_dim != text.hidden_size,
        f"a tokenizer of {len(found.tokenizer)} words and a text encoder of {text.vocab_size}": (
            len(found.tokenizer) > text.vocab_size
        ),
        f"a U-Net for latents of side {unet.sample_size!r}": not _is_above_0(unet.sample_size, int),
        f"a VAE with the scale {vae.scaling_factor!r}": not _is_above_0(vae.scaling_factor, float),
        "a U-Net that must be told more than a text (SDXL)": unet.addition_embed_type is not None
        or unet.class_embed_type is not None,
    }
    for problem, is_there in problems.items():
        if is_there:
            _fail(found.folder, f"{problem}; expected {SOURCE}")


def _is_above_0(value: object, kind: type) -> bool:
    return isinstance(value, kind) and value > 0


def _fail(folder: Path, message: str) -> NoReturn:
    raise CheckpointError(f"{folder}: {message}") from None
