"""A pre-trained Stable Diffusion from disk, which DiffBIR and OSEDiff build on.

Needs the extra `sd` (diffusers, transformers, peft); importing this package does not.
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
