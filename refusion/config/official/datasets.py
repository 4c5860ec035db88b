"""Translation of the datasets of an official option file to sections of this package."""

from __future__ import annotations

from pathlib import PurePath
from typing import Any

from refusion.config.official.model import PUBLISHED_SCALE
from refusion.config.official.section import Section
from refusion.config.scalars import short

_PAIRED = {"LQGT": "PairedFolder", "SteLQGT": "StereoFolder", "BokehLQGT": "BokehFolder"}
_ALONE = {"LQ": "PairedFolder", "SteLQ": "StereoFolder", "BokehLQ": "BokehFolder"}
_FULL_SIDE = 1 << 16  # larger than any photo: whole photos keep their size


def training_set(file: Section, name: str, task: str) -> dict[str, Any]:
    """Translate a training dataset, which gives random crops.

    Args:
        file: the whole file.
        name: key in the section `datasets`.
        task: name of the task in this package.

    Returns:
        The section `data.train`.

    Raises:
        ConfigError: a key is missing, or a mode or file format is not supported.
    """
    section = file.section("datasets").section(name)
    photos = _photos(file, section, task)
    if section.get("color", "RGB") != "RGB":
        section.warn("color", "ignored; photos are read as RGB")
    # The official code cuts crops from the photo without resizing.
    pixels = {"scale_range": None} if photos["type"] == "SyntheticPairs" else {}
    augmentation = _augmentation(section, photos["type"])
    return photos | {"patch": section.whole("GT_size")} | augmentation | pixels


def evaluation_set(file: Section, name: str, task: str) -> dict[str, Any]:
    """Translate an evaluation dataset, which gives whole photos and has a `name`.

    If the file names no ground truth, `gt` is None.

    Arguments and errors are those of `training_set`.
    """
    section = file.section("datasets").section(name)
    is_synthetic = section.word("mode") == "GT"
    whole = {"whole": True, "max_side": _FULL_SIDE} if is_synthetic else {}
    title = str(section.get("name", name)).replace(" ", "_")
    return {"name": title} | _photos(file, section, task) | whole


def _augmentation(section: Section, kind: str) -> dict[str, Any]:
    """Settings of flips and rotations; with `use_swap`, half of the crops are swapped."""
    settings: dict[str, Any] = {"flip": bool(section.get("use_flip", False))}
    if kind != "StereoFolder":
        settings["rotate"] = bool(section.get("use_rot", False))
    elif section.get("use_rot"):
        section.warn("use_rot", "ignored; a stereo pair cannot be rotated by 90 degrees")
    return settings | ({"swap": 0.5} if section.get("use_swap") else {})


def _photos(file: Section, section: Section, task: str) -> dict[str, Any]:
    """Type of the dataset, its folders, and the scale or degradation."""
    mode = section.word("mode")
    if mode == "GT":
        degradation = _degradation(file, task)
        folders = [_folder(section, "dataroot_GT")]
        return {"type": "SyntheticPairs", "folders": folders, "degradation": degradation}
    if mode not in _PAIRED | _ALONE:
        section.fail(
            "mode", f"unknown mode {short(mode)}; expected GT, {', '.join(_PAIRED | _ALONE)}"
        )
    if mode.startswith("Bokeh"):
        return {"type": "BokehFolder", "folder": _bokeh_folder(section)}
    gt = None if mode in _ALONE else _folder(section, "dataroot_GT")
    folders = {"lq": _folder(section, "dataroot_LQ"), "gt": gt}
    scale = {}
    if task in ("sr", "stereo_sr"):
        scale = {"scale": file.section("degradation").whole("scale", PUBLISHED_SCALE)}
    return {"type": (_PAIRED | _ALONE)[mode], **folders, **scale}


def _degradation(file: Section, task: str) -> dict[str, Any]:
    """Degradation that is applied to the clean photos."""
    section = file.section("degradation")
    if task == "inpaint":
        return {"type": "Mask", "folder": section.need("mask_root")}
    if section.get("noise_type", "G") != "G":
        section.fail("noise_type", f"expected G (Gaussian), got {short(section.get('noise_type'))}")
    sigma = section.number("sigma")
    return {"type": "GaussianNoise", "sigma": [sigma, sigma]}


def _folder(section: Section, name: str) -> str:
    folder = section.word(name)
    if folder.rstrip("/").endswith("lmdb"):
        section.fail(name, f"'{folder}' is an LMDB; set the folder of photos that it was made from")
    return folder


def _bokeh_folder(section: Section) -> str:
    """Folder of meta.txt, whose sub-folders contain the photos."""
    meta = PurePath(section.word("dataroot_meta"))
    if meta.name != "meta.txt":
        section.fail("dataroot_meta", f"the file must be called meta.txt, got '{meta.name}'")
    return str(meta.parent)
