"""Stable Diffusion 2.1 read from a local folder, for the methods DiffBIR and OSEDiff.

The package loads the networks, encodes photos to latents and decodes them, and holds the noise
schedule, the samplers, LoRA adapters and the control branch. It imports `official`, `tiling`,
`devices` and packages below; `restorers`, `training` and `cli` may import it. A method itself
belongs in `restorers`; add here what several methods on Stable Diffusion share, one file per
topic. The extra `sd` (diffusers, transformers, peft) is needed to load a model, not to import
this package.
"""

from __future__ import annotations

from refusion.stable_diffusion.autoencoder import decode_latent, encode_photo
from refusion.stable_diffusion.folder import StableDiffusion, load_stable_diffusion
from refusion.stable_diffusion.frame import check_upscale, enlarged, on_canvas, retry_in_float32
from refusion.stable_diffusion.schedule import Schedule

__all__ = [
    "Schedule",
    "StableDiffusion",
    "check_upscale",
    "decode_latent",
    "encode_photo",
    "enlarged",
    "load_stable_diffusion",
    "on_canvas",
    "retry_in_float32",
]
