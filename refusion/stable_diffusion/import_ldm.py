"""Conversion of a Stable Diffusion in one file (.ckpt, LDM layout) to a folder for diffusers.

Sizes, tokenizer and settings come from the folder of another Stable Diffusion 2.1, the pattern.
The weights come from the file. DiffBIR v2.1 publishes such a file, with its own noise schedule.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from torch import Tensor

from refusion.errors import CheckpointError, printable
from refusion.official.weights import read_published
from refusion.stable_diffusion.control import load_matching_tensors
from refusion.stable_diffusion.folder import StableDiffusion, load_stable_diffusion
from refusion.stable_diffusion.ldm_names import (
    autoencoder_from_ldm,
    text_encoder_from_ldm,
    unet_from_ldm,
)
from refusion.stable_diffusion.schedule import schedule_of

_SOURCE = "a Stable Diffusion 2.1 in one file, such as v2-1_512-ema-pruned"
_PARTS = {
    "unet": "model.diffusion_model.",
    "vae": "first_stage_model.",
    "text_encoder": "cond_stage_model.model.",
}
# Known tensors that are not used: the noise schedule, the averaged copy, the VAE's training loss,
# and the parts of OpenCLIP that do not encode text.
_UNUSED = re.compile(
    r"(model_ema|first_stage_model\.loss)\."
    r"|(betas|alphas_cumprod|alphas_cumprod_prev|sqrt_\w+|log_one_\w+|posterior_\w+|logvar"
    r"|lvlb_weights|scale_factor)$"
    r"|cond_stage_model\.model\.(visual\..*|text_projection|logit_scale|attn_mask)$"
)


def import_ldm(
    checkpoint: str | Path,
    pattern: str | Path,
    target: str | Path,
    *,
    prediction: str | None = None,
    zero_snr: bool = False,
) -> list[str]:
    """Convert a Stable Diffusion 2.1 from one file to a folder in the layout of diffusers.

    Args:
        checkpoint: .ckpt or .safetensors file, for example v2-1_512-ema-pruned; no code from the
            file is run.
        pattern: folder of a Stable Diffusion 2.1 in the layout of diffusers.
        target: folder to write; it must not exist.
        prediction: 'epsilon' or 'v_prediction'; None keeps the pattern's.
        zero_snr: whether the weights were trained with zero terminal SNR.

    Returns:
        Names of the tensors in the file that were not used, for example the noise schedule.

    Raises:
        CheckpointError: a file cannot be read; a tensor is missing, unknown or has another shape;
            `prediction` and `zero_snr` contradict each other; the target exists or cannot be
            written.
    """
    path, pattern, target = Path(checkpoint), Path(pattern), Path(target)
    if target.exists():
        raise CheckpointError(f"{target}: the folder exists; choose the name of a new folder")
    sd = load_stable_diffusion(pattern, device="cpu", precision="fp32")
    scheduler = dict(sd.scheduler) | ({"rescale_betas_zero_snr": True} if zero_snr else {})
    scheduler |= {} if prediction is None else {"prediction_type": prediction}
    schedule_of(scheduler, path)  # raises if prediction and zero_snr contradict each other
    parts, unused = _split(path, sd.text_encoder.config.num_hidden_layers)
    prefix = "text_model." if _is_prefixed(sd.text_encoder.state_dict()) else ""
    renamed = {
        "unet": unet_from_ldm(parts["unet"], sd.unet.config.layers_per_block),
        "vae": autoencoder_from_ldm(parts["vae"], len(sd.vae.config.block_out_channels)),
        "text_encoder": {
            prefix + name: tensor
            for name, tensor in text_encoder_from_ldm(parts["text_encoder"]).items()
        },
    }
    for part, tensors in renamed.items():
        load_matching_tensors(getattr(sd, part), tensors, path, f"of {part} in {pattern}")
    _write(sd, scheduler, target)
    return unused


def _write(sd: StableDiffusion, scheduler: Mapping[str, Any], target: Path) -> None:
    """Write the folder under a temporary name and rename it; the tokenizer is copied."""
    temporary = target.with_name(f".{target.name}.part")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        (temporary / "scheduler").mkdir(parents=True)
        for part in _PARTS:
            getattr(sd, part).save_pretrained(temporary / part)
        shutil.copytree(sd.folder / "tokenizer", temporary / "tokenizer")
        (temporary / "scheduler" / "scheduler_config.json").write_text(
            json.dumps(scheduler, indent=2)
        )
        temporary.rename(target)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{target}: cannot be written ({error})") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _split(path: Path, layers: int) -> tuple[dict[str, dict[str, Tensor]], list[str]]:
    """Tensors of each part without their prefix, and the names of the unused tensors."""
    parts: dict[str, dict[str, Tensor]] = {part: {} for part in _PARTS}
    unused = []
    for name, tensor in read_published(path, _SOURCE).items():
        part = next((p for p, prefix in _PARTS.items() if name.startswith(prefix)), None)
        block = re.match(r"cond_stage_model\.model\.transformer\.resblocks\.(\d{1,3})\.", name)
        # The U-Net uses the output before the last block, which diffusers' layout leaves out.
        if _UNUSED.match(name) or (block and int(block[1]) == layers):
            unused.append(name)
        elif part is None:
            raise CheckpointError(
                f"{path}: tensor '{printable(name, 80)}' belongs to no Stable Diffusion 2.1"
            )
        else:
            parts[part][name.removeprefix(_PARTS[part])] = tensor
    return parts, unused


def _is_prefixed(names: Iterable[str]) -> bool:
    return any(name.startswith("text_model.") for name in names)
