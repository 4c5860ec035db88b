"""Functions that all restorers share: checks of options, flat photos, the dtype of the result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Literal

import torch
from torch import Tensor

from refusion.arguments import is_between
from refusion.config.scalars import short
from refusion.errors import ConfigError
from refusion.haze_options import ALL_HAZE
from refusion.images.samples import is_integer, store, to_float
from refusion.restorers.base import STRENGTHS, Conditions, RestorerInfo

# Differences between the darkest and the brightest sample of a photo, in [0, 1] units. Up to FLAT a
# photo shows one colour and the rounding or noise of a file; from STRUCTURED it is restored fully.
FLAT, STRUCTURED = 8 / 255, 24 / 255
_ROWS = 256  # rows that are converted to floats at a time


def check_options(
    batch: int,
    seed: int | Sequence[int],
    tile: int | Literal["auto"] | None,
    strength: float,
    strengths: tuple[float, float] = STRENGTHS,
) -> None:
    """Check the options of `Restorer.restore` whose valid values are the same for all restorers.

    Args:
        batch: number of photos.
        seed: see `Restorer.restore`.
        tile: see `Restorer.restore`.
        strength: see `Restorer.restore`.
        strengths: smallest and largest strength, see `RestorerInfo.strengths`.

    Raises:
        ConfigError: an option is out of range, or the number of seeds is not the number of photos.
    """
    if not isinstance(seed, int) and len(seed) != batch:
        raise ConfigError(f"seed: expected one or {batch}, one per photo, got {len(seed)}")
    is_side = isinstance(tile, int) and not isinstance(tile, bool) and tile >= 1
    if tile not in ("auto", None) and not is_side:
        raise ConfigError(f"tile: expected 'auto' or pixels from 1, got {tile!r}")
    check_strength(strength, strengths)


def check_strength(strength: float, strengths: tuple[float, float], name: str = "strength") -> None:
    """Raise `ConfigError` if a strength is out of range.

    Args:
        strength: see `Restorer.restore`.
        strengths: smallest and largest strength, see `RestorerInfo.strengths`.
        name: what the error names, such as the option.
    """
    low, high = strengths
    if is_between(strength, low, high):
        return
    reason = ""
    if strengths == STRENGTHS:
        reason = "; only a model that predicts haze (prediction 'scattering') takes more"
    raise ConfigError(f"{name}: expected {low:g}..{high:g}, got {short(strength)}{reason}")


def check_conditions(conditions: object) -> None:
    """Raise `ConfigError` if the argument `conditions` of a restorer is something else."""
    if not isinstance(conditions, Conditions):
        raise ConfigError(
            f"conditions: expected refusion.restorers.Conditions, got {short(conditions)}"
        )


def check_use(conditions: Conditions, info: RestorerInfo) -> None:
    """Check that a model uses all conditions that are given for a photo.

    Raises:
        ConfigError: a field is given that the model does not use.
    """
    used = info.needs | info.optional | {"haze" if info.predicts_haze else ""}
    if "noise_std" in info.optional:
        used |= {"estimated_noise"}
    for field in fields(Conditions):
        value = getattr(conditions, field.name)
        # Tensors have no truth value; a default is None or `ALL_HAZE`.
        is_given = value is not None and (field.name != "haze" or value != ALL_HAZE)
        if is_given and field.name not in used:
            raise ConfigError(
                f"{field.name}: the '{info.task}' model does not use it; leave it out of Conditions"
            )


def noise_levels(noise_std: float | Tensor, batch: int = 1) -> list[float]:
    """The noise level of every photo of a batch.

    Args:
        noise_std: see `Conditions.noise_std`; not None.
        batch: number of photos; 1 for a restorer that takes one level for all.

    Raises:
        ConfigError: `noise_std` is neither a number nor one number per photo.
    """
    found = torch.as_tensor(noise_std, dtype=torch.float64)
    if found.numel() != 1 and found.shape != (batch,):
        several = "" if batch == 1 else f" or {batch}, one per photo"
        got = f"numbers of shape {tuple(found.shape)}"
        raise ConfigError(f"noise level: expected one number{several}, got {got}")
    return found.flatten().expand(batch).tolist()


def match_dtype(result: Tensor, lq: Tensor) -> Tensor:
    """Convert restored photos to the dtype of the degraded photos.

    Args:
        result: restored photos, float, not clamped, or integers with the dtype of `lq`. Floats are
            clamped in place, so `result` must not be `lq` itself.
        lq: degraded photos, float or integers.

    Returns:
        float32 clamped to [0, 1], or integers over the full range of the dtype of `lq`.
    """
    if not is_integer(lq):
        return result.clamp_(0, 1)
    if result.dtype == lq.dtype:
        return result
    samples = torch.empty(result.shape, dtype=lq.dtype, device=result.device)
    store(result, samples)
    return samples


def structure(photos: Tensor) -> Tensor:
    """How much of a restoration a photo can carry: 0 for a photo of one colour, 1 for all others.

    A photo of one colour does not show how it was degraded: thick haze looks the same as a gray
    wall. A network answers such a photo with a guess, which is often black. So the restoration of
    a flat photo is the photo.

    Args:
        photos: (B, C, H, W), float in [0, 1], or uint8 or uint16 over their full range.

    Returns:
        (B,) float32 on the CPU: the largest difference within a channel, from `FLAT` (0) to
        `STRUCTURED` (1), linear between them.
    """
    low = torch.full(photos.shape[:2], torch.inf)
    high = -low
    for band in photos.split(_ROWS, dim=-2):
        values = to_float(band).flatten(2).cpu()
        low, high = torch.minimum(low, values.amin(2)), torch.maximum(high, values.amax(2))
        weight = (((high - low).amax(dim=1) - FLAT) / (STRUCTURED - FLAT)).clamp(0, 1)
        if bool((weight == 1).all()):  # the rest of the photos cannot change this
            break
    return weight


def keep_flat_photos(result: Tensor, photos: Tensor) -> Tensor:
    """Weight restored photos by the structure of the degraded photos, in place.

    Args:
        result: restored photos (B, C, H, W), float or integers.
        photos: degraded photos at the size of the result, float in [0, 1] or integers.

    Returns:
        `result`; photos with structure 1 do not change, a photo of one colour equals `photos`.
    """
    for index, weight in enumerate(structure(photos).tolist()):
        if weight == 1:
            continue
        bands = zip(photos[index].split(_ROWS, -2), result[index].split(_ROWS, -2), strict=True)
        for photo, restored in bands:
            values = to_float(restored)
            store(torch.lerp(to_float(photo).to(values), values, weight), restored)
    return result
