"""Toy versions of the experiment files: the same parts, a thousandth of the size."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from refusion.config import RunConfig, config_from_dict, config_to_dict, load_config

OPTIONS = Path(__file__).parent.parent / "options"
FILES = sorted(OPTIONS.glob("*.yml"))
ON_SD = [path for path in FILES if load_config(path).stage in ("diffbir", "osediff")]
"""Those that train a part of a Stable Diffusion, which no file alone restores with."""
SIDE = 64  # pixels of the photos
PATCH = 32


def toy(path: Path, folder: Path) -> RunConfig:
    """The experiment with narrow networks, tiny photos below `folder`, and a single step."""
    raw = config_to_dict(load_config(path))
    if raw["network"]:
        raw["network"] |= _narrow(raw["network"])
    latent = raw["latent_unet"]
    if latent and "type" in latent:
        raw["latent_unet"] |= {"ch": 4, "ch_mult": [1] * len(latent["ch_mult"])}
    elif latent:
        raw["latent_unet"] = {"checkpoint": str(folder / latent["checkpoint"])}
    if raw["init"]:
        raw["init"] = str(folder / raw["init"])
    if raw["distillation"]:
        raw["distillation"]["teacher"] = str(folder / raw["distillation"]["teacher"])
        raw["sampling"]["distilled_at"] = 9
    if raw["sde"]:
        raw["sde"]["T"] = min(raw["sde"]["T"], 20)
        raw["sampling"]["steps"] = min(raw["sampling"]["steps"], raw["sde"]["T"])
    raw["data"] |= {"batch_size": 2, "workers": 0}
    raw["data"]["cached_latents"] = min(raw["data"]["cached_latents"], 2)
    raw["data"]["train"] = _toy_data(raw["data"]["train"], folder)
    raw["data"]["validation"] = [_toy_data(part, folder) for part in raw["data"]["validation"][:1]]
    raw["train"] |= {"steps": 1, "log_every": 1, "validate_every": 1, "checkpoint_every": 1}
    raw["train"]["accumulate"] = 1
    raw["train"]["lr_schedule"]["warmup_steps"] = 0
    return config_from_dict(raw, str(path))


def write_photos(folder: Path) -> None:
    """Photos for every kind of dataset there is, one folder each."""
    names = {
        "clean": ["a", "b"],
        "lq": ["a", "b"],
        "gt": ["a", "b"],
        "stereo": ["a_L", "a_R", "b_L", "b_R"],
    }
    for part, stems in names.items():
        for stem in stems:
            _photo(folder / part / f"{stem}.png")
    for number in range(2):
        for role in ("src", "tgt"):
            _photo(folder / "bokeh" / f"{number:05}.{role}.jpg")
    lines = [f"{n:05}, Sony50mmf16.0BS, Canon50mmf1.4BS, {30 + n}\n" for n in range(2)]
    (folder / "bokeh" / "meta.txt").write_text("".join(lines))


def _narrow(network: dict) -> dict:
    if network["type"] == "SwinIR":
        small = {"embed_dim": 12, "depths": [2], "num_heads": [2], "window_size": 2}
        return small | {"unshuffle": 4, "num_feat": 4, "img_size": 4}
    if network["type"] == "ConditionalUNet":
        return {"nf": 4, "depth": 2}
    if network["type"] == "UnconditionalUNet":
        small = {"image_size": PATCH, "model_channels": 8, "channel_mult": [1, 1]}
        return small | {"groups": 4, "head_channels": 4, "attention_resolutions": [2]}
    ones = [1] * len(network["enc_blk_nums"][:2])
    return {"width": 4, "enc_blk_nums": ones, "middle_blk_num": 1, "dec_blk_nums": ones}


def _toy_data(section: dict, folder: Path) -> dict:
    """The dataset on the toy photos, its splits and sizes dropped."""
    places = {
        "SyntheticPairs": {"folders": [str(folder / "clean")]},
        "PairedFolder": {"lq": str(folder / "lq"), "gt": str(folder / "gt")},
        "StereoFolder": {"gt": str(folder / "stereo")},
        "BokehFolder": {"folder": str(folder / "bokeh")},
    }
    kept = {key: value for key, value in section.items() if key not in ("split", "held_out")}
    kept |= places[section["type"]] | {"cache": str(folder / "cache")}
    if kept.get("patch"):
        kept["patch"] = PATCH
    return kept


def _photo(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    seed = zlib.crc32(f"{path.parent.name}/{path.name}".encode())
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 5, 3), dtype=np.uint8)
    photo = Image.fromarray(coarse).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    photo.save(path, quality=95)
