"""The published experiment files have the values of the authors' own, key by key."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from official_cases import OPTIONS

from refusion.config.official.options import official_run

ROOT = Path(__file__).parents[2]
THEIRS = {
    "derain": "deraining/options/train/refusion.yml",
    "derain_irsde": "deraining/options/train/ir-sde.yml",
    "deblur": "deblurring/options/train/refusion.yml",
    "deblur_irsde": "deblurring/options/train/ir-sde.yml",
    "deshadow": "deshadow/options/train/refusion.yml",
    "deshadow_irsde": "deshadow/options/train/ir-sde.yml",
    "inpaint": "inpainting/options/train/refusion.yml",
    "inpaint_irsde": "inpainting/options/train/ir-sde.yml",
    "sr": "sisr/options/train/refusion.yml",
    "sr_irsde": "sisr/options/train/ir-sde.yml",
    "denoise": "denoising-sde/options/train/refusion.yml",
    "denoise_irsde": "denoising-sde/options/train/ir-sde.yml",
    "stereo_sr": "stereo-sr/options/ssr/train/refusion.yml",
    "bokeh": "latent-bokeh/options/bokeh/train/refusion.yml",
    "dehaze": "latent-dehazing/options/dehazing/train/nasde.yml",
    "dehaze_unet": "unet-latent/options/train/train_haze.yml",
    "bokeh_unet": "unet-latent/options/train/train_bokeh.yml",
}
SECTIONS = ("network", "sde", "latent_unet", "objective", "prediction", "upscale", "train")
DATA = ("data.batch_size", "data.workers", "data.train.patch", "data.train.swap")
# Different on purpose; each says so where it stands in the file.
OWN = {"latent_unet.checkpoint", "train.precision"}


def flat(plain: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(plain, dict):
        for name, value in plain.items():
            yield from flat(value, f"{key}.{name}" if key else name)
    else:
        yield key, plain


def translated(name: str) -> dict[str, Any]:
    """The authors' file in our words, its open paths filled in."""
    raw = copy.deepcopy(OPTIONS[name])
    for section in raw["datasets"].values():
        for key in [key for key in section if key.startswith("dataroot")]:
            section[key] = "somewhere/meta.txt" if "meta" in key else "somewhere"
    if name.startswith("inpainting"):
        raw["degradation"]["mask_root"] = "masks"
    if "network_L" in raw:
        raw["path"]["pretrain_model_L"] = "latent.pth"
    return dict(flat(official_run(raw, name)))


@pytest.mark.parametrize("stem", THEIRS)
def test_values_are_the_authors(stem: str):
    ours = dict(flat(yaml.safe_load((ROOT / "options" / f"{stem}.yml").read_text())))
    theirs = translated(THEIRS[stem])
    keys = {key for key in {*ours, *theirs} if key.split(".")[0] in SECTIONS or key in DATA}
    both = {key for key in keys - OWN if key in ours and key in theirs}
    assert len(both) >= 14
    different = {key: (ours[key], theirs[key]) for key in both if ours[key] != theirs[key]}
    assert not different
    assert {
        f"train.{key}" for key in ("steps", "ema_decay", "optimizer.lr", "validate_every")
    } <= both
