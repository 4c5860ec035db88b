"""A Stable Diffusion in the published layout (one .ckpt) made a folder in that of diffusers.

The folder of another Stable Diffusion 2.1 serves as the pattern: sizes, tokenizer and settings are
its, the weights are the file's. DiffBIR v2.1 ships such a file with its own noise.
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

from refusion.errors import CheckpointError
from refusion.official.weights import read_published
from refusion.stable_diffusion.control import fill
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
# The noise schedule, the averaged copy, the VAE's training loss, and of OpenCLIP what makes no
# word: all known, none of use.
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
    """Write the folder.

    Args:
        checkpoint: such as v2-1_512-ema-pruned, .ckpt or .safetensors; nothing in it is run.
        pattern: folder in the layout of diffusers.
        target: folder to write, which must not exist.
        prediction: 'epsilon' or 'v_prediction'; None leaves the pattern's.
        zero_snr: the weights were trained with zero terminal SNR.

    Returns:
        Names of the file's tensors that no part uses, such as the noise schedule.

    Raises:
        CheckpointError: a file cannot be read; a tensor is missing, unknown or of another shape;
            prediction and zero_snr contradict each other; the target exists or cannot be written.
    """
    path, pattern, target = Path(checkpoint), Path(pattern), Path(target)
    if target.exists():
        raise CheckpointError(f"{target}: exists; name a folder that does not")
    sd = load_stable_diffusion(pattern, device="cpu", precision="fp32")
    scheduler = dict(sd.scheduler) | ({"rescale_betas_zero_snr": True} if zero_snr else {})
    scheduler |= {} if prediction is None else {"prediction_type": prediction}
    schedule_of(scheduler, path)  # refuses a contradiction
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
        fill(getattr(sd, part), tensors, path, f"of {part} in {pattern}")
    _write(sd, scheduler, target)
    return unused


def _write(sd: StableDiffusion, scheduler: Mapping[str, Any], target: Path) -> None:
    """Write the folder whole or not at all; the tokenizer is copied."""
    aside = target.with_name(f".{target.name}.part")
    shutil.rmtree(aside, ignore_errors=True)
    try:
        (aside / "scheduler").mkdir(parents=True)
        for part in _PARTS:
            getattr(sd, part).save_pretrained(aside / part)
        shutil.copytree(sd.folder / "tokenizer", aside / "tokenizer")
        (aside / "scheduler" / "scheduler_config.json").write_text(json.dumps(scheduler, indent=2))
        aside.rename(target)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{target}: cannot be written ({error})") from None
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _split(path: Path, layers: int) -> tuple[dict[str, dict[str, Tensor]], list[str]]:
    """Tensors of each part without their prefix, and the names of those that are of no use."""
    parts: dict[str, dict[str, Tensor]] = {part: {} for part in _PARTS}
    unused = []
    for name, tensor in read_published(path, _SOURCE).items():
        part = next((p for p, prefix in _PARTS.items() if name.startswith(prefix)), None)
        block = re.match(r"cond_stage_model\.model\.transformer\.resblocks\.(\d{1,3})\.", name)
        # The text is taken from before the last block, which the layout of diffusers leaves out.
        if _UNUSED.match(name) or (block and int(block[1]) == layers):
            unused.append(name)
        elif part is None:
            raise CheckpointError(f"{path}: tensor '{name}' is of no Stable Diffusion 2.1")
        else:
            parts[part][name.removeprefix(_PARTS[part])] = tensor
    return parts, unused


def _is_prefixed(names: Iterable[str]) -> bool:
    return any(name.startswith("text_model.") for name in names)
